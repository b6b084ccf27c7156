"""What a YAML file says, and which runs it makes."""

import pytest

from subbyte.analyses.sweeps import SPACES, load_space, make_runs
from subbyte.analyses.sweeps.space import axis_values
from subbyte.analyses.sweeps.store import task_of
from subbyte.errors import RecipeError
from tests.analyses.sweeps.place import read_space, space_of, tasks_of

PLACE = "model: m\ndata: d\n"


def made(text, tmp_path, **changes):
    return [run.setting for run in make_runs(read_space(PLACE + text, tmp_path, **changes))]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("1..8", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("1..8..3", [1, 4, 7]),
        ("3..3", [3]),
        ("-2..0", [-2, -1, 0]),
        ("0.5..2", [0.5, 1.5]),
        ("1..2..0.5", [1.0, 1.5, 2.0]),
        ("1e-3..3e-3..1e-3", [0.001, 0.002, 0.003]),
        ([4, "ternary", None], [4, "ternary", None]),
        ("gpfq", ["gpfq"]),
        (4, [4]),
        (None, [None]),
        ({"name": "gpfq"}, [{"name": "gpfq"}]),
    ],
)
def test_axes(values, expected):
    found = axis_values("a", values)
    assert found == expected and list(map(type, found)) == list(map(type, expected))


def test_steps_are_exact():
    found = axis_values("a", "1.0..2.0..0.05")
    assert len(found) == 21 and list(map(repr, found)) == [
        repr(round(1 + k / 20, 2)) for k in range(21)
    ]


@pytest.mark.parametrize(
    "values", [[], "8..1", "1..b", "..", "1..2..0", "1..2..-1", "1..inf", "1..2..3..4", "nan..2"]
)
def test_odd_axes(values):
    with pytest.raises(RecipeError, match=r"axis weights\.bits"):
        axis_values("weights.bits", values)


def test_paths_are_no_ranges():
    assert axis_values("data", "npz:../data.npz") == ["npz:../data.npz"]


def test_order_of_runs(tmp_path):
    space = read_space(
        PLACE
        + """
grid: {weights.bits: 2..3, weights.scalar: [1.0, 1.5]}
pairs: [{activations.bits: [4, 8], input.bits: [6, 7]}]
list: [{weights.bits: ternary}]
seeds: [5, 3]
""",
        tmp_path,
    )
    runs = make_runs(space)
    assert space.axes == ("weights.bits", "weights.scalar", "activations.bits", "input.bits")
    assert space.count() == len(runs) == 18
    shown = [
        (
            run.setting["weights.bits"],
            run.setting.get("weights.scalar"),
            run.setting.get("input.bits"),
            run.seed,
        )
        for run in runs
    ]
    assert shown[:6] == [
        (2, 1.0, 6, 5),
        (2, 1.0, 6, 3),
        (2, 1.0, 7, 5),
        (2, 1.0, 7, 3),
        (2, 1.5, 6, 5),
        (2, 1.5, 6, 3),
    ]
    assert shown[-2:] == [("ternary", None, None, 5), ("ternary", None, None, 3)]
    assert runs[2].recipe.weights.bits == 2 and runs[2].recipe.activations.bits == 8


