"""The `subbyte` command, and `python -m subbyte`."""

import os
import sys

from subbyte.cli.main import app


def main() -> None:
    """Run the command."""
    in_utf_8()
    app()


def in_utf_8() -> None:
    """Begin this process again in Python's UTF-8 mode, where the locale has names of files in
    another encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        again = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, again, os.environ | {"PYTHONUTF8": "1"})


if __name__ == "__main__":
    main()
