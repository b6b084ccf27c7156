"""Every target that comes along: recipes obey it, or are refused before the walk."""

from dataclasses import replace
from functools import cache

import onnx
import pytest
import torch

import subbyte
from subbyte.core import Grid, GridSpec, PerChannel, PerGroup, PerTensor, Uniform
from subbyte.errors import NumericsError, RecipeError
from subbyte.exporters.structure import misses
from subbyte.graph import Network, prepare
from subbyte.ranges import RANGES, fit_grid
from subbyte.recipe import (
    Plan,
    Recipe,
    for_target,
    load_request,
    load_target,
    make_plan,
    target_names,
)
from tests.networks import build, images

NAMES = target_names()
every_target = pytest.mark.parametrize("name", NAMES)
FREE = {"activations": {"bits": 8}}
"""A recipe that leaves all but the bits of activations open."""


@cache
def network() -> Network:
    return prepare(build("residual"), images("residual"))


def free(name: str) -> dict[str, object]:
    """The recipe that leaves most open, with the widest weights that a target takes."""
    return FREE | {"weights": {"bits": max(load_target(name).weights.bits)}}


def planned(name: str, **changes: object) -> Plan:
    request = for_target(load_request(free(name) | changes), name)
    return make_plan(network(), request)


def test_those_that_users_ask_for_are_there():
    wanted = {"ort-x86", "ort-x86-avx2", "ort-arm", "openvino", "tensorrt", "xnnpack", "int8-mcu"}
    assert wanted <= set(NAMES)


@every_target
def test_what_a_recipe_leaves_open_is_as_the_target_takes_it(name):
    target, plan = load_target(name), planned(name)
    assert plan.target == name
    for layer in plan.layers:
        alphabet, share = layer.spec.alphabet, layer.spec.share
        assert alphabet.bits in target.weights.bits
        assert share.kind in target.weights.granularity
        assert not (target.weights.symmetric is True and alphabet.has_zero_point)
        assert not (target.weights.narrow is True and alphabet.qmin != -alphabet.qmax)
        assert layer.spec.powers == (target.scales != "any")
    for tap in plan.taps:
        assert tap.spec.alphabet.bits in target.activations.bits
        assert not (target.activations.symmetric is True and tap.spec.alphabet.has_zero_point)
    target.check(plan)
    assert Plan.from_yaml(plan.to_yaml()) == plan


@every_target
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"weights": {"bits": 6, "granularity": "group", "group_size": 4}}, "layer stem"),
        ({"weights": {"rounding": "nearest", "levels": [-1, 0, 3]}}, "layer stem"),
        ({"activations": {"bits": 8, "dynamic": True, "range": "minmax"}}, "activation"),
    ],
)
def test_what_it_does_not_take_is_refused_by_name(name, changes, where):
    with pytest.raises(RecipeError, match=rf"target {name}: {where}.*(it takes|set )"):
        planned(name, **changes)


@every_target
def test_all_that_a_target_forbids_is_found_in_a_plan(name):
    """The check against plans that were made for nobody."""
    target, plan = load_target(name), planned(name)
    layer, tap = plan.layers[0], plan.taps[0]
    bad = [replace(layer, spec=replace(layer.spec, share=PerGroup(2)))]
    if target.weights.symmetric is True:
        asymmetric = Uniform(layer.spec.alphabet.bits, symmetric=False)
        bad.append(replace(layer, spec=replace(layer.spec, alphabet=asymmetric)))
    if target.weights.narrow is True:
        wide = Uniform(layer.spec.alphabet.bits)
        bad.append(replace(layer, spec=replace(layer.spec, alphabet=wide)))
    if target.scales != "any":
        bad.append(replace(layer, spec=replace(layer.spec, powers=False)))
    if target.required:
        bad.append(replace(layer, spec=None, reason="skipped by the recipe"))
    for one in bad:
        with pytest.raises(RecipeError, match=f"target {name}: layer stem"):
            target.check(replace(plan, layers=(one, *plan.layers[1:])))
    if target.activations.symmetric is True:
        unsigned = replace(tap.spec, alphabet=Uniform(8, signed=False, symmetric=False))
        with pytest.raises(RecipeError, match=f"target {name}: activation input"):
            target.check(replace(plan, taps=(replace(tap, spec=unsigned), *plan.taps[1:])))


def test_what_is_stated_is_not_changed():
    stated = load_request("w8a8", ["activations.symmetric=false"])
    with pytest.raises(RecipeError, match=r"tensorrt: activation .*activations\.symmetric=true"):
        make_plan(network(), for_target(stated, "tensorrt"))
    chosen = make_plan(network(), for_target(load_request("w8a8"), "tensorrt"))
    assert "for tensorrt: symmetric true" in chosen.taps[0].reason
    assert "for tensorrt: narrow true" in chosen.layers[0].reason


def test_weights_of_any_width_are_exact_on_older_processors():
    """Two products of the largest code with inputs of 255 stay in 16 bits."""
    for bits in range(2, 8):
        for symmetric in (True, False):
            request = {"weights": {"bits": bits, "symmetric": symmetric}, **FREE}
            largest = 2 ** (bits - 1) if symmetric else 2**bits - 1
            wanted = for_target(load_request(request), "ort-x86-avx2")
            if 255 * 2 * largest <= 2**15 - 1:
                make_plan(network(), wanted)
            else:
                with pytest.raises(RecipeError, match="symmetric=true"):
                    make_plan(network(), wanted)
    with pytest.raises(RecipeError, match=r"8 bits; it takes 2 to 7; set weights\.bits=7"):
        make_plan(network(), for_target(load_request("w8a8"), "ort-x86-avx2"))


