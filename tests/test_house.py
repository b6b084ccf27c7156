"""The house rules: imports go down only, files and functions stay short, public names are what they
are said to be.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import subbyte
from tests.house import measure

HOUSE = Path(subbyte.__file__).parent
ROOT = Path(__file__).parents[1]
FILES = sorted(HOUSE.rglob("*.py"))
MAX_LINES, MAX_FUNCTION = 400, 60

LAYERS = [
    {"errors"},
    {"io"},
    {"core"},
    {"stats", "graph", "records"},
    {"methods"},
    {"compat"},
    {"ranges", "rounding", "correct", "tuning", "allocate", "tasks"},
    {"precondition"},
    {"recipe"},
    {"engine", "testing"},
    {"exporters", "pages"},
    {"speed"},
    {"learn"},
    {"jobs"},
    {"analyses"},
    {"cli"},
]
"""From the ground up; packages on one floor do not import each other."""
BESIDE = {"data", "models"}
"""Stand beside the floors below the engine: they know errors, io, each other and how a network is
called (`graph.samples`); nobody below knows them.
"""
CALLED = {"subbyte.graph.samples.Samples", "subbyte.graph.samples.Inputs"}
ROOF = {"__init__", "__main__"}


@cache
def tree(file: Path) -> ast.Module:
    """A file as Python reads it."""
    return ast.parse(file.read_text())


@pytest.fixture(scope="module", autouse=True)
def _trees_are_dropped() -> Iterator[None]:
    yield
    tree.cache_clear()


def every_file(test: Callable[[Path], None]) -> Callable[[], None]:
    """Make one test of a rule that each file is to keep: it names those that do not."""

    def over_all_files() -> None:
        broken = []
        for file in FILES:
            try:
                test(file)
            except AssertionError as error:
                broken.append(f"{file.relative_to(HOUSE)}: {error}")
        assert not broken, "\n".join(broken)

    return over_all_files


def place(file: Path) -> str:
    """The part of the house that a file belongs to."""
    return file.relative_to(HOUSE).parts[0].removesuffix(".py")


def floor(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


@cache
def imports(file: Path) -> list[str]:
    """Everything that a file imports, wherever in it, as dotted names; names of a package's members
    included.
    """
    found: list[str] = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [f"{node.module}.{name.name}" for name in node.names]
    return found


def parts_used(file: Path) -> set[str]:
    names = [name.split(".") for name in imports(file) if name.split(".")[0] == "subbyte"]
    assert all(len(name) > 1 for name in names), f"{file} imports all of subbyte"
    return {name[1] for name in names}


def packages_used(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def run_alone(script: str) -> tuple[int, str]:
    """Exit code of a script in an interpreter of its own, and what it says on stderr."""
    environment = os.environ | {"PYTHONPATH": str(HOUSE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stderr


def project() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    tomllib = pytest.importorskip("tomllib", reason="comes with Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_part_has_its_place():
    known = set().union(*LAYERS) | BESIDE | ROOF
    assert {place(file) for file in FILES} == known


@every_file
def test_imports_go_down_only(file):
    part, used = place(file), parts_used(file) - {place(file)}
    if part in ROOF:
        return
    if part in BESIDE:
        assert used <= BESIDE | {"errors", "io", "graph"}
        graph = {name for name in imports(file) if name.startswith("subbyte.graph")}
        assert graph <= CALLED, file
        return
    allowed = set().union(*LAYERS[: floor(part)])
    if floor(part) >= floor("engine"):
        allowed |= BESIDE
    assert used <= allowed, f"{part} imports {sorted(used - allowed)}"


@every_file
def test_pages_read_results_through_records(file):
    if place(file) == "pages":
        assert parts_used(file) <= {"pages", "records", "io", "errors"}


@every_file
def test_only_the_graph_package_knows_graphs(file):
    names = imports(file)
    knows = any(
        name == "torch.fx" or name.startswith(("torch.fx.", "torch.export")) for name in names
    )
    assert not knows or place(file) == "graph"


@every_file
def test_only_the_export_package_knows_file_formats(file):
    formats = {"onnx", "onnx_ir", "onnxscript", "safetensors", "onnxruntime"}
    allowed = {
        "io/safe.py": {"safetensors"},
        "models/states.py": {"safetensors"},
        "cli/demo.py": {"safetensors"},
        "analyses/clips/dump.py": {"safetensors"},
        "learn/training/subject.py": {"safetensors"},
    }
    if place(file) != "exporters":
        assert packages_used(file) & formats <= allowed.get(str(file.relative_to(HOUSE)), set())


@every_file
def test_methods_and_core_see_tensors_only(file):
    tensors_only = {
        "core",
        "stats",
        "ranges",
        "rounding",
        "correct",
        "allocate",
        "methods",
        "tasks",
    }
    if place(file) in tensors_only:
        kept = {"sklearn", "threadpoolctl"} if file.name == "kmeans.py" else {"scipy"}
        assert packages_used(file) <= {*sys.stdlib_module_names, "torch", "numpy", "subbyte"} | kept
        modules = {name for name in imports(file) if name.startswith("torch.nn")}
        assert modules <= {"torch.nn.functional"}


@every_file
def test_files_and_functions_are_short(file):
    text = file.read_text()
    assert text.count("\n") <= MAX_LINES
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.body[0].lineno + 1
            assert lines <= MAX_FUNCTION, f"{node.name} has {lines} lines"


TESTS = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py"))
PROJECT = {"accuracy", "docs", "house", "notebooks", "peers", "wheel"}
"""Tests of the project as a whole, which lie at the top."""


DOORS = {
    "io/texts.py": {"loads", "load"},
    "io/arrays.py": {"load"},
    "exporters/resident.py": {"load"},  # a process of its own, without subbyte
}
"""The files that read text and arrays from outside, for all others; with the calls that do it."""


@every_file
def test_text_and_arrays_come_in_by_doors(file):
    own = DOORS.get(str(file.relative_to(HOUSE)), set())
    readers = {("json", "loads"), ("json", "load"), ("yaml", "safe_load"), ("yaml", "load")}
    readers |= {("np", "load"), ("pickle", "load"), ("pickle", "loads")}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in readers or node.attr in own, node.lineno


APART = {"attack"}
"""Folders of tests of the project as a whole."""


def test_tests_lie_where_what_they_test_lies():
    """A test is named after a module of its folder, or its package, and perhaps more words."""
    assert [test for test in TESTS if test.parts[0] not in APART and not is_placed(test)] == []


def is_placed(test: Path) -> bool:
    folder, name = HOUSE / test.parent, test.stem.removeprefix("test_")
    if not folder.is_dir():
        return False
    known = {path.stem for path in folder.iterdir() if path.stem != "__init__"} | {folder.name}
    known |= PROJECT if folder == HOUSE else set()
    return any(name == module or name.startswith(f"{module}_") for module in known)


def test_types_carry_what_words_would():
    """Comparisons with literal text, looked-up attributes and dictionaries of anything are rare."""
    form = measure(HOUSE)
    assert form.per_thousand(form.words) <= 4
    assert form.per_thousand(form.lookups) <= 0.5
    assert form.mappings <= 40


@every_file
def test_nothing_is_printed_by_the_way(file):
    calls = [node.func for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    assert not names & {"print", "breakpoint", "eval", "exec"}


def text_by_locale(text: str) -> list[str]:
    """Calls that read or write text in whatever encoding the locale says."""
    return [
        ast.unparse(call)
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and _by_locale(call)
    ]


def _by_locale(call: ast.Call) -> bool:
    named = {word.arg: word.value for word in call.keywords}
    if "text" in named or "universal_newlines" in named:  # of subprocess
        return "encoding" not in named
    if isinstance(call.func, ast.Name):
        return call.func.id == "open"
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "open" and ast.unparse(call.func.value) not in ("os", "Image", "archive"):
        return not any(isinstance(mode, ast.Constant) and "b" in mode.value for mode in call.args)
    return call.func.attr in ("read_text", "write_text")


@every_file
def test_text_is_read_and_written_by_io_files(file):
    assert not text_by_locale(file.read_text())


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("path.write_text(text, encoding='utf-8')", True),
        ("open('a', 'rb')", True),
        ("path.open('w')", True),
        ("path.open()", True),
        ("path.open('rb')", False),
        ("read_text(path)", False),
        ("run(command, text=True)", True),
        ("run(command, encoding='utf-8')", False),
    ],
)
def test_text_by_locale_is_found(code, found):
    assert bool(text_by_locale(code)) is found


@every_file
def test_nothing_that_is_printed_is_markup(file):
    """Rich's markup would read it out of names that users give."""
    if "cli" not in file.parts:
        assert "rich" not in packages_used(file)
        return
    calls = [node for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]
    made = {ast.unparse(call.func): [word.arg for word in call.keywords] for call in calls}
    assert file.name == "terminal.py" or not made.keys() & {"Console", "TextColumn", "print"}
    assert not any(name.endswith("from_markup") for name in made)
    for call in calls:
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert words.get("markup", "False") == "False", ast.unparse(call)
        if ast.unparse(call.func) in ("Console", "TextColumn"):
            assert "markup" in words, ast.unparse(call)


