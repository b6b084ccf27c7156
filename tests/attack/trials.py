"""One attack each on one command; every trial returns what was wrong, in words."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from subbyte.records.certificate import SUFFIX as CERTIFICATE
from tests.attack.children import Ended
from tests.attack.commands import COMMANDS, Command
from tests.attack.lab import Lab, Tree, differences

KILLED = -9


def plain(ended: Ended) -> list[str]:
    """Whether a command that did not do its work said so in one clear line."""
    if "Traceback" in ended.err or ended.code not in (0, 1, 2, 130, 143):
        return [f"it ended with code {ended.code}: {ended.err[-600:]}"]
    if ended.code == 1 and not any(line.startswith("error: ") for line in ended.err.splitlines()):
        return [f"it does not say what was wrong: {ended.err[-300:]}"]
    return []


def again(lab: Lab, name: str, wanted: Tree) -> list[str]:
    """Run a command once more: it ends with its result and nothing else, or finds it there."""
    ended = lab.run(lab.job(COMMANDS[name]))
    there = ended.code == 1 and "exists" in ended.err
    wrong = [] if ended.code == 0 or there else [f"again: code {ended.code}: {ended.err[-400:]}"]
    return [*wrong, *differences(lab.tree(), wanted)]


def kill(lab: Lab, name: str, at: int) -> list[str]:
    """kill -9 at an operation; then the same command once more."""
    wanted, _ = lab.expected(name)
    command = lab.fresh(name)
    before = lab.tree()
    ended = lab.run(lab.job(command, act="kill", at=at))
    if ended.code != KILLED:
        if lab.bug and ended.code == 0:  # with its bug it has fewer operations
            return []
        return [f"it was not killed, and ended with code {ended.code}: {ended.err[-400:]}"]
    lost = [] if _survives(lab, command, before, wanted) else ["the earlier result is lost"]
    return [*lost, *again(lab, name, wanted)]


def _survives(lab: Lab, command: Command, before: Tree, wanted: Tree) -> bool:
    """Whether a result that was there is there, replaced, or to be put in its place; whole, where
    it does not grow.
    """
    out, found = command.out, lab.tree()
    if out not in before or any(lab.home.glob(f".*.partial/ready/{out}")):
        return True
    if "--force" not in command.argv:
        return out in found
    own = [
        {path: tree[path] for path in tree if Path(path).parts[0] == out}
        for tree in (found, before, wanted)
    ]
    return own[0] in own[1:]


def terminate(lab: Lab, name: str, at: int) -> list[str]:
    """SIGTERM at an operation: it says so, ends with code 143, leaves nothing; then once more."""
    wanted, _ = lab.expected(name)
    command = lab.fresh(name)
    ended = lab.run(lab.job(command, act="term", at=at))
    wrong = plain(ended)
    if ended.code != 143 and not (ended.code == 0 and name == "tune"):  # it takes the best so far
        wrong.append(f"code {ended.code} after SIGTERM")
    if ended.code == 143 and "interrupted: " not in ended.err:
        wrong.append("it does not say that it was interrupted")
    if ended.code == 0:
        return wrong
    return [*wrong, *again(lab, name, wanted)]


def write_twice(lab: Lab, name: str, at: int) -> list[str]:
    """A second writer while the first stands still at an operation: one result, of one of them,
    whole; the other is told.
    """
    ends = [lab.expected(name, other)[0] for other in (False, True)]
    command = lab.fresh(name)
    first = lab.start(lab.job(command, act="stop", at=at))
    stopped = first.wait()
    line = (*command.argv, *command.other, f"--out={command.out}")
    second = lab.run(lab.job(command, line, "second"))
    ended = first.go() if stopped.stopped else stopped
    return _one_result(lab, [ended, second], ends, command.goes_on)


def write_at_once(lab: Lab, name: str, _: int) -> list[str]:
    """Two writers that start at the same moment."""
    ends = [lab.expected(name, other)[0] for other in (False, True)]
    command = lab.fresh(name)
    line = (*command.argv, *command.other, f"--out={command.out}")
    first, second = lab.start(lab.job(command)), lab.start(lab.job(command, line, "second"))
    return _one_result(lab, [first.wait(), second.wait()], ends, command.goes_on)


def _one_result(lab: Lab, ended: list[Ended], ends: list[Tree], goes_on: bool) -> list[str]:
    wrong = [line for one in ended for line in plain(one)]
    well = [one.code for one in ended].count(0)
    if well != 1 and not (goes_on and well == 2):
        wrong.append(f"{well} of two writers ended well: {[one.err[-300:] for one in ended]}")
    found = lab.tree()
    if all(differences(found, wanted) for wanted in ends):
        wrong += min((differences(found, wanted) for wanted in ends), key=len)
    return wrong


def few_files(lab: Lab, name: str, count: int) -> list[str]:
    """So many file descriptors: the work is done, or nothing is."""
    wanted, _ = lab.expected(name)
    command = lab.fresh(name)
    ended = lab.run(replace(lab.job(command), files=count))
    if ended.code == 0:
        return [*_in_temporary(lab), *differences(lab.tree(), wanted)]
    return [*_in_temporary(lab), *plain(ended), *again(lab, name, wanted)]


def _in_temporary(lab: Lab) -> list[str]:
    """What is left there, but for the file by which ONNX Runtime knows a machine."""
    left = [path.name for path in lab.temporary.iterdir() if path.name != ".ses"]
    return [f"{path} is left in TMPDIR" for path in left]


def small_files(lab: Lab, name: str, count: int) -> list[str]:
    """No file may be larger than so many bytes: as on a full disk."""
    wanted, _ = lab.expected(name)
    command = lab.fresh(name)
    before = lab.tree()
    ended = lab.run(replace(lab.job(command), largest=count))
    return _full(lab, name, ended, before, wanted)


def _full(lab: Lab, name: str, ended: Ended, before: Tree, wanted: Tree) -> list[str]:
    if ended.code == 0:  # a full disk costs a sweep its cache, and no result
        found = lab.tree()
        lost = {path for path in wanted.keys() - found.keys() if "/cache/" in path}
        return differences(found, {path: wanted[path] for path in wanted.keys() - lost})
    left = [path for path in lab.tree().keys() - before.keys() if ".partial" in path]
    return [*plain(ended), *(f"{path} is left" for path in left), *again(lab, name, wanted)]


def full_disk(lab: Lab, name: str, kib: int) -> list[str]:
    """A disk with so many KiB of room; then with enough."""
    wanted, _ = lab.expected(name)
    with mounted(lab.home):
        command = lab.fresh(name)
        before, used = lab.tree(), shutil.disk_usage(lab.home).used
        _remount(lab.home, f"size={used + 1024 * kib}")
        ended = lab.run(lab.job(command))
        _remount(lab.home, "size=1G")
        return _full(lab, name, ended, before, wanted)


def full_temporary(lab: Lab, name: str, kib: int) -> list[str]:
    """A temporary folder of so many KiB, and nothing kept in memory: the work is done, or nothing
    is.
    """
    wanted, _ = lab.expected(name)
    with mounted(lab.temporary, f"size={kib}k"):
        command = lab.fresh(name)
        before = lab.tree()
        line = (*command.line, "--memory=0") if command.argv[0] == "quantize" else command.line
        ended = lab.run(lab.job(command, line))
        left = _in_temporary(lab)
        _remount(lab.temporary, "size=1G")
        if ended.code == 1 and "TMPDIR" not in ended.err:
            left.append(f"it does not name TMPDIR: {ended.err[-300:]}")
        return [*left, *_full(lab, name, ended, before, wanted)]


def read_only(lab: Lab, name: str, _: int) -> list[str]:
    """A place that can't be written to."""
    with mounted(lab.home):
        command = lab.fresh(name)
        before = lab.tree()
        _remount(lab.home, "ro")
        ended = lab.run(lab.job(command))
        _remount(lab.home, "rw")
        wrong = [] if ended.code == 1 else [f"code {ended.code} in a read-only place"]
        return [*wrong, *plain(ended), *differences(lab.tree(), before)]


