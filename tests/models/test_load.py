"""load_model: built-in networks, stand-ins for torchvision and timm, users' files."""

import logging
import sys
import types
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from subbyte.errors import ModelError
from subbyte.models import MODELS, input_shape, lenet, load_model
from subbyte.models.built_in import find_entry


@pytest.mark.parametrize("name", MODELS)
def test_built_in_networks_take_their_input_and_are_in_eval_mode(name, caplog):
    assert MODELS[name].name == name and MODELS[name].description
    with caplog.at_level(logging.WARNING, "subbyte"), torch.device("meta"):  # some are large
        model = load_model(name)
    assert "random weights" in caplog.text
    assert not any(m.training for m in model.modules())
    shape = input_shape(name)
    assert shape is not None
    assert model(torch.empty(2, *shape, device="meta")).shape == (2, MODELS[name].classes)


def test_input_shapes():
    assert input_shape("lenet") == (1, 28, 28) and input_shape("lenet-digits") == (1, 8, 8)
    assert input_shape("resnet20") == (3, 32, 32)
    assert input_shape("timm:resnet18") is None and input_shape("x.py:f") is None


def test_weights_are_loaded(tmp_path, caplog):
    source = lenet()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING, "subbyte"):
        model = load_model("lenet", tmp_path / "w.pth")
    assert torch.equal(model.fc3.weight, source.fc3.weight) and not caplog.records
    with pytest.raises(ModelError, match=r"fc1\.weight"):
        load_model("lenet-digits", tmp_path / "w.pth")