@every_file
def test_every_file_says_what_it_is_for(file):
    assert ast.get_docstring(tree(file))


def fragments(text: str) -> list[str]:
    """Docstrings, those of names among them, that begin as fragments do."""
    said = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return [doc for doc in said if doc.lstrip().startswith(("Of ", "What "))]


@every_file
def test_docstrings_are_no_fragments(file):
    assert not fragments(file.read_text())


def test_public_names_are_sorted_and_complete():
    assert subbyte.__all__ == sorted(subbyte.__all__)
    homes = {
        name.name: node.module
        for node in ast.walk(tree(HOUSE / "__init__.py"))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("subbyte.")
        for name in node.names
    }
    assert homes == subbyte._HOMES and {*homes, "__version__"} == set(subbyte.__all__)
    assert set(subbyte.__all__) <= set(dir(subbyte))
    assert all(getattr(subbyte, name).__doc__ for name in homes)
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = subbyte.quantise


def test_the_version_is_said_once_too_often_but_alike():
    assert project()["version"] == subbyte.__version__


def test_errors_have_one_base():
    from subbyte import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) == 11 and all(issubclass(cls, errors.SubbyteError) for cls in classes)
    assert issubclass(errors.SubbyteError, ValueError)


def test_importing_needs_no_extras():
    script = (
        "import sys, subbyte, subbyte.cli.main\n"
        "heavy = {'matplotlib', 'torchvision', 'timm', 'ray', 'mlflow', 'plotly', 'pytest'}\n"
        "sys.exit(', '.join(sorted(heavy & {name.split('.')[0] for name in sys.modules})) or 0)"
    )
    assert run_alone(script) == (0, "")