NAMES = ("a b", "r[/b]", "[red]", "ä ☃", "new\nline", "-dash", "%s {x} $HOME", "x" * 240, "\udcff")
"""Of folders and files; the last is no text."""


OPENED_BY_NAME = ("train --recipe", "demo")
"""Commands into whose folders libraries write."""


def odd_path(lab: Lab, name: str, which: int) -> list[str]:
    """A result of an odd name, in place of an earlier one: the same as of a plain one."""
    wanted, _ = lab.expected(name)
    command = lab.fresh(name)
    usual, end = lab.home / command.out, Path(command.out).suffix
    odd = usual.parent / f"{NAMES[which]}{end}"
    if usual.exists():
        odd.parent.mkdir(exist_ok=True)
        os.rename(usual, odd)  # noqa: PTH104  # what is no text, too
    before = lab.tree()
    ended = lab.run(lab.job(command, (*command.argv, f"--out={odd.relative_to(lab.home)}")))
    refused = ("no text", "name too long") if end else ("no text",)
    if ended.code == 1 and (end or name in OPENED_BY_NAME) and any(w in ended.err for w in refused):
        return [*plain(ended), *differences(lab.tree(), before)]
    if ended.code:
        return [*plain(ended), f"code {ended.code}: {ended.err[-300:]}"]
    os.rename(odd, usual)  # noqa: PTH104
    if (above := usual.parent / Path(NAMES[which]).parts[0]).is_dir():
        shutil.rmtree(above)
    return differences(*(_without_names(tree, end) for tree in (lab.tree(), wanted)))


def _without_names(tree: Tree, end: str) -> Tree:
    """A tree without what states the names of files that were written."""
    stating = (CERTIFICATE, "result.json", "card.md") if end else ()
    return {path: one for path, one in tree.items() if not path.endswith(stating)}


LOCALES = (
    {"LC_ALL": "C", "PYTHONUTF8": "0"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"},
)


def odd_locale(lab: Lab, name: str, which: int) -> list[str]:
    """A locale that has no letters but those of ASCII, or a terminal that has few."""
    wanted, _ = lab.expected(name)
    command = lab.fresh(name)
    with lab.elsewhere(**LOCALES[which]) as there:
        ended = there.run(there.job(command))
    if ended.code:
        return [*plain(ended), f"code {ended.code}: {ended.err[-300:]}"]
    return differences(lab.tree(), wanted)


def can_mount() -> bool:
    """Whether this user may mount a file system."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def mounted(folder: Path, options: str = "size=1G") -> Iterator[None]:
    """An empty file system in memory at a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
