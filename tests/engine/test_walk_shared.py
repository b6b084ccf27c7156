"""Processes that share a walk decide what one alone decides, and fail together."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import subbyte
from subbyte.core import QTensor
from subbyte.engine import layers
from subbyte.engine.budget import meet_budget
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import carry_out
from subbyte.engine.walk import WalkResult, walk
from subbyte.errors import DataError, NumericsError, ProcessError, RecipeError, ResourceError
from subbyte.io.processes import Processes
from subbyte.methods import FitGrid, Rounding
from subbyte.recipe import make_plan
from subbyte.stats import LayerStats
from tests.networks import build, captured, images
from tests.together import Threaded, together
from tests.workplace import lay_out, names_in

torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
DYNAMIC = ("activations.range=minmax", "activations.dynamic=true")
CASES = [
    ("residual", "w8a8", ()),
    ("mobile", "w4a4", ("activations.granularity=channel",)),
    ("tokens", "w4a8", DYNAMIC),
    ("shared", "w3", ("weights.guided=2",)),
    ("residual", "w3", ("weights.range=fisher", "weights.rounding=gptaq")),
]
every_case = pytest.mark.parametrize(("name", "recipe", "settings"), CASES)


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch):
    """Not all positions of an image: which ones are drawn."""
    monkeypatch.setattr(layers, "_MIN_ROWS", 64)


def walked(
    name: str, recipe: str, settings: tuple[str, ...], limits: Limits, x: Tensor | None = None
) -> WalkResult:
    plan = make_plan(captured(name), subbyte.load_recipe(recipe, list(settings)))
    return walk(captured(name), plan, images(name) if x is None else x, limits=limits)


def right(found: list[Any]) -> list[Any]:
    """What processes returned; raises what one of them raised."""
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def assert_same(one: WalkResult, other: WalkResult) -> None:
    """Bit for bit."""
    assert one.sqnr_db == other.sqnr_db and list(one.weights) == list(other.weights)
    for name, weight in one.weights.items():
        assert torch.equal(weight.codes, other.weights[name].codes), name
        assert torch.equal(weight.grid.scale, other.weights[name].grid.scale), name
        assert torch.equal(one.biases[name], other.biases[name]), name
    for name, grid in one.grids.items():
        assert torch.equal(grid.scale, other.grids[name].scale), name
        assert torch.equal(grid.zero_point, other.grids[name].zero_point), name
    for a, b in zip(one.outputs, other.outputs, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@every_case
def test_two_that_add_the_same_chunks_in_the_same_order_are_as_one(name, recipe, settings):
    limits = Limits(chunk=16, rows=2)
    x = images(name, 32)
    alone = walked(name, recipe, settings, limits, x)
    shared = right(
        together(lambda here: walked(name, recipe, settings, replace(limits, processes=here), x))
    )
    for found in shared:
        assert_same(found, alone)


@every_case
def test_three_with_chunks_of_many_sizes_agree_with_one_in_nearly_all_codes(name, recipe, settings):
    limits, x = Limits(chunk=3, rows=2), images(name, 73)  # 4 chunks, the last of 25 images
    alone = walked(name, recipe, settings, limits, x)
    first, *others = right(
        together(lambda here: walked(name, recipe, settings, replace(limits, processes=here), x), 3)
    )
    for found in others:
        assert_same(found, first)
    same = torch.cat(
        [(first.weights[n].codes == w.codes).flatten() for n, w in alone.weights.items()]
    )
    assert same.double().mean() >= 0.9999
    for name_of, grid in alone.grids.items():
        assert torch.allclose(grid.scale, first.grids[name_of].scale, rtol=1e-5)
    assert first.sqnr_db == pytest.approx(alone.sqnr_db, rel=1e-3)


@pytest.mark.parametrize("of", ["layers", "channels"])
def test_a_budget_is_met_together(of):
    recipe = subbyte.load_recipe("w4", ["budget=4bits", f"budget_for={of}"])
    limits, x = Limits(chunk=16), images("shared")
    alone = meet_budget(captured("shared"), recipe, x, limits=limits)
    for plan, options in right(
        together(
            lambda here: meet_budget(
                captured("shared"), recipe, x, limits=replace(limits, processes=here)
            )
        )
    ):
        assert plan == alone[0] and options == alone[1]


def test_values_that_are_no_numbers_are_everybodys_error():
    x = images("residual").clone()
    x[-1, 0, 0, 0] = torch.nan  # an image of the second process

    def work(here: Processes) -> WalkResult:
        return walked("residual", "w8a8", (), Limits(chunk=16, processes=here), x)

    for found in together(work):
        assert isinstance(found, NumericsError) and "holds NaN" in str(found)


def quantized(here: Processes, name: str = "shared", **given: Any) -> Any:
    """The central verb, for a network that is captured already."""
    return carry_out(
        lambda: captured(name),
        given.get("wanted", subbyte.load_recipe("w4a8")),
        given.get("x", images(name)),
        accept=given.get("accept", lambda plan: None),
        limits=Limits(chunk=given.get("chunk", 8), rows=given.get("rows", 250), processes=here),
    ).model


def test_an_error_of_one_process_is_the_end_of_all():
    def work(here: Processes) -> Any:
        def accept(plan: object) -> None:
            if here.rank == 1:
                raise OSError("no space left")

        return quantized(here, x=images("shared", 48), accept=accept)

    first, second, third = together(work, 3)
    assert isinstance(second, OSError)
    for other in (first, third):
        assert isinstance(other, ProcessError) and str(other) == "process 1 of 3: no space left"


@dataclass(frozen=True)
class Refusing(Rounding):
    """Rounds nothing."""

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        raise RecipeError("not today")


def test_an_error_of_the_first_which_decides_reaches_all():
    plan = make_plan(captured("shared"), subbyte.load_recipe("w4"))
    refused = replace(plan, layers=tuple(replace(p, rounding=Refusing()) for p in plan.layers))

    def work(here: Processes) -> Any:
        return quantized(here, "shared", wanted=refused)

    first, second = together(work)
    assert (
        isinstance(first, RecipeError) and str(first) == "layer 'inner': Refusing.round: not today"
    )
    assert isinstance(second, ProcessError) and str(second) == f"process 0 of 2: {first}"


@pytest.mark.parametrize("verb", ["_carrier", "_broadcast"])
def test_memory_that_runs_out_between_two_words_is_said_as_what_it_is(verb, monkeypatch):
    honest = getattr(Threaded, verb)

    def failing(self: Threaded, *args: Any) -> Any:
        if self.rank == 1 or verb == "_broadcast":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest(self, *args)

    monkeypatch.setattr(Threaded, verb, failing)
    first, second = together(quantized)
    assert isinstance(second, ResourceError) and "out of memory; give fewer" in str(second)
    if verb == "_carrier":
        assert isinstance(first, ProcessError) and str(first) == f"process 1 of 2: {second}"


def test_who_goes_without_a_word_ends_the_others():
    def work(here: Processes) -> Any:
        if here.rank == 1:
            raise KeyboardInterrupt
        return quantized(here)

    first, second = together(work)
    assert isinstance(second, KeyboardInterrupt)
    assert isinstance(first, ProcessError) and "process 0 of 2 has lost another" in str(first)


def test_what_can_not_be_shared_is_said_before_the_work():
    def never(plan: object) -> None:
        raise AssertionError

    def refused(**given: Any) -> set[str]:
        found = together(lambda here: quantized(here, "shared", accept=never, **given))
        assert all(isinstance(one, DataError | RecipeError) for one in found)
        return set(map(str, found))

    (few,) = refused(chunk=64)
    assert "40 calibration samples are 1 chunks of 64, fewer than the 2 processes" in few
    (steps,) = refused(wanted=subbyte.load_recipe("w4", ["tune=cascade"]))
    assert "tune: every step of it needs the one before" in steps


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"x": images("shared", seed=6)}, "calibration samples"),
        ({"x": images("shared", count=32)}, "calibration samples"),
        ({"name": "functional"}, "networks"),
        ({"chunk": 7}, "sizes of a chunk (8, 7)"),
        ({"rows": 0}, "numbers of rows (250, 0)"),
        ({"wanted": subbyte.load_recipe("w4a8", ["weights.range=minmax"])}, "recipes"),
    ],
)
def test_processes_that_were_given_different_things_say_so(given, what):
    def work(here: Processes) -> Any:
        return quantized(here, **({"name": "shared"} | (given if here.rank == 1 else {})))

    for found in together(work):
        assert isinstance(found, DataError) and f"2 processes have different {what}" in str(found)


def test_processes_that_were_given_different_plans_say_so():
    def work(here: Processes) -> Any:
        recipe = subbyte.load_recipe(("w4", "w3")[here.rank])
        return quantized(here, wanted=make_plan(captured("shared"), recipe))

    for found in together(work):
        assert isinstance(found, DataError) and "2 processes have different plans" in str(found)


def environment() -> dict[str, str]:
    paths = os.pathsep.join([*sys.path, str(ROOT)])
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(place: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A command, run by two processes in a folder."""
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)],
        cwd=place,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
    )