def test_extras_are_imported_where_they_are_used():
    optional = {"torchvision", "timm", "ray", "mlflow", "matplotlib", "plotly", "pyarrow"}
    optional |= {"openvino", "executorch", "litert_torch", "ai_edge_litert", "flatbuffers"}
    for file in FILES:
        top = [node for node in tree(file).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {n.name.split(".")[0] for x in top if isinstance(x, ast.Import) for n in x.names}
        names |= {str(x.module).split(".")[0] for x in top if isinstance(x, ast.ImportFrom)}
        assert not names & optional, file


def test_what_is_imported_is_declared():
    extras = project()["optional-dependencies"]
    needed = project()["dependencies"] + [
        name
        for extra, packages in extras.items()
        if extra not in ("dev", "docs", "vision")
        for name in packages
    ]
    declared = {name.split(">")[0].split("=")[0].lower().replace("-", "_") for name in needed}
    modules = {"pyyaml": "yaml", "pillow": "PIL", "scikit_learn": "sklearn"}
    known = (
        {modules.get(name, name) for name in declared} | set(sys.stdlib_module_names) | {"subbyte"}
    )
    for file in FILES:
        assert packages_used(file) <= known, file


def test_recipes_come_along():
    from subbyte.recipe import PRESETS

    assert sorted(path.stem for path in (HOUSE / "recipe" / "presets").glob("*.yaml")) == sorted(
        PRESETS
    )
