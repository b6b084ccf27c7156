"""`python -m subbyte`."""

from subbyte.cli.main import app

app()