WRAPPINGS = {
    "plain": lambda sd: sd,
    "parallel": lambda sd: {f"module.{k}": v for k, v in sd.items()},
    "wrapped": lambda sd: {"epoch": 3, "state_dict": sd},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(
    "name", ["lenet-digits", "resnet20", "cifar-resnet8", "mobilenet_v2-cifar"]
)
def test_the_weights_say_how_many_classes(tmp_path, name, wrapping):
    entry = find_entry(name)
    assert entry is not None
    source = entry.build(23)
    torch.save(WRAPPINGS[wrapping](source.state_dict()), tmp_path / "w.pth")
    model = load_model(name, tmp_path / "w.pth")
    assert model(torch.rand(2, *entry.input_shape)).shape == (2, 23)
    assert torch.equal(model.state_dict()[entry.head], source.state_dict()[entry.head])
    assert (
        load_model(name, tmp_path / "w.pth", 23).state_dict().keys() == source.state_dict().keys()
    )
    with pytest.raises(ModelError, match=rf"{entry.head} is \[23, \d+\] there, \[10, \d+\] here"):
        load_model(name, tmp_path / "w.pth", classes=10)


def test_classes_may_be_asked_for_without_weights():
    assert load_model("lenet-digits", classes=3)(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    with pytest.raises(ModelError, match="classes=0"):
        load_model("lenet-digits", classes=0)


@pytest.mark.parametrize(
    "head", [None, torch.ones(()), torch.ones(10), torch.ones(0, 84), torch.ones(10, 84, 1)]
)
def test_a_file_without_a_sensible_head_is_refused_as_ever(tmp_path, head):
    state = lenet().state_dict()
    del state["fc3.weight"]
    torch.save(state if head is None else state | {"fc3.weight": head}, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"first: fc3\.weight|fc3\.weight is \[.*\] there, \[10, 84\] here"
    ):
        load_model("lenet", tmp_path / "w.pth")


def test_the_file_is_read_once(tmp_path, monkeypatch):
    torch.save(lenet().state_dict(), tmp_path / "w.pth")
    calls: list[object] = []
    monkeypatch.setattr(
        torch, "load", lambda *args, load=torch.load, **kw: calls.append(args) or load(*args, **kw)
    )
    load_model("lenet", tmp_path / "w.pth")
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [str, Path])
def test_built_in_weights_have_names(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("subbyte.models.weights.PRETRAINED", tmp_path)
    source = lenet(classes=4)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "lenet-four.safetensors")
    assert torch.equal(
        load_model("lenet", kind("builtin:lenet-four")).fc3.weight, source.fc3.weight
    )
    with pytest.raises(ModelError, match=r"no built-in weights 'x'; known: lenet-four$"):
        load_model("lenet", kind("builtin:x"))


@pytest.mark.parametrize(
    ("spec", "near"),
    [("resnet21", "resnet20"), ("lenet_digits", "lenet-digits"), ("quark", None), ("", None)],
)
def test_unknown_names_list_the_valid_ones(spec, near):
    with pytest.raises(ModelError) as caught:
        load_model(spec)
    hint, _, valid = str(caught.value).partition("Valid names:")
    assert (
        all(name in valid for name in MODELS)
        and "torchvision:NAME" in valid
        and ".py:callable" in valid
    )
    assert ("did you mean" in hint) == (near is not None) and (near or "") in hint


class Library:
    """Remembers how it was asked for networks; `fails` is raised instead of building one."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.fails: Exception | None = None

    def build(self, name: str, pretrained: object) -> nn.Module:
        self.calls.append((name, pretrained))
        if self.fails is not None:
            raise self.fails
        return nn.Sequential(nn.Linear(2, 2), nn.Dropout())


@pytest.fixture(params=["torchvision", "timm"])
def library(request, monkeypatch):
    """Stand-in modules with the calls of the real ones: (library's name, its record)."""
    record = Library()
    names = ["resnet18", "resnet50", "vit_b_16"]
    module = types.ModuleType(request.param)
    if request.param == "torchvision":
        models = types.ModuleType("torchvision.models")
        models.list_models = lambda: names
        models.get_model = lambda name, *, weights: record.build(name, weights)
        models.get_model_builder = lambda name: lambda *, weights=None: None
        module.models = models
        monkeypatch.setitem(sys.modules, "torchvision.models", models)
    else:
        module.is_model = names.__contains__
        module.list_models = lambda: names
        module.create_model = lambda name, *, pretrained: record.build(name, pretrained)
    monkeypatch.setitem(sys.modules, request.param, module)
    return request.param, record


def test_libraries_build_pretrained_networks_by_their_own_call(library):
    name, record = library
    model = load_model(f"{name}:resnet18")
    assert record.calls == [("resnet18", "DEFAULT" if name == "torchvision" else True)]
    assert not any(m.training for m in model.modules())


def test_given_weights_go_before_the_librarys(library, tmp_path):
    name, record = library
    source = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = load_model(f"{name}:resnet50", tmp_path / "w.pth")
    assert record.calls == [("resnet50", None if name == "torchvision" else False)]
    assert torch.equal(model[0].weight, source[0].weight)


def test_names_that_a_library_lacks_have_near_matches(library):
    name, record = library
    with pytest.raises(
        ModelError,
        match=rf"no network '{name}:resnet19', did you mean resnet18.* the 3 that list_models\(\)",
    ):
        load_model(f"{name}:resnet19")
    assert not record.calls


def test_a_failed_download_is_explained(library):
    name, record = library
    record.fails = OSError("no route to host")
    with pytest.raises(
        ModelError, match=r"pretrained weights \(OSError: no route to host\).*file \(--weights\)"
    ):
        load_model(f"{name}:resnet18")


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_library_that_is_not_there_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, f"{name}.models", None)
    with pytest.raises(
        ModelError, match=rf"needs {name}, which cannot be imported .*subbyte\[vision\]"
    ):
        load_model(f"{name}:resnet18")


def user_file(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_users_file_may_import_its_neighbours_and_leaves_sys_path_alone(tmp_path):
    user_file(tmp_path, "WIDTH = 5\n", "subbyte_test_neighbour.py")
    text = "from torch import nn\ndef net():\n    from subbyte_test_neighbour import WIDTH\n"
    text += "    return nn.Linear(WIDTH, 2)\n"
    before = list(sys.path)
    model = load_model(f"{user_file(tmp_path, text)}:net")
    assert isinstance(model, nn.Linear) and model.in_features == 5 and not model.training
    assert sys.path == before and "mine" not in sys.modules


def test_random_weights_are_the_same_each_time_and_take_no_number_from_others(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Linear(3, 2)"
    )
    torch.manual_seed(1)
    expected = torch.rand(1)
    for spec in (f"{tmp_path / 'net.py'}:net", "lenet"):
        torch.manual_seed(1)
        first = load_model(spec).state_dict()
        assert torch.equal(torch.rand(1), expected)
        again = load_model(spec).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_two_files_of_one_name_do_not_mix_and_keep_their_modules(tmp_path):
    models = []
    for width in (3, 4):
        folder = tmp_path / str(width)
        folder.mkdir()
        text = "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self):\n"
        text += f"        super().__init__({width}, 2)\n"
        models.append(load_model(f"{user_file(folder, text)}:Net"))
    assert [m.in_features for m in models] == [3, 4]
    for model in models:  # each is found again where it says that it is from
        assert vars(sys.modules[type(model).__module__])["Net"] is type(model)


CASES = {
    "raises in a helper": (
        "def f():\n    return g()\ndef g():\n    raise KeyError('k')\n",
        r"mine.py, line 4: f\(\) raised KeyError: 'k'",
    ),
    "raises outside": (
        "import json\ndef f():\n    return json.loads('{')\n",
        r"mine.py, line 3: f\(\) raised JSONDecodeError",
    ),
    "raises when executed": (
        "x = 1\ny = x / 0\n",
        r"mine.py, line 2: executing the file raised ZeroDivisionError: division",
    ),
    "syntax": ("x = 1\n\ndef f(:\n", r"mine.py, line 3: executing the file raised SyntaxError"),
    "imports nothing": (
        "import no_such_module_x\n",
        r"line 1: .*ModuleNotFoundError: No module named 'no_such_module_x'",
    ),
    "exits": (
        "import sys\nsys.exit(3)\n",
        r"mine.py, line 2: executing the file raised SystemExit: 3",
    ),
    "takes arguments": (
        "def f(a):\n    pass\n",
        r"mine.py: f\(\) raised TypeError: f\(\) missing 1 required",
    ),
    "lacks it": ("def g():\n    pass\n", r"'f' is not in it; its callables are: g"),
    "is a number": ("f = 3\n", r"'f' is not callable; its callables are: none"),
    "returns a number": (
        "def f():\n    return 3\n",
        r"f\(\) returned a int; it must return a torch.nn.Module",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_users_mistakes_are_explained(tmp_path, case):
    text, message = CASES[case]
    before = list(sys.path), set(sys.modules)
    with pytest.raises(ModelError, match=message):
        load_model(f"{user_file(tmp_path, text)}:f")
    assert sys.path == before[0]
    if "executing" in message:
        assert not [m for m in set(sys.modules) - before[1] if m.startswith("_subbyte_user")]


def test_weights_in_the_place_of_a_network_are_named(tmp_path):
    torch.save(lenet().state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w.pth is a file, but no network: give weights as --wei"):
        load_model(str(tmp_path / "w.pth"))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere.py: there is no such file"):
        load_model(f"{tmp_path / 'nowhere.py'}:f")
    with pytest.raises(ModelError, match=r"which of its callables\?"):
        load_model(f"{user_file(tmp_path, '')}:")
    with pytest.raises(ModelError, match=r"which of its callables\?"):
        load_model(str(tmp_path / "mine.py"))
