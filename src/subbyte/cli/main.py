"""The `subbyte` command."""

import logging
from importlib.metadata import version
from typing import Annotated

import typer
from rich.logging import RichHandler

from subbyte.cli.aciq import aciq
from subbyte.cli.common import console, errors
from subbyte.cli.demo import demo
from subbyte.cli.evaluate import evaluate
from subbyte.cli.export import export
from subbyte.cli.gradquant import gradquant
from subbyte.cli.inspect import inspect
from subbyte.cli.quantize import quantize
from subbyte.cli.report import report
from subbyte.cli.sweep import sweep
from subbyte.cli.train import train
from subbyte.cli.verify import verify

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    demo,
    quantize,
    evaluate,
    export,
    verify,
    inspect,
    report,
    aciq,
    gradquant,
    train,
    sweep,
)
"""In the order in which help lists them."""
for function in COMMANDS:
    app.command()(function)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"subbyte {version('subbyte')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Quantize trained PyTorch networks below 8 bits with a few unlabelled images, and prove the
    result.
    """
    handler = RichHandler(console=errors, show_time=False, show_path=False)
    logging.getLogger("subbyte").handlers[:] = [handler]