GIVEN = ("--model", "net.py:net", "--weights", "net.safetensors", "--data", "npz:data.npz")
OPTIONS = ("quantize", *GIVEN, "--calibration", "64", "--chunk", "32", "--recipe", "w4a4")
OPTIONS = (*OPTIONS, "--no-bench")


@pytest.mark.slow
def test_the_command_line_under_torchrun_writes_what_one_process_writes(tmp_path):
    lay_out(tmp_path)
    before = names_in(tmp_path)
    done = torchrun(tmp_path, "-m", "subbyte", *OPTIONS, "--out", "two")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("written to") == 1
    alone = [sys.executable, "-m", "subbyte", *OPTIONS, "--out", "one"]
    subprocess.run(alone, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    ours, theirs = (names_in(tmp_path / name) for name in ("one", "two"))
    assert ours == theirs and {n.split("/")[0] for n in names_in(tmp_path) - before} == {
        "one",
        "two",
    }
    for name in ("model.safetensors", "model.onnx", "plan.yaml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


SCRIPT = """
import sys
from pathlib import Path
import torch.distributed as dist
import subbyte
from subbyte.core import QTensor
from subbyte.engine import layers
from subbyte.errors import ProcessError
from tests.engine.test_walk_shared import images, build

x = images("residual", 32)

dist.init_process_group("gloo")
rank = dist.get_rank()
layers._MIN_ROWS = 64
limits = subbyte.Limits(chunk=16, rows=2, processes=subbyte.processes())
if rank == 0:  # alone, while the other one waits
    subbyte.quantize(build("tokens"), images("tokens"), "w4")
model = subbyte.quantize(build("residual"), x, "w4a4", limits=limits)
subbyte.save(model, Path(sys.argv[1]) / f"{rank}.safetensors")
honest = layers.MomentCollector.add
def failing(*args):
    if rank == 1:
        raise RuntimeError("out of memory")
    honest(*args)
layers.MomentCollector.add = failing
try:
    subbyte.quantize(build("residual"), x, "w4a4", limits=limits)
except Exception as error:
    (Path(sys.argv[1]) / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_gloo_processes_of_a_script_are_as_one_and_fail_together(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = torchrun(tmp_path, "script.py", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    limits = Limits(chunk=16, rows=2)
    model = subbyte.quantize(build("residual"), images("residual", 32), "w4a4", limits=limits)
    subbyte.save(model, tmp_path / "alone.safetensors")
    alone, *others = (tmp_path / f"{name}.safetensors" for name in ("alone", 0, 1))
    assert all(other.read_bytes() == alone.read_bytes() for other in others)
    assert (tmp_path / "0.txt").read_text() == "ProcessError: process 1 of 2: out of memory"
    assert (tmp_path / "1.txt").read_text() == "RuntimeError: out of memory"
