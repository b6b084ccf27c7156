"""AIMET on the ONNX file, with sequential MSE."""

from pathlib import Path
from typing import Any

import aimet_onnx
import onnx
import torch
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from aimet_onnx.common import quantsim_config

from benchmarks.peers.contract import CannotError, Job, Made

NOTE = (
    "`fold_all_batch_norms_to_weight`, `QuantizationSimModel` with min_max ranges and "
    "default_config_per_channel.json, below 8 bits `apply_seq_mse` with its default 20 candidates, "
    "`compute_encodings`; file by `to_onnx_qdq(prequantize_constants=True)`"
)
_BATCH = 50


def quantize(job: Job) -> Made:
    """A simulation, its weights' scales searched, its activations' ranges observed."""
    if job.width.ternary:
        raise CannotError("no ternary weights")
    sim, feeds = simulation(job)
    # user code
    if job.width.weights < 8:
        aimet_onnx.apply_seq_mse(sim, feeds)
    sim.compute_encodings(feeds)
    # end of user code

    def run(*inputs: torch.Tensor) -> Any:
        given = {n: x.numpy() for n, x in zip(feeds[0], inputs, strict=True)}
        found = [torch.from_numpy(y) for y in sim.session.run(None, given)]
        return found[0] if len(found) == 1 else tuple(found)

    def write() -> list[Path]:
        file = job.folder / "network.onnx"
        # user code
        onnx.save(sim.to_onnx_qdq(prequantize_constants=True), file)
        # end of user code
        return [file]

    return Made(run, write)


def simulation(job: Job) -> tuple[Any, list[dict[str, Any]]]:
    """The simulation, and what is fed to calibrate it."""
    width, file = job.width, job.folder / "start.onnx"
    few = tuple(x[:2] for x in job.inputs)
    # user code
    dims = tuple({0: torch.export.Dim("batch")} for _ in few)
    torch.onnx.export(job.model, few, file, dynamic_shapes=dims, external_data=False)
    network = onnx.load(file)
    fold_all_batch_norms_to_weight(network)
    config = Path(quantsim_config.__path__[0]) / "default_config_per_channel.json"
    sim = aimet_onnx.QuantizationSimModel(
        network,
        param_type=aimet_onnx.qtype.int(width.weights),
        activation_type=aimet_onnx.qtype.int(8 if width.weights_only else width.activations),
        config_file=str(config),
        session_options_kwargs={"intra_op_num_threads": 1},
    )
    if width.weights_only:
        for name in sim.activation_names:
            sim.qc_quantize_op_dict[name].enabled = False
    feeds = list(job.feeds(_BATCH, [one.name for one in network.graph.input]))
    # end of user code
    if job.ends8:
        ends_at_eight_bits(sim, network.graph, weights_only=width.weights_only)
    return sim, feeds


# user code: first and last at 8 bits
def ends_at_eight_bits(sim: Any, graph: onnx.GraphProto, *, weights_only: bool) -> None:
    """Set weights and inputs of the first and the last layer."""
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    for node in (layers[0], layers[-1]):
        names = node.input[1:2] if weights_only else node.input[:2]
        sim.set_tensor_precision(list(names), aimet_onnx.int8)


# end of user code: first and last at 8 bits
