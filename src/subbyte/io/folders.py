"""Folders of results, written whole or not at all."""

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from subbyte.errors import SubbyteError


@contextmanager
def folder(out: Path, *, force: bool) -> Any:
    """A temporary folder beside `out` that takes its place when the block ends well, and vanishes
    when it does not.

    Raises SubbyteError when `out` exists without `force`, or holds anything but a result of
    subbyte's.
    """
    if out.exists():
        if not force:
            raise SubbyteError(
                f"--out {out} exists; choose another folder, or --force to replace it"
            )
        foreign = [path for path in out.rglob("*") if path.is_file() and path.name not in OUTPUTS]
        if not out.is_dir() or foreign:
            what = f"holds {foreign[0].name}" if foreign else "is a file"
            raise SubbyteError(
                f"--out {out} {what}, not written by subbyte; it is not replaced, even with --force"
            )
    fresh, previous = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.previous")
    shutil.rmtree(fresh, ignore_errors=True)  # leftovers of a killed run
    if out.exists():
        shutil.rmtree(previous, ignore_errors=True)
    made = [parent for parent in fresh.parents if not parent.exists()]
    try:
        fresh.mkdir(parents=True)
    except OSError as error:
        raise SubbyteError(f"--out {out} can't be made: {error.strerror}") from error
    try:
        yield fresh
        if out.exists():
            out.rename(previous)
        try:
            fresh.rename(out)
        except BaseException:  # Ctrl-C too: the earlier result comes back
            if previous.exists():
                previous.rename(out)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()


OUTPUTS = (
    "model.safetensors",
    "model.onnx",
    "plan.yaml",
    "result.json",
    "figures.json",
    "sensitivity.csv",
    "report.html",
    "results.json",
    "lenet-digits.safetensors",
    "alphas.csv",
    "mse.csv",
    "aciq.html",
    "laplace-signed.png",
    "laplace-relu.png",
    "gauss-signed.png",
    "gauss-relu.png",
)
