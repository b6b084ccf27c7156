"""The float network: what the others are compared with."""

from pathlib import Path

from benchmarks.peers.contract import Job, Made

NOTE = "the float network; its file as torch.onnx.export writes it"


def quantize(job: Job) -> Made:
    """Leave it as it is."""

    def write() -> list[Path]:
        import torch

        file = job.folder / "network.onnx"
        dims = tuple({0: torch.export.Dim("batch")} for _ in job.inputs)
        few = tuple(x[:2] for x in job.inputs)
        torch.onnx.export(
            job.model, few, file, dynamo=True, dynamic_shapes=dims, external_data=False
        )
        return [file]

    return Made(job.model, write)