def test_only_and_except(tmp_path):
    text = "grid: {weights.bits: 1..4, weights.scalar: [1.0, 2.0]}\n"
    only = "only: [{weights.bits: [2, 3]}, {weights.bits: 4, weights.scalar: 2}]\n"
    drop = "except: [{weights.bits: 3, weights.scalar: 1.0}]\n"
    found = [tuple(one.values()) for one in made(text + only + drop, tmp_path)]
    assert found == [(2, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]
    assert read_space(PLACE + text + only + drop, tmp_path).count() == 8


def test_single_runs(tmp_path):
    assert made("list: [{weights.bits: 3}, {weights.scalar: 1.5}]", tmp_path) == [
        {"weights.bits": 3},
        {"weights.scalar": 1.5},
    ]
    assert made("", tmp_path) == [{}]
    assert (
        len(
            made(
                "list: [{weights.bits: 3}]\nexcept: [{weights.bits: 4}]\ngrid: {weights.bits: [3, "
                "4]}",
                tmp_path,
            )
        )
        == 2
    )


def test_null_is_a_value(tmp_path):
    runs = make_runs(
        read_space(PLACE + "recipe: w4a4\ngrid: {weights.allocate: [null, optimum]}", tmp_path)
    )
    assert [run.recipe.weights.allocate is None for run in runs] == [True, False]
    dropped = "grid: {weights.allocate: [null, optimum]}\nexcept: [{weights.allocate: null}]"
    assert made(dropped, tmp_path) == [{"weights.allocate": "optimum"}]


def test_what_all_runs_set_and_what_replaces_it(tmp_path):
    text = (
        "recipe: w4\nset: {weights.bits: 5, calibration: 30}\ngrid: {weights.scalar: [1.5], "
        "calibration: [10, 20]}"
    )
    runs = make_runs(read_space(PLACE + text, tmp_path, model="mine", seeds=[3]))
    assert [(run.calibration, run.recipe.weights.bits, run.model, run.seed) for run in runs] == [
        (10, 5, "mine", 3),
        (20, 5, "mine", 3),
    ]


def test_places_are_axes(tmp_path):
    text = "grid: {recipe: [w4, w3], data: [a, b], resize: [null, 9], seed: 1..2}"
    runs = make_runs(read_space(PLACE + text, tmp_path))
    assert len(runs) == 16 and {run.recipe.name for run in runs} == {"w4", "w3"}
    assert {(run.data, run.resize, run.seed) for run in runs} == {
        (data, resize, seed) for data in "ab" for resize in (None, 9) for seed in (1, 2)
    }


def test_counting_expands_nothing(tmp_path):
    space = read_space(
        PLACE + "grid: {weights.bits: 1..100000000000, weights.scalar: 0..1..0.1}", tmp_path
    )
    assert space.count() == 11 * 10**11
    with pytest.raises(RecipeError, match="1,100,000,000,000 runs are too many to list"):
        make_runs(space)


@pytest.mark.parametrize(
    "text", ["seeds: 0..99999999999", "pairs: [{weights.bits: 0..99999999999}]"]
)
def test_what_is_listed_when_it_is_read_fits_memory(text, tmp_path):
    with pytest.raises(RecipeError, match="100,000,000,000 values, too many to list"):
        read_space(PLACE + text, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grids: {a: 1}", "grids: unknown setting"),
        ("seeds: []", "seeds"),
        ("seeds: [0, x]", r"seeds\.1"),
        ("seeds: [1, 1]", "twice"),
        ("calibration: 0", "calibration"),
        ("measure: train", "measure"),
        ("measure: test\nchoose: quantized_top1_percent", "choose"),
        ("only: [{weight.bits: 3}]\ngrid: {weights.bits: [3]}", r"only: weight\.bits is no axis"),
        ("except: [{seed: 3}]", "except: seed is no axis"),
        ("grid: {weights.bits: [3]}\npairs: [{weights.bits: [4]}]", "an axis in grid and pairs"),
        ("pairs: [{weights.bits: [4, 3], weights.scalar: [1]}]", "equal length"),
        ("pairs: [{}]", "equal length"),
        ("pairs: [{weights.bits: []}]", "no run"),
        (
            "grid: {weights.bits: [3]}\nonly: [{weights.bits: 4}]",
            r"only: weights.bits is never 4 .* one of \[3\]",
        ),
        ("grid: {weights.bits: [3, 4]}\nonly: [{weights.bits: '3'}]", "is never '3'"),
        ("gird: {weights.bits: [3]}", "known here: .*set, grid, pairs, list, only, except"),
        ("fixed: {weights.bits: 3}", "unknown setting"),
        ("seeds: 3..1", "no values"),
        ("grid: {weights.bitz: [3]}", r"run \{'weights\.bitz': 3\}.*weights\.bitz"),
        ("grid: {weights.bits: [3, 99]}", r"run \{'weights\.bits': 99\}"),
        ("grid: {calibration: [many]}", r"run \{'calibration': 'many'\}: calibration"),
        ("grid: {seed: [x]}", r"run \{'seed': 'x'\}: seeds"),
        ("grid: {recipe: [w99]}", r"run \{'recipe': 'w99'\}"),
        ("grid: {model: ['']}", "model is missing"),
        ("- a", "mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_errors_say_where(text, expected, tmp_path):
    with pytest.raises(RecipeError, match=expected):
        make_runs(read_space(text if text.startswith(("-", "a:")) else PLACE + text, tmp_path))


def test_missing_places_and_files(tmp_path):
    with pytest.raises(RecipeError, match="model is missing"):
        make_runs(read_space("data: d", tmp_path))
    with pytest.raises(RecipeError, match="data is missing"):
        make_runs(read_space("model: m", tmp_path))
    with pytest.raises(RecipeError, match="neither a preset"):
        load_space(tmp_path / "none.yaml")


def test_presets():
    counts = {name: len(make_runs(load_space(name, {"data": "cifar10:x"}))) for name in SPACES}
    assert counts == {
        "gpfq-bits": 48,
        "gpfq-scalars": 126,
        "aciq-table": 60,
        "ldnq-levels": 30,
        "clips": 95,
        "ranges": 54,
    }
    assert all(load_space(name).count() == count for name, count in counts.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"calibration": 17},
        {"seeds": [2, 3, 4, 5]},
        {"measure": "test"},
        {"validation": 31},
        {"set": {"weights.scalar": 1.5}},
        {"set": {"activations.bits": 8}},
        {"recipe": "w8a8"},
    ],
)
def test_hashes_change_with_what_matters(changes, tmp_path):
    before, after = (tasks_of(space_of(tmp_path, **more)) for more in ({}, changes))
    assert not {task.key for task in before} & {task.key for task in after}


def test_hashes_do_not_change_with_what_does_not(tmp_path):
    axes = {"weights.bits": [2, 3], "weights.scalar": [1.0, 1.5]}
    first = space_of(tmp_path, grid=axes)
    turned = space_of(
        tmp_path, grid=dict(reversed(axes.items())), name="other", choose="packed_bytes"
    )
    (tmp_path / "same.yaml").write_text("name: same\n" + "\n".join(_preset("w4").splitlines()[1:]))
    renamed = space_of(tmp_path, grid=axes, recipe=str(tmp_path / "same.yaml"))
    keys = [{task.key for task in tasks_of(space)} for space in (first, turned, renamed)]
    assert keys[0] == keys[1] == keys[2] and len(keys[0]) == 8


def _preset(name):
    import yaml

    from subbyte.recipe import load_recipe

    return "name: x\n" + yaml.safe_dump(
        {
            key: value
            for key, value in load_recipe(name).model_dump(mode="json").items()
            if key != "name"
        }
    )


def test_identity_and_version_are_in_the_hash(tmp_path):
    run = make_runs(space_of(tmp_path))[0]
    assert len({task_of(run, a, b).key for a in ("x", "y") for b in ("1", "2")}) == 4


def test_validation_size_does_not_matter_to_tests(tmp_path):
    first, second = (tasks_of(space_of(tmp_path, measure="test", validation=v)) for v in (20, 30))
    assert [task.key for task in first] == [task.key for task in second]


def test_a_label_is_no_setting(tmp_path):
    space = read_space(
        "model: resnet20\ndata: digits\npairs: [{label: [a, b], weights.bits: [3, 4]}]\nset: "
        "{label: c}",
        tmp_path,
    )
    runs = make_runs(space)
    assert [run.setting["label"] for run in runs] == ["a", "b"] and [
        run.recipe.weights.bits for run in runs
    ] == [3, 4]


def test_ranges_are_read_everywhere(tmp_path):
    text = (
        "model: resnet20\ndata: digits\nseeds: 0..2\npairs: [{weights.bits: 2..3, "
        "activations.bits: [8, 4]}]"
    )
    space = read_space(text, tmp_path)
    assert space.seeds == [0, 1, 2] and space.count() == 6
    assert [run.recipe.weights.bits for run in make_runs(space)] == [2, 2, 2, 3, 3, 3]


def test_a_space_that_is_no_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not text in UTF-8"):
        load_space(tmp_path / "x.yaml")
