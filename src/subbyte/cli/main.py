"""The `subbyte` command.

The module of a command is imported when the command is run, so that help and completion need
neither torch nor any other large package.
"""

import logging
import re
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from typer.core import TyperGroup
from typer.main import get_command

from subbyte.cli.terminal import console, errors, print_anything
from subbyte.io.versions import installed

COMMANDS = {
    "demo": "Train LeNet on digits, quantize it to W8A8, W4A4, W3, W2 and ternary, and compare.",
    "quantize": "Quantize a trained network, export it, and measure what it cost. `torchrun` "
    "shares the calibration images out over several processes or GPUs.",
    "tune": "Let a quantized network learn from the float one, without labels; stop it at any "
    "time, and the same command goes on.",
    "evaluate": "Print a network's scores on the test split by the task; for classes, those by "
    "class, too.",
    "export": "Export a quantized network once more: write a file, and prove it in its own "
    "runtime.",
    "verify": "Name the first value that a device computes otherwise. Ends with code 1 if there is "
    "one.",
    "inspect": "Show the plan, layers, bits and sizes of any file that subbyte wrote.",
    "bench": "Measure exported files in turns: speed against the float network and ONNX Runtime's "
    "own static quantization, memory, sizes, and which nodes compute with integers.",
    "report": "Write one page about quantized networks, sweeps, training runs and clip searches, "
    "or a comparison of several.",
    "aciq": "Print optimal clipping and its error for each width; with --out also draw the error "
    "against clipping.",
    "gradquant": "Scan clips of the weights' range; compare what metrics choose with the true "
    "loss.",
    "look": "Look at a data set: samples by class, class sizes, statistics of channels; a page of "
    "them.",
    "train": "Train a network; stop it at any time, and the same command goes on. `torchrun` "
    "starts it on several devices.",
    "sweep": "Do every run of a space, and write results.csv, summary.csv, what was chosen, and a "
    "page to look at.",
}
"""Commands and their help, which their functions say too, in the order in which help lists them.
The command NAME is the function of that name in `subbyte.cli.NAME`.
"""
_LONG = re.compile(r"(\S{200})\S+")
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def load(name: str) -> Any:
    """The command of a name, with its options: its module is imported now."""
    alone = typer.Typer(add_completion=False, context_settings=_CONTEXT)
    alone.command(name)(vars(import_module(f"subbyte.cli.{name}"))[name])
    import_module("subbyte.io.repeatable").fix_order()
    return get_command(alone)


class _Commands(TyperGroup):
    """Commands that are known by name and help until one is run."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command, or print help."""
        print_anything()
        return super().main(*args, **options)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with, loaded."""
        if args and args[0] in COMMANDS:
            self.add_command(load(args[0]))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run what is asked for; a value that an option refuses is shown as far as it is short."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _LONG.sub(r"\1...", error.message.removeprefix("Value error, "))
            raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _not_loaded() -> None:
    raise AssertionError("a command is loaded before it is run")


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_not_loaded)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"subbyte {installed('subbyte')}")
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
