"""Settings kept beside results, so that a run goes on only with those that it began with."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from torch import nn

from subbyte.errors import FormatError, RecipeError
from subbyte.io.files import write_json
from subbyte.io.texts import parse_mapping, read_text


def fingerprint(model: nn.Module) -> str:
    """sha256 in hexadecimal over the names and values of a network's tensors."""
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def same_settings(out: Path, settings: Mapping[str, object], what: str) -> None:
    """Keep the settings beside the results in `out`, or see that they are the same; what: `out` is
    to hold.

    settings: in the order in which they are looked at; hashes come last, as what a user changed
    changes them, too. Raises RecipeError for the first that is not the same.
    """
    settings, path = parse_mapping(json.dumps(settings)), out / "settings.json"
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RecipeError(f"--out {out} exists and holds no {what}; choose another folder")
        write_json(path, settings)
        return
    try:
        before = parse_mapping(read_text(path), "its text")
    except FormatError as error:
        raise RecipeError(f"{path} is damaged ({error}); choose another --out") from error
    for name in [*settings, *(name for name in before if name not in settings)]:
        if settings.get(name) != before.get(name):
            raise RecipeError(
                f"--out {out} was made with {name} = {before.get(name)}, now it is "
                f"{settings.get(name)}; "
                "choose another folder, or the settings in its settings.json"
            )
