"""The documentation runs: Python examples are executed, generated pages are up to date, links lead
somewhere.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_commands_in_the_readme_exist() -> None:
    from subbyte.cli.main import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    used = set(
        re.findall(
            r"subbyte ([a-z][a-z-]+) ",
            "".join(re.findall(r"```sh\n(.*?)```", _readme(), flags=re.S)),
        )
    )
    assert used and used <= known


def test_the_format_page_gives_the_bytes_that_pack_writes() -> None:
    import torch

    from subbyte.core.packing import pack_digits

    assert pack_digits(torch.tensor([5, 1, 7]), 8).tolist() == [0xCD, 0x01]
    assert pack_digits(torch.tensor([2, 0, 1, 1, 2]), 3).tolist() == [200]


def _readme() -> str:
    return (ROOT / "README.md").read_text()
