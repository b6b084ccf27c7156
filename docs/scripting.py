"""The page docs/scripting.md: JSON, exit codes and environment variables, as the code has them."""

from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from subbyte.analyses.sweeps.ray_engine import SETTINGS
from subbyte.analyses.sweeps.track import PATIENCE
from subbyte.cli.main import COMMANDS
from subbyte.cli.terminal import Exit

ENVIRONMENT = {
    "COLUMNS": "Letters of a line that tables and errors are made for. Default: the terminal's; 80 "
    "where there is none.",
    "NO_COLOR, TERM=dumb": "No colours; no bars that move.",
    "OMP_NUM_THREADS": "Threads that torch computes with. Default: one a core. Set it to 1 where "
    "several processes share a machine.",
    "CUDA_VISIBLE_DEVICES": "The GPUs that `--device cuda` can choose from.",
    "TMPDIR": "Folder for activations that do not fit in `--memory`, and for files on the way.",
    "MKL_CBWR": "The order in which MKL adds up. Default: one that does not depend on the number "
    "of threads (`AVX2,STRICT` or `AVX512,STRICT`); what you set is kept.",
    "PYTHONUTF8": "Set to 1 by the command itself, which starts anew, where the locale's names of "
    "files are not UTF-8.",
    "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT": "Which of several processes this is: "
    "set by `torchrun`, not by hand.",
    "MLFLOW_TRACKING_URI and its like": "MLflow's own, for `sweep --track mlflow:URI`. Where they "
    f"are not set: {', '.join(f'`{name}={value}`' for name, value in PATIENCE.items())}.",
    "RAY_ADDRESS and its like": "Ray's own, for `sweep --ray`. Where they are not set: "
    f"{', '.join(f'`{name}={value}`' for name, value in SETTINGS.items())}.",
    "SUBBYTE_DATA": "For the tests alone: the folder of MNIST and CIFAR-10. Default: "
    "`~/.cache/subbyte/data`.",
    "SUBBYTE_ATTACK": "For the tests alone: how many damaged files `make attack` makes.",
}
"""By name; whatever the code reads is here."""

_JSON = """
`--json`, which every command has, prints one JSON object on stdout when the work is done; tables,
progress, warnings and errors go to stderr, and so does whatever libraries and your own `file.py`
print. `--quiet` prints nothing but warnings and errors; with both there is the object alone.

```sh
subbyte quantize --model lenet-digits --weights builtin:lenet-digits --data digits --out runs/w4 \\
    --recipe w4 --json
subbyte evaluate --model lenet-digits --weights runs/w4/model.safetensors --data digits \\
    --json --quiet
```

The object has three entries:

- `command`: the command's name.
- `written`: folders and files that were written, the main one first; none where nothing was.
- `result`: what the command found, as the file has it that the command writes (`result.json`,
  `bench.json` ...), so that one reader does for both. Numbers that are not finite are `null`.

Where a command fails nothing is on stdout, one line that begins with `error:` is on stderr, and the
exit code is not 0. Two commands have an answer and a code all the same: `verify` (1) where a value
differs, and `sweep` (3) where runs failed.
"""


def page(note: str) -> str:
    """The text of the page."""
    parts = [note, "# From scripts", "", "## JSON", "", _JSON.strip(), ""]
    parts += ["| command | `result` is | which is |", "|---|---|---|"]
    for name in COMMANDS:
        parts += [f"| `{name}` | {_named(kind)} | {_told(kind)} |" for kind in _kinds(name)]
    parts += ["", "Records are described in `subbyte.records`, plans in [recipes](recipes.md)."]
    parts += ["", "## Exit codes", "", "| code | when |", "|---|---|"]
    parts += [f"| {one.value} | {one.meaning} |" for one in Exit]
    parts += ["", "## Environment variables", "", "| variable | what it does |", "|---|---|"]
    parts += [f"| `{name}` | {what} |" for name, what in ENVIRONMENT.items()]
    return "\n".join(parts) + "\n"


def _kinds(name: str) -> Iterator[Any]:
    """What the results of a command are, by the annotation of its function."""
    function = vars(import_module(f"subbyte.cli.{name}"))[name]
    returned = get_type_hints(function.__wrapped__)["return"]
    for answer in _either(returned):
        yield from (kind for one in get_args(answer) for kind in _either(one))


def _either(kind: Any) -> list[Any]:
    """The types of a union but None, or the type alone."""
    if get_origin(kind) not in (Union, UnionType):
        return [kind]
    return [one for one in get_args(kind) if one is not NoneType]


def _named(kind: Any) -> str:
    if kind is NoneType:
        return "`null`"
    (inner,) = get_args(kind) or (kind,)
    return f"a list of `{inner.__name__}`" if get_origin(kind) is list else f"`{kind.__name__}`"


def _told(kind: Any) -> str:
    if kind is NoneType:
        return "`written` says all."
    (inner,) = get_args(kind) or (kind,)
    return " ".join(cleandoc(inner.__doc__ or "").split("\n\n")[0].split())
