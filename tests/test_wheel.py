"""The wheel: it holds everything, and runs with what it declares and nothing else."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import subbyte
from subbyte.recipe import PRESETS

ROOT = Path(__file__).parents[1]

USE = """
import importlib, pkgutil, sys, warnings
from pathlib import Path
import subbyte
assert not {"torch", "subbyte.engine"} & set(sys.modules)
found = pkgutil.walk_packages(subbyte.__path__, "subbyte.")
names = [m.name for m in found if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
assert len(names) > 40, names
public = [name for name in subbyte.__all__ if name != "__version__"]
wrong = [name for name in public if not callable(getattr(subbyte, name))]
assert not wrong, f"modules that were imported first hide {wrong}"
assert "site-packages" in subbyte.__file__, subbyte.__file__
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
nn = torch.nn
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
images = torch.randn(24, 1, 6, 6)
quantized = subbyte.quantize(model, images, "w4a8")
subbyte.save(quantized, "model.safetensors")
assert torch.equal(subbyte.load("model.safetensors", model)(images), quantized(images))
assert subbyte.export(quantized, "model.onnx", images).bytes > 100
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def closure(names: list[Requirement]) -> set[str]:
    """Distributions that these requirements bring in, extras only where a requirement asks for
    them.
    """
    found: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(r.name), extra) for r in names for extra in ("", *r.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in distribution(name).requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), e) for e in ("", *needed.extras)]
    return {name for name, _ in found}


def link(name: str, target: Path) -> None:
    """Links to the top-level files and folders of an installed distribution."""
    installed = distribution(name)
    for top in {
        file.parts[0]
        for file in installed.files or []
        if file.parts[0] not in ("..", "__pycache__")
    }:
        if not (target / top).exists():
            (target / top).symlink_to(Path(str(installed.locate_file(top))))


def run(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    command = [str(python), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
        entry = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    source = ROOT / "src"
    expected = [
        p.relative_to(source).as_posix() for p in (source / "subbyte").rglob("*") if p.is_file()
    ]
    assert inside == {name for name in expected if "__pycache__" not in name}
    assert "subbyte/py.typed" in inside
    assert {f"subbyte/recipe/presets/{name}.yaml" for name in PRESETS} <= inside
    assert f"Version: {subbyte.__version__}" in text and "License-Expression: Apache-2.0" in text
    assert "subbyte = subbyte.__main__:main" in entry


def test_the_wheel_runs_with_its_declared_dependencies_only(wheel, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True
    )
    python = tmp_path / "bare" / "bin" / "python"
    site = next((tmp_path / "bare" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        metadata = archive.read(
            next(name for name in archive.namelist() if name.endswith("/METADATA"))
        ).decode()
    declared = [
        Requirement(line[15:])
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    needed = closure([r for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})])
    assert "torch" in needed and not needed & {
        "pytest",
        "hypothesis",
        "ruff",
        "mypy",
        "matplotlib",
        "build",
    }
    for name in sorted(needed):
        link(name, site)
    (tmp_path / "work").mkdir()
    done = run(python, "-W", "error::ImportWarning", "-c", USE, folder=tmp_path / "work")
    assert done.returncode == 0, done.stderr
    done = run(python, "-m", "subbyte", "--version", folder=tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"subbyte {subbyte.__version__}"


@pytest.mark.slow
def test_the_wheel_installs_into_a_fresh_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "fresh")], check=True)
    python = tmp_path / "fresh" / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    install += ("--constraint", str(ROOT / "constraints.txt"))
    for what in ("torch==2.13.0", str(wheel)):
        done = run(python, *install, what, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    done = run(python, "-c", USE, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(tmp_path / "fresh" / "bin" / "subbyte", "--version", folder=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, f"subbyte {subbyte.__version__}")
