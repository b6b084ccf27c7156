"""subbyte beside other tools on the same work, cell by cell.

    python -m benchmarks.peers [--only brevitas] [--width W4] [--ends all|8bit]
        [--models resnet20,awkward] [--out benchmarks/results/peers.csv]
        [--table docs/comparison.md] [--table-only]

Run from the root of the repository, where $SUBBYTE_DATA holds the data. Tools are the files of
tools/; each gets a virtual environment of its own, made by pip from the versions in tools/NAME.txt,
and deleted when its cells are done. A cell runs in a process of its own on one thread, with at most
15 minutes of CPU time; what has a row is skipped, so the command can be stopped and started again.
A cell that can't be filled has a row with the reason.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._store import Progress, Store
from benchmarks.peers.cells import (
    COLUMNS,
    ENDS,
    ENDS8,
    KEY,
    SUBJECTS,
    TOOLS,
    Row,
    cells_of,
    peers,
    requirements,
    user_lines,
)
from benchmarks.peers.contract import WIDTHS
from benchmarks.peers.table import page
from subbyte.speed.machine import processor

ROOT = Path(__file__).parents[2]
LIMIT = 900
"""Seconds of CPU time of a cell."""


class InstallError(Exception):
    """A peer's packages can't be installed together; the message is pip's last line."""


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", choices=["", *peers()])
    parser.add_argument("--width", default="", choices=["", *WIDTHS])
    parser.add_argument("--ends", default="", choices=["", *ENDS])
    parser.add_argument("--models", default="", help="by commas; `awkward`: the ten small ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/peers.csv")
    parser.add_argument("--venvs", type=Path, default=ROOT / "build/peers")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    models = given.models.split(",") if given.models else []
    store = Store(given.out, COLUMNS, KEY)
    for peer in [given.only] if given.only else peers():
        cells = cells_of(peer, models, given.width, given.ends, given.seed)
        missing = [cell for cell in cells if store.find(cell) is None]
        if missing and not given.table_only:
            fill(peer, missing, store, given.venvs / peer)
    if given.table:
        given.table.write_text(page(store.rows))


def fill(peer: str, cells: list[Row], store: Store, venv: Path) -> None:
    """Measure the cells of one peer, and keep each."""
    progress = Progress([str(cell["model"]) for cell in cells])
    source = (TOOLS / f"{peer}.py").read_text()
    about: Row = {"version": version_of(peer), "machine": processor()}
    try:
        with environment(peer, {str(cell["model"]) for cell in cells}, venv) as python:
            for cell in cells:
                row = dict.fromkeys(COLUMNS, "") | about | cell | measured(python, cell)
                row["user_lines"] = user_lines(source, ends8=cell["ends"] == ENDS8)
                row["date"] = datetime.date.today().isoformat()
                store.add(row)
                told = row["reason"] or f"{row['metric']} {row['score']}"
                progress.done(f"{peer} {cell['model']} {cell['width']} {cell['ends']}: {told}")
    except InstallError as reason:
        print(f"{peer} does not install: {reason}", file=sys.stderr)


@contextmanager
def environment(peer: str, models: set[str], venv: Path) -> Iterator[Path]:
    """A virtual environment with a peer, subbyte and networks, deleted behind; its Python."""
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    own = [one for one in SUBJECTS if one.name in models]
    packages = [name for one in own for name in one.packages]
    bare = [name for one in own for name in one.bare]
    wanted: list[str | Path] = ["--requirement", requirements(peer), "--editable", ROOT]
    try:
        install(python, *wanted, *packages)
        if bare:
            install(python, "--no-deps", *bare)
        yield python
    finally:
        shutil.rmtree(venv, ignore_errors=True)


def install(python: Path, *wanted: str | Path) -> None:
    """Install packages with pip. Raises InstallError."""
    command = [python, "-m", "pip", "install", *wanted]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise InstallError((done.stderr.strip().splitlines() or ["no message"])[-1])


def measured(python: Path, cell: Row) -> Row:
    """Run a cell in a process of its own: what it found, or the reason why there is nothing."""
    names = ("peer", "model", "width", "ends", "images", "seed")
    command = [python, "-m", "benchmarks.peers.cell", *(str(cell[name]) for name in names)]
    done = subprocess.run(
        [*command, "--limit", str(LIMIT)],
        cwd=ROOT,
        env=os.environ | {"TORCH_EXTENSIONS_DIR": str(python.parents[1] / "extensions")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode == 0:
        found: Row = json.loads(done.stdout.splitlines()[-1])
        return found
    if done.returncode < 0:
        return {"reason": f"stopped by signal {-done.returncode} (limit {LIMIT} s of CPU time)"}
    return {"reason": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}


def version_of(peer: str) -> str:
    """The first version in a peer's requirements, which is the peer's own."""
    found = re.search(r"^\S+==(\S+)$", requirements(peer).read_text(), flags=re.M)
    assert found is not None, f"{requirements(peer)} names no version"
    return found.group(1)


if __name__ == "__main__":
    main()
