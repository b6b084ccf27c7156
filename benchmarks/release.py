"""The package as its users get it: a wheel is built and installed in an environment of its own, and
`subbyte demo` and every command of the tutorials are run from it, in order, each timed.

    python benchmarks/release.py [--work DIR] [--page NAME ...]

Nothing of the checkout is on the path but what the tutorials themselves name (`examples/`). The
table is printed at the end; code 1 when a command failed. Needs the `build` package.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = {page.stem: page for page in (ROOT / "docs" / "start.md", *TUTORIALS)}
EXTRAS = "plots"  # without Ray, whose commands are left out


def commands(page: Path) -> list[str]:
    """The commands in a page's shell examples, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def files(page: Path) -> dict[str, str]:
    """The files that a page shows, by name."""
    found = re.findall(r"```\w+ title=\"([^\"]+)\"\n(.*?)```", page.read_text(), flags=re.S)
    return dict(found)


def installed(work: Path) -> Path:
    """The folder of programs of an environment that has the wheel."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work)]
    subprocess.run([*build, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    (wheel,) = work.glob("*.whl")
    venv.create(work / "venv", with_pip=True)
    programs = work / "venv" / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--quiet"]
    pins = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, *pins, f"{wheel}[{EXTRAS}]", "torch"], check=True)
    return programs


def run(command: str, programs: Path, folder: Path) -> tuple[float, str]:
    """Seconds that a command took, and the end of what it said where it failed, else ''."""
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    begun = time.perf_counter()
    done = subprocess.run(
        command, shell=True, cwd=folder, env=own | {"PATH": path}, capture_output=True, text=True
    )
    seconds = time.perf_counter() - begun
    return seconds, (done.stderr or done.stdout)[-500:] if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="kept; a temporary folder unless given")
    parser.add_argument("--page", action="append", choices=list(PAGES), help="only some")
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    programs = installed(work)
    rows, failed = [], 0
    jobs = {"the wheel": ["subbyte demo --out runs/demo"]}
    jobs |= {name: commands(PAGES[name]) for name in asked.page or PAGES}
    for name, lines in jobs.items():
        folder = work / name.replace(" ", "-")
        folder.mkdir()
        (folder / "examples").symlink_to(ROOT / "examples")
        for file, text in files(PAGES[name]).items() if name in PAGES else ():
            (folder / file).write_text(text)
        for line in lines:
            if "--ray" in line:
                rows.append((name, line, "needs Ray"))
                continue
            seconds, said = run(line, programs, folder)
            failed += bool(said)
            rows.append((name, line, said.strip() or f"{seconds:.0f} s"))
            print(f"{name}: {' '.join(line.split())}: {rows[-1][2]}", flush=True)
    print("\n| page | command | seconds |\n|---|---|---|")
    for name, line, seconds in rows:
        print(f"| {name} | `{' '.join(line.split())}` | {seconds} |")
    if asked.work is None:
        shutil.rmtree(work)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
