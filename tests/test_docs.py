"""The documentation runs: Python examples are executed, generated pages are up to date, links lead
somewhere.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from subbyte.cli.main import COMMANDS, load
from subbyte.pages.scores import first_of_each
from subbyte.records import read_result

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands(page: Path) -> list[list[str]]:
    """The words of every command in a page's shell examples, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_have_these_options(page: Path) -> None:
    for name, *words in (given[1:] for given in commands(page) if given[0] == "subbyte"):
        load(name).make_context(name, words)


@pytest.mark.slow
def test_commands_of_the_page_of_tasks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the U-Net, the network with two heads and the detector, with the page's scores."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    runs = commands(ROOT / "docs" / "tasks.md")
    assert len(runs) == 15
    for program, *words in runs:
        called = ["-m", "subbyte"] if program == "subbyte" else []
        done = subprocess.run(
            [sys.executable, *called, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    for folder in ("unet-w8a8", "unet-w8a8-folder"):
        found = read_result(tmp_path / "runs" / folder)
        before, after = found.float.headline.value, found.quantized.headline.value
        assert found.task == "segmentation" and before > 98 and abs(after - before) < 1
    for folder in ("heads-w8a8", "heads-w4a8"):
        shape, *_, place = first_of_each(read_result(tmp_path / "runs" / folder).quantized.scores)
        assert shape.name == "top-1" and shape.value > 98
        assert place.name == "relative error" and place.value < 0.2
    for folder, most in (("w8a8", 1.5), ("w4a8", 4), ("w4a4", 6), ("w4a4-tuned", 5)):
        found = read_result(tmp_path / "runs" / f"detector-{folder}")
        before, after = found.float.headline.value, found.quantized.headline.value
        assert before > 65 and abs(after - before) < most


def test_commands_in_the_readme_exist() -> None:
    used = set(
        re.findall(
            r"subbyte ([a-z][a-z-]+) ",
            "".join(re.findall(r"```sh\n(.*?)```", _readme(), flags=re.S)),
        )
    )
    assert used and used <= set(COMMANDS)


def test_the_format_page_gives_the_bytes_that_pack_writes() -> None:
    import torch

    from subbyte.core.packing import pack_digits

    assert pack_digits(torch.tensor([5, 1, 7]), 8).tolist() == [0xCD, 0x01]
    assert pack_digits(torch.tensor([2, 0, 1, 1, 2]), 3).tolist() == [200]


def test_the_page_of_scripts_has_every_environment_variable_that_the_code_reads() -> None:
    texts = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    read = re.compile(r"""(?:environ(?:\.get|\.setdefault)?[(\[]|_stated\()"(\w+)\"""")
    found = {name for text in texts for name in read.findall(text)}
    page = (ROOT / "docs/scripting.md").read_text()
    assert found >= {"WORLD_SIZE", "MKL_CBWR"} and all(name in page for name in found)


def _readme() -> str:
    return (ROOT / "README.md").read_text()
