"""Settings kept beside results, so that a run goes on only with those that it began with."""

import json
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path

from torch import nn

from subbyte.errors import FormatError, RecipeError
from subbyte.io.digests import tensor_bytes
from subbyte.io.files import readable, write_json
from subbyte.io.folders import is_free
from subbyte.io.texts import Plain, parse_mapping, read_text

SETTINGS = "settings.json"


def fingerprint(model: nn.Module) -> str:
    """sha256 in hexadecimal over the names and values of a network's tensors."""
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def same_settings(
    out: Path,
    settings: Mapping[str, object],
    what: str,
    *,
    results: Collection[str],
    grows: Mapping[str, bool] | None = None,
    differs: Collection[str] = (),
) -> Plain:
    """Keep the settings beside the results in `out`, or see that they are the same; what: `out` is
    to hold. Returns them, with all that has grown.

    settings: in the order in which they are looked at; hashes come last, as what a user changed
    changes them, too. results: files of which `out` has one as soon as its settings matter. grows:
    lists, which what is asked for joins, and numbers, by whether they may be larger now than
    before; differs: what may be another than before. NAME_before says what those were.
    Raises RecipeError for the first that is not the same.
    """
    asked = parse_mapping(readable(json.dumps(settings, ensure_ascii=False)))
    path = out / SETTINGS
    matters = any((out / name).exists() for name in results)
    before = kept_settings(out) if path.exists() else {}
    ours = path.exists() and (matters or before.keys() == asked.keys())
    if not ours and not is_free(out):
        raise RecipeError(f"--out {out} exists and holds no {what}; choose another folder")
    if not matters:
        write_json(path, asked)
        return asked
    now, then = asked, before
    for name, may in (grows or {}).items():
        now, then = _grown(name, now, then, may)
    for name in differs:
        now, then = _changed(name, now, then)
    for name in [*now, *(name for name in then if name not in now)]:
        if now.get(name) != then.get(name):
            raise RecipeError(
                f"--out {out} was made with {name} = {then.get(name)}, now it is "
                f"{now.get(name)}; "
                "choose another folder, or the settings in its settings.json"
            )
    if now != before:
        write_json(path, now)
    return now


def kept_settings(out: Path) -> Plain:
    """The settings that are kept in a folder. Raises RecipeError when they are damaged."""
    path = out / SETTINGS
    try:
        return parse_mapping(read_text(path), "its text")
    except FormatError as error:
        raise RecipeError(f"{path} is damaged ({error}); choose another --out") from error


def _grown(name: str, now: Plain, before: Plain, may: bool) -> tuple[Plain, Plain]:
    """Both settings, alike where this one may be what it is now."""
    asked, earlier, history = now[name], before.get(name), f"{name}_before"
    if isinstance(asked, list) and isinstance(earlier, list):
        joined = [*earlier, *(one for one in asked if one not in earlier)]
        return now | {name: joined}, before | {name: joined}
    larger = may and isinstance(earlier, int) and asked > earlier
    told = [*before.get(history, []), *([earlier] if larger else [])]
    if not told:
        return now, before
    both = {history: told} | ({name: asked} if larger else {})
    return now | both, before | both


def _changed(name: str, now: Plain, before: Plain) -> tuple[Plain, Plain]:
    """Both settings, alike where this one is another now, or was not kept."""
    history = f"{name}_before"
    told = before.get(history, [])
    if before.get(name, now[name]) != now[name]:
        told = [*told, before[name]]
    both = {name: now[name]} | ({history: told} if told else {})
    return now | both, before | both