def test_float_where_integers_are_required_is_refused():
    for recipe in ("w4", {**FREE, "layers": {"fc": {"skip": True}}}):
        with pytest.raises(RecipeError, match="target xnnpack: "):
            make_plan(network(), for_target(load_request(recipe), "xnnpack"))


def test_a_file_of_the_users_is_a_target(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("about: mine\nweights: {bits: [5]}\nactivations: {bits: [8]}\n")
    with pytest.raises(RecipeError, match=r"weights\.granularity: is missing"):
        load_target(str(file))
    file.write_text(
        "about: mine\nweights: {bits: [5], granularity: [tensor]}\nactivations: {bits: [8]}\n"
    )
    recipe = Recipe(weights={"bits": 5}, activations={"bits": 8}, target=str(file))
    assert all(one.spec.share == PerTensor() for one in make_plan(network(), recipe).layers)
    with pytest.raises(RecipeError, match="unknown target 'yours'; known: int8-mcu"):
        load_target("yours")


def test_a_budget_chooses_among_what_a_target_takes():
    request = load_request({"budget": "6bits", "widths": ["ternary", 3, 8], **FREE})
    with pytest.raises(RecipeError, match="set budget_for=layers"):
        make_plan(network(), for_target(load_request(request, ["budget_for=channels"]), "openvino"))
    plan = make_plan(network(), for_target(request, "ort-x86-avx2"))
    assert all(layer.budget is not None for layer in plan.layers)


@pytest.mark.parametrize("method", ["mse", "minmax", "percentile", "sigma", "aciq"])
@pytest.mark.parametrize("share", [PerTensor(), PerChannel(), PerGroup(8)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_are_powers_of_two_with_the_least_error_around(method, share, symmetric):
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(1)) * 0.37
    spec = GridSpec(Uniform(4, symmetric=symmetric), share, powers=True)
    grid = fit_grid(RANGES.build(method), x, spec)
    assert torch.equal(torch.frexp(grid.scale)[0], torch.full_like(grid.scale, 0.5))
    error = share.sums((grid.quantize(x) - x).square())
    free = fit_grid(RANGES.build(method), x, replace(spec, powers=False))
    near = (grid.scale / free.scale).log2().abs()
    assert float(near.max()) < 2
    for factor in (0.5, 2):
        other = grid.with_scale(grid.scale * factor)
        within = (other.scale / free.scale).log2()
        worse = share.sums((other.quantize(x) - x).square())
        tried = (within < 1) & (within > -2)
        assert bool((worse >= error)[tried].all())


def test_other_scales_are_rounded_to_the_nearest_power_or_refused():
    spec = GridSpec(Uniform(4), powers=True)
    exact = torch.tensor([2.0**k for k in range(-40, 40)])
    assert torch.equal(spec.allowed(exact), exact)
    assert torch.equal(spec.allowed(exact * 1.41), exact) and torch.equal(
        spec.allowed(exact * 1.42), 2 * exact
    )
    with pytest.raises(NumericsError, match="powers of two"):
        Grid(spec, torch.tensor(0.3), torch.tensor(0, dtype=torch.int32), torch.empty(0))
    assert GridSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "rounding",
    [
        "corrected",
        "beacon",  # chooses its scales itself
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpfq", "ldnq", "adaround")),
        pytest.param("descent", marks=pytest.mark.slow),
    ],
)
def test_roundings_end_on_powers_of_two(rounding, tmp_path):
    weights = {"bits": 4, "scales": "powers-of-two", "rounding": rounding}
    values = {"bits": 8, "scales": "powers-of-two"}
    recipe = {"weights": weights, "activations": values, "others": values, "input": values}
    model = subbyte.quantize(build("shared"), images("shared"), recipe)
    grids = [weight.grid for weight in model.weights.values()]
    grids += [model.instrumented.tap(tap.name).grid for tap in model.plan.taps]
    for grid in grids:
        assert bool((torch.frexp(grid.scale)[0] == 0.5).all())
    subbyte.save(model, tmp_path / "net.safetensors")
    loaded = subbyte.load(tmp_path / "net.safetensors", build("shared", seed=2))
    assert torch.equal(loaded(images("shared")), model(images("shared")))


def test_files_are_held_against_a_target(tmp_path):
    model = subbyte.quantize(
        build("residual"), images("residual"), free("int8-mcu"), target="int8-mcu"
    )
    subbyte.export(model, tmp_path / "net.onnx", images("residual"))  # with a fixed batch
    assert misses(load_target("int8-mcu"), tmp_path / "net.onnx") == []
    free_sizes = subbyte.quantize(build("residual"), images("residual"), free("int8-mcu"))
    subbyte.export(free_sizes, tmp_path / "free.onnx", images("residual"))
    assert misses(load_target("int8-mcu"), tmp_path / "free.onnx") == [
        "free sizes: batch; it takes fixed ones"
    ]
    assert misses(load_target("openvino"), tmp_path / "net.onnx") == []
    program = onnx.load(tmp_path / "net.onnx")
    program.graph.node[-1].op_type = "Erf"
    onnx.save(program, tmp_path / "other.onnx")
    found = misses(load_target("int8-mcu"), tmp_path / "other.onnx")
    assert found[0] == "operations that it has not: Erf"
