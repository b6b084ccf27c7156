"""The built-in networks: each takes its input, knows its head, and most of all can be captured."""

import re

import pytest
import torch
from torch import nn

from subbyte.errors import ModelError
from subbyte.graph import prepare
from subbyte.models import MODELS, input_shape, load_model
from subbyte.models.built_in import find_entry

IMAGENET = {name for name, entry in MODELS.items() if entry.input_shape == (3, 224, 224)}


@pytest.mark.parametrize(
    ("name", "classes"), [*((name, None) for name in MODELS), ("cifar-resnet8", 7), ("cnn", 7)]
)
def test_every_network_takes_its_input_and_gives_as_many_logits_as_asked(name, classes):
    entry = find_entry(name)
    assert entry is not None and entry.name == name and entry.description
    with torch.device("meta"):
        model = entry.build() if classes is None else entry.build(classes)
        logits = model.eval()(torch.empty(1, *entry.input_shape))
    wanted = classes or (1000 if name in IMAGENET else 10)
    assert logits.shape == (1, wanted) and (classes or entry.classes) == wanted
    head = model.state_dict()[entry.head]
    assert head.ndim == 2 and len(head) == wanted
    linear = [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert linear[-1] == entry.head


def test_the_names():
    assert len(IMAGENET) == 8 and len(MODELS) == 36
    assert {
        "cnn",
        "resnet34",
        "resnet50-cifar",
        "vgg13_bn",
        "vgg16_bn-cifar",
        "mobilenet_v2-cifar",
    } <= set(MODELS)
    assert {f"{name}-cifar" for name in IMAGENET} <= set(MODELS)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *(
            (f"resnet{depth}{kind}", side)
            for depth in (18, 34, 50)
            for kind, side in (("", 7), ("-cifar", 4))
        ),
        *(
            (f"vgg{depth}_bn{kind}", side)
            for depth in (11, 13, 16, 19)
            for kind, side in (("", 14), ("-cifar", 2))
        ),
        ("mobilenet_v2", 7),
        ("mobilenet_v2-cifar", 4),
    ],
)
def test_the_side_of_the_last_maps(name, side):
    with torch.device("meta"):
        model = MODELS[name].build().eval()
    sides: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    model(torch.empty(1, *MODELS[name].input_shape, device="meta"))
    assert sides[-1] == side


@pytest.mark.parametrize("name", MODELS)
def test_descriptions_give_the_true_number_of_parameters(name):
    entry = MODELS[name]
    with torch.device("meta"):
        count = sum(p.numel() for p in entry.build().parameters())
    found = re.search(r"([\d.]+) (thousand|million) parameters", entry.description)
    if name == "lenet-digits":
        assert found is None
        return
    assert found is not None
    unit = 10**3 if found[2] == "thousand" else 10**6
    digits = len(found[1].partition(".")[2])
    assert round(count / unit, digits) == float(found[1])


@pytest.mark.parametrize(
    ("depth", "parameters"), [(8, 75_290), (20, 269_722), (50, 755_802), (110, 1_727_962)]
)
def test_any_depth_of_the_family(depth, parameters):
    name = f"cifar-resnet{depth}"
    with torch.device("meta"):
        model = load_model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth and input_shape(name) == (3, 32, 32)
    if f"resnet{depth}" in MODELS and depth != 50:
        with torch.device("meta"):
            assert list(load_model(f"resnet{depth}").state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("depth", [0, 2, 7, 18, 21, 34, 100])
@pytest.mark.parametrize("ask", [load_model, input_shape])
def test_a_depth_that_the_family_lacks(ask, depth):
    with pytest.raises(
        ModelError, match=rf"no network 'cifar-resnet{depth}'.*is 6n \+ 2.*: 8, 14, 20, 26"
    ):
        ask(f"cifar-resnet{depth}")


@pytest.mark.parametrize(
    "name", ["cifar-resnet", "cifar-resnetN", "cifar-resnet-50", "cifar-resnet5O", "cifar_resnet50"]
)
def test_names_near_the_family_lead_to_it(name):
    assert input_shape(name) is None
    with pytest.raises(
        ModelError,
        match=r"did you mean .*cifar-resnetN.* Valid names: .*cifar-resnetN with N = 6n \+ 2",
    ):
        load_model(name)


def test_a_users_file_may_be_called_like_the_family(tmp_path):
    file = tmp_path / "cifar-resnet50.py"
    file.write_text("from torch import nn\ndef net():\n    return nn.Linear(2, 2)\n")
    assert isinstance(load_model(f"{file}:net"), nn.Linear)
    assert input_shape(f"{file}:net") is None


def captured(name: str) -> None:
    """The toolkit's graph of a network computes what the network does, and finds all of its
    layers.
    """
    torch.manual_seed(0)
    entry = MODELS[name]
    model = entry.build().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that folding has to respect
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    images = torch.randn(4, *entry.input_shape)
    network = prepare(model, images[:2])
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert {layer.name.removesuffix(".weight") for layer in network.layers} == set(layers)
    assert not network.skipped
    assert len(network.folded) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    with torch.no_grad():
        wanted, found = model(images), network.graph_module(images)
    assert wanted.std() > 0.01
    assert torch.allclose(found, wanted, atol=1e-4 * wanted.abs().max().item())


@pytest.mark.parametrize("name", ["cnn", "resnet18-cifar", "vgg11_bn-cifar"])
def test_networks_can_be_captured(name):
    captured(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [n for n in MODELS if n.endswith("-cifar") and n not in ("resnet18-cifar", "vgg11_bn-cifar")],
)
def test_all_other_networks_for_cifar_can_be_captured(name):
    captured(name)
