"""Layers of every kind: geometry and shape of an input."""

from hypothesis import strategies as st

from subbyte.core import Convolution, Geometry, Linear, TransposedConvolution


def _conv(axes: int, weight: tuple[int, ...], **given: object) -> Geometry:
    return Convolution(weight, **{**_plain(axes), **given})


def _transposed(axes: int, weight: tuple[int, ...], **given: object) -> Geometry:
    plain = {"output_padding": (0,) * axes, **_plain(axes)}
    return TransposedConvolution(weight, **{**plain, **given})


def _plain(axes: int) -> dict[str, object]:
    return {"stride": (1,) * axes, "padding": ((0, 0),) * axes, "dilation": (1,) * axes}


GEOMETRIES = {
    "linear-2d": (Linear((5, 7)), (6, 7)),
    "linear-3d": (Linear((5, 7)), (3, 4, 7)),
    "linear-4d": (Linear((2, 3)), (2, 3, 4, 3)),
    "conv1d": (_conv(1, (4, 3, 3), stride=(2,), padding=((1, 1),)), (3, 3, 9)),
    "conv1d-asymmetric": (_conv(1, (4, 3, 4), dilation=(2,), padding=((2, 5),)), (2, 3, 7)),
    "conv2d": (_conv(2, (5, 4, 3, 3), padding=((1, 1), (1, 1))), (3, 4, 6, 5)),
    "conv2d-1x1": (_conv(2, (5, 4, 1, 1)), (3, 4, 3, 3)),
    "conv2d-1x1-stride": (_conv(2, (6, 4, 1, 1), stride=(2, 2)), (3, 4, 5, 6)),
    "conv2d-groups": (_conv(2, (6, 2, 3, 2), stride=(2, 1), groups=3), (2, 6, 7, 5)),
    "conv2d-depthwise": (_conv(2, (8, 1, 3, 3), padding=((1, 1), (1, 1)), groups=4), (2, 4, 5, 5)),
    "conv2d-asymmetric": (
        _conv(2, (3, 2, 3, 4), padding=((0, 2), (3, 1)), dilation=(2, 1)),
        (2, 2, 6, 5),
    ),
    "conv2d-gap": (_conv(2, (3, 2, 2, 2), stride=(4, 3)), (2, 2, 9, 9)),
    "conv3d": (
        _conv(3, (4, 2, 2, 3, 2), stride=(1, 2, 1), padding=((1, 0),) * 3, groups=2),
        (2, 4, 4, 5, 3),
    ),
    "transposed1d": (
        _transposed(1, (4, 3, 4), stride=(3,), padding=((1, 1),), output_padding=(2,)),
        (3, 4, 5),
    ),
    "transposed2d": (
        _transposed(2, (4, 3, 3, 3), stride=(2, 2), padding=((1, 1),) * 2, output_padding=(1, 1)),
        (2, 4, 4, 3),
    ),
    "transposed2d-groups": (
        _transposed(2, (6, 2, 3, 2), stride=(2, 3), dilation=(2, 1), groups=3),
        (2, 6, 3, 4),
    ),
    "transposed2d-depthwise": (_transposed(2, (4, 1, 2, 2), stride=(2, 2), groups=4), (2, 4, 3, 3)),
    "transposed2d-cropped": (
        _transposed(2, (2, 3, 2, 2), stride=(2, 1), padding=((2, 3), (0, 2))),
        (2, 2, 5, 6),
    ),
    "transposed3d": (
        _transposed(3, (4, 1, 2, 3, 2), stride=(2, 1, 2), padding=((0, 1),) * 3, groups=2),
        (1, 4, 3, 3, 2),
    ),
}

FEW = {  # for what no kind does in a way of its own
    name: GEOMETRIES[name]
    for name in ("linear-3d", "conv1d-asymmetric", "conv2d-groups", "transposed2d-groups")
}


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Geometry, tuple[int, ...]]:
    """Any convolution whose output is not empty, plain or transposed, and the shape of an input."""
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    transposed = draw(st.booleans())

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, dilation = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    padding = tuple(zip(numbers(0, 3), numbers(0, 3), strict=True))
    groups, per_in, per_out = (draw(st.integers(1, 3)) for _ in range(3))
    most = [max(pair) - 1 for pair in zip(stride, dilation, strict=True)]
    extra = tuple(draw(st.integers(0, limit)) for limit in most) if transposed else ()
    spatial = []
    for i in range(axes):
        reach, pads = dilation[i] * (kernel[i] - 1) + 1, sum(padding[i])
        least = 1 - (reach - pads + extra[i] - 1) // stride[i] if transposed else reach - pads
        spatial.append(draw(st.integers(max(1, least), max(1, least) + 3)))
    weight = (
        (groups * per_in, per_out, *kernel) if transposed else (groups * per_out, per_in, *kernel)
    )
    kind = TransposedConvolution if transposed else Convolution
    shape = (draw(st.integers(1, 3)), groups * per_in, *spatial)
    return kind(weight, stride, padding, dilation, extra, groups), shape
