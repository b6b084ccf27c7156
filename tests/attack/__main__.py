"""The long part: `make attack`, or `python -m tests.attack [PART ...] [--sample N] [--command C]`.

Prints findings as they come, then a table; ends with code 1 when there were any.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.attack.bugs import BUGS, FOUND_BY
from tests.attack.commands import COMMANDS
from tests.attack.lab import lab
from tests.attack.parts import PARTS, attack, hunt


def main() -> int:
    """Do all parts, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--sample", type=int, default=0, help="trials of a command; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", choices=list(COMMANDS), default=[])
    parser.add_argument("--bugs", action=argparse.BooleanOptionalAction, default=False)
    asked = parser.parse_args()
    rows, wrong = [], 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, lab(Path(root)) as place:
        for name in asked.parts or ([] if asked.bugs else PARTS):
            part = PARTS[name]
            if not part.needs():
                rows.append(f"| {part.title} | not possible here | |")
                continue
            begun = time.monotonic()
            done, found = attack(
                place,
                part,
                commands=asked.command,
                sample=asked.sample,
                seed=asked.seed,
                tell=_say,
            )
            wrong += len(found)
            rows.append(f"| {part.title} | {done.total():,} | {len(found)} |")
            _say(f"{rows[-1]} {time.monotonic() - begun:.0f} s")
        if asked.bugs:
            found = {bug: hunt(place, bug) for bug in BUGS if PARTS[FOUND_BY[bug][0]].needs()}
            for bug, line in found.items():
                _say(f"bug {bug}: {line.splitlines()[0][:200] if line else 'NOT FOUND'}")
            wrong += list(found.values()).count("")
            rows.append(f"| planted bugs | {len(found)} | {sum(map(bool, found.values()))} found |")
    _say("\n".join(["", "| attack | trials | findings |", "|---|---|---|", *rows]))
    return int(wrong > 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
