"""The documentation runs: Python examples are executed, generated pages are up to date, links lead
somewhere.
"""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import release
from benchmarks.release import TUTORIALS
from subbyte.cli.main import COMMANDS, load
from subbyte.pages.scores import first_of_each
from subbyte.records import read_result

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAPERS = ROOT / "docs" / "coming-from-papers.md"
PEERS = ROOT / "docs" / "coming-from-peers.md"


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_python(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def run_python(page: Path) -> dict[str, object]:
    """The names that a page's Python examples leave."""
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S):
        exec(compile(block, str(page), "exec"), namespace)
    return namespace


def rows(page: Path) -> list[list[str]]:
    """The cells of every row of a page's tables, without the heads."""
    text = re.sub(r"^\|.*\|\n\|[-|]+\|$", "", page.read_text(), flags=re.M)
    lines = re.findall(r"^\| (.*) \|$", text, flags=re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def commands(page: Path) -> list[list[str]]:
    """The words of every command in a page's shell examples, without comments."""
    return [shlex.split(line, comments=True) for line in release.commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_have_these_options(page: Path) -> None:
    for name, *words in (given[1:] for given in commands(page) if given[0] == "subbyte"):
        load(name).make_context(name, words)


def run_commands(page: Path, folder: Path) -> list[list[str]]:
    """Run a page's commands in a folder, with the files that it shows; those for a cluster that is
    not installed are left out.
    """
    (folder / "examples").symlink_to(ROOT / "examples")
    for name, text in release.files(page).items():
        (folder / name).write_text(text)
    done = [words for words in commands(page) if words[0] in RUN and not needs_more(words)]
    for program, *words in done:
        called = subprocess.run(
            [sys.executable, *RUN[program], *words], capture_output=True, text=True, cwd=folder
        )
        assert called.returncode == 0, f"{program} {words}: {called.stderr[-2000:]}"
    return done


RUN = {"subbyte": ["-m", "subbyte"], "python": [], "torchrun": ["-m", "torch.distributed.run"]}


def needs_more(words: list[str]) -> bool:
    """Whether a command needs an extra that is not installed here."""
    return "--ray" in words and find_spec("ray") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [ROOT / "docs" / "start.md", *TUTORIALS, PAPERS], ids=lambda p: p.stem
)
def test_commands_of_tutorials_run(page: Path, tmp_path: Path) -> None:
    assert run_commands(page, tmp_path)


def test_options_that_papers_programs_became_are_in_commands_that_are_run() -> None:
    """Each option and command on the right of a table is in a command of its page."""
    given = [word for words in commands(PAPERS) for word in words]
    said = {word for *_, ours in rows(PAPERS) for word in re.findall(r"`(--[a-z-]+)", ours)}
    elsewhere = {"--no-report", "--layers"}
    assert len(said) > 25 and said - elsewhere <= set(given)
    names = {word for *_, ours in rows(PAPERS) for word in re.findall(r"`subbyte ([a-z]+)", ours)}
    assert names <= set(given)
    train = load("train").make_context
    train(
        "train",
        ["--model", "resnet", "--layers", "3", "--data", "digits", "--no-report", "--out", "x"],
    )


@pytest.mark.slow
def test_lines_that_take_the_place_of_other_tools_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = run_python(PEERS)
    lines = [ours.strip("`") for _, ours in rows(PEERS)]
    assert len(lines) > 20
    for line in lines:
        exec(compile(line, PEERS.name, "exec"), namespace)


def test_tests_that_the_page_of_reasons_names_are_there() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("why.md", "how-it-works.md"))
    named = re.findall(r"`(tests/.+?)::(\w+)`", text)
    assert len(named) > 15
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"


def test_every_page_is_in_the_sites_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text()
    assert all(page.relative_to(ROOT).as_posix() in config for page in PAGES)


@pytest.mark.slow
def test_commands_of_the_page_of_tasks_run(tmp_path: Path) -> None:
    """Those of the U-Net, the network with two heads and the detector, with the page's scores."""
    assert len(run_commands(ROOT / "docs" / "tasks.md", tmp_path)) == 15
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
