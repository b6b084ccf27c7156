"""The time of one exported file against the float network, in a few seconds: the line that
`subbyte quantize` prints.
"""

from pathlib import Path

import torch
from torch import nn

from subbyte.exporters import form_of
from subbyte.exporters.feeding import taken
from subbyte.exporters.float_onnx import write_float
from subbyte.exporters.sessions import Feeds, inputs_of, made_up, open_session
from subbyte.graph import Signature, unwrapped
from subbyte.io.workplaces import scratch
from subbyte.methods import Form
from subbyte.records.speed import FLOAT, Timing
from subbyte.speed.bench import clock_for, prepared, timing_of
from subbyte.speed.pairs import take_turns

SECONDS = 3.0
"""The time that all turns take at most."""
_PAIRS, _THREADS = 30, 1


def time_export(
    network: nn.Module, signature: Signature, outputs: list[str], files: dict[str, Path]
) -> dict[str, Timing]:
    """Times of exported files on one thread, each against the float network: at batch 1, or at that
    which a file is made for.

    signature: how the network is called; outputs: names of its outputs; files: by name.
    Raises ModelError when the float network has no ONNX form, DataError where the network's inputs
    have free sizes.
    """
    sizes = {
        axis.text: leaf.shape[axis.value] for leaf in signature.tensors for axis in leaf.dynamic
    }
    with scratch() as folder:
        path = folder / f"{FLOAT}.onnx"
        write_float(unwrapped(network).cpu(), signature, outputs, path)
        forms = {name: form_of(place) for name, place in files.items()}
        batch = max(form.batch or 1 for form in forms.values())
        feeds = made_up(inputs_of(open_session(path), path), batch, sizes)
        calls = {FLOAT: prepared(path, feeds, _THREADS)}
        for name, place in files.items():
            calls[name] = prepared(place, _as_taken(feeds, forms[name]), _THREADS)
        turns = take_turns(calls, _PAIRS, limit=SECONDS, clock=clock_for(_THREADS))
    return {name: timing_of(turns, name, batch, _THREADS, [FLOAT]) for name in files}


def _as_taken(feeds: Feeds, form: Form) -> Feeds:
    """Inputs of the network as a file of a form takes them."""
    tensors = map(torch.from_numpy, feeds.values())
    return {n: x.numpy() for n, x in zip(feeds, taken(list(tensors), form), strict=True)}
