"""Gradients of the loss with respect to the outputs of layers, image by image, in the float
network.

The loss of an image is the cross-entropy  -log p_y  with p = softmax(z) of its logits z; `Targets`
                                                     say which y:

    given      the labels
    sampled    y ~ p, drawn once an image: no labels; the mean gradient is 0, mean squared gradients
               are the diagonal of the Fisher information, to second order the KL divergence from
               the network's own output
    signs      the same mean and second moments from less noisy numbers: dL/dz = sqrt(p) s - p
               (sqrt(p)'s), where all entries of s are 1 or -1 at random (for a sure network y is
               hardly ever anything but the largest class)
    outputs    no loss: dL/dz = s less its mean, so that mean squared gradients are those of the
               square error of the logits, up to a common shift; a network that is asked about
               images it was trained on is sure of nearly all of them, and the loss then hears of
               the few others only
    expected   every class y in turn, with its share p_y: the Fisher information without noise

Cost: one pass forward, and one back for every y.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from subbyte.errors import DataError, ModelError, NumericsError
from subbyte.graph.instrument import Instrumented
from subbyte.graph.layers import argument
from subbyte.graph.samples import Samples

_MAX_CLASSES = 100  # that `expected` goes back for, one by one
Calls = list[tuple[Tensor, Tensor]]
"""The calls of a layer: for each its input and the gradient with respect to its output, the batch
first.
"""
Targets = Callable[[Tensor], Iterator[tuple[Tensor, Tensor]]]
"""Maps p, float64 [n, classes], to derivatives of the loss by the logits, each of the same shape
and with its share [n] in the expectation; an image's shares add up to 1.
"""


def given(labels: Tensor) -> Targets:
    """The labels, int64 [n]. Raises DataError when they do not fit the logits."""

    def targets(p: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        n, classes = p.shape
        if labels.dtype != torch.int64 or labels.shape != (n,):
            raise DataError(
                f"labels must be int64 [{n}], one an image; got {labels.dtype} {list(labels.shape)}"
            )
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise DataError(f"labels must be from 0 to {classes - 1}, as there are logits")
        yield p - F.one_hot(labels.to(p.device), classes), p.new_ones(n)

    return targets


def draw_classes(p: Tensor, generator: torch.Generator) -> Tensor:
    """One class an image with the probabilities p, [n, classes]: int64 [n]. Chunks make no
    difference to the draw.
    """
    reached = p.double().cumsum(1).cpu()
    drawn = torch.rand(len(p), 1, generator=generator, dtype=torch.float64) * reached[:, -1:]
    return (reached <= drawn).sum(1).to(p.device)


def sampled(generator: torch.Generator) -> Targets:
    """One class an image, drawn from the network's own output."""

    def targets(p: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield p - F.one_hot(draw_classes(p, generator), p.shape[1]), p.new_ones(len(p))

    return targets


def _coins(generator: torch.Generator, before: int) -> Callable[[Tensor], Tensor]:
    """Draws 1 or -1 for every entry of p [n, classes], call after call. before: images whose draws
    are passed over.
    """
    left = [before]

    def draw(p: Tensor) -> Tensor:
        torch.randint(0, 2, (left.pop() if left else 0, p.shape[1]), generator=generator)
        return torch.randint(0, 2, p.shape, generator=generator).to(p) * 2 - 1

    return draw


def signs(generator: torch.Generator, before: int = 0) -> Targets:
    """Random combinations of all classes that spread as sampled ones do. before: images that come
    before these, and that another process has: what is drawn for an image is the same.
    """
    draw = _coins(generator, before)

    def targets(p: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        s = draw(p)
        yield p.sqrt() * s - p * (p.sqrt() * s).sum(1, keepdim=True), p.new_ones(len(p))

    return targets


def outputs(generator: torch.Generator, before: int = 0) -> Targets:
    """Random combinations of all logits, whatever the network makes of them. before: as of
    `signs`.
    """
    draw = _coins(generator, before)

    def targets(p: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        s = draw(p)
        yield s - s.mean(1, keepdim=True), p.new_ones(len(p))

    return targets


def expected(p: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Every class, as often as the network itself expects it. Raises ModelError above 100
    classes.
    """
    classes = p.shape[1]
    if classes > _MAX_CLASSES:
        raise ModelError(
            f"the expectation over classes goes back once for each of {classes}, {_MAX_CLASSES} at "
            f"most; sample them"
        )
    for share, one in zip(
        p.unbind(1), torch.eye(classes, dtype=p.dtype, device=p.device), strict=True
    ):
        yield p - one, share


def layer_gradients(
    instrumented: Instrumented, images: Samples, targets: Targets, owners: dict[str, str]
) -> Iterator[tuple[Tensor, dict[str, Calls]]]:
    """Go through the network once and back once for every target of these n images.

    owners: names of the calls of layers wanted, with the name under which each is returned: its
    own, or that of the layer whose weight it shares. Yields shares [n] of the targets and, by name,
    the calls; gradients are those of each image's own loss, not weighted by the share.
    Raises ModelError when the output is no logits or a layer's first axis is not the batch;
    NumericsError on NaN.
    """
    for name in owners:
        if not isinstance(instrumented.layers[name].meta["val"].shape[0], torch.SymInt):
            raise ModelError(
                f"layer {name!r}: the first axis of its output is not the batch, so that gradients "
                f"of images mix"
            )
    recorder = _Recorder(instrumented, owners)
    with torch.enable_grad():
        leaves = recorder.run(*images.leaves, enable_io_processing=False)
    if len(leaves) != 1:
        raise ModelError(
            f"gradients need a network that gives logits [images, classes]; this one gives "
            f"{len(leaves)} outputs"
        )
    logits = leaves[0]
    if logits.ndim != 2 or not logits.requires_grad:
        raise ModelError(
            f"gradients need a network that gives logits [images, classes]; this one gives "
            f"{list(logits.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise NumericsError("the logits hold NaN or Inf; check the images and the normalization")
    values = [output for _, output in recorder.seen.values()]
    for derivative, share in targets(logits.detach().double().softmax(1)):
        found = torch.autograd.grad(
            logits, values, derivative.to(logits.dtype), retain_graph=True, materialize_grads=True
        )
        calls: dict[str, Calls] = {}
        for (name, (x, _)), gradient in zip(recorder.seen.items(), found, strict=True):
            calls.setdefault(owners[name], []).append((x, gradient))
        yield share, calls


class _Recorder(fx.Interpreter):
    """Runs the graph and keeps, of the layers wanted, input and output; parameters are
    constants.
    """

    def __init__(self, instrumented: Instrumented, wanted: dict[str, str]) -> None:
        super().__init__(instrumented.graph_module)
        self._names = {node: name for name, node in instrumented.layers.items() if name in wanted}
        self.seen: dict[str, tuple[Tensor, Tensor]] = {}

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return value.detach() if isinstance(value, Tensor) else value

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._names:
            value = value if value.requires_grad else value.requires_grad_()
            self.seen[self._names[n]] = (self.env[argument(n, 0)].detach(), value)
        return value
