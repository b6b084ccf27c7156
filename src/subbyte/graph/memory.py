"""Values of the two travellers, in chunks, in bounded memory.

A value is one tensor (or number, or tuple) a chunk of images. What a device computed stays there
while half of what was free lasts, then comes to RAM. Chunks beyond the budget live in
memory-mapped temporary files, which the system pages in and out and which vanish with the tensor.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from subbyte.errors import ResourceError

Chunks = list[Any]


@dataclass
class Pair:
    """A value in the float network and in the quantized one; the same object until quantization
    parts them.
    """

    float: Chunks
    quantized: Chunks

    @property
    def same(self) -> bool:
        """Whether the two travellers still agree exactly."""
        return self.float is self.quantized


@dataclass
class Memory:
    """Budget for chunks kept in RAM, in bytes; what exceeds it goes to files in `folder` (the
    system's default). on_device: bytes that may stay on the device that computed them.
    """

    limit: int
    folder: Path | None = None
    on_device: int = 0
    used: int = 0
    spilled: int = 0
    used_on_device: int = 0
    _in_files: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)

    def admit(self, value: Any) -> Any:
        """The value itself while the budget lasts, else a copy of it in RAM, or backed by a
        file.
        """
        if not isinstance(value, Tensor) or value in self._in_files:
            return value
        size = value.numel() * value.element_size()
        if not _in_ram(value):
            if self.used_on_device + size <= self.on_device:
                self.used_on_device += size
                return value
            value = value.cpu()
        if self.used + size <= self.limit or size == 0:
            self.used += size
            return value
        self.spilled += size
        return self._to_file(value)

    def release(self, pair: Pair) -> None:
        """Give back what a value took; call it once, when nobody will read it again."""
        for chunks in (pair.float,) if pair.same else (pair.float, pair.quantized):
            for value in chunks:
                if not isinstance(value, Tensor) or value in self._in_files:
                    continue
                size = value.numel() * value.element_size()
                if _in_ram(value):
                    self.used -= size
                else:
                    self.used_on_device -= size
            chunks.clear()

    def _to_file(self, value: Tensor) -> Tensor:
        content = value.detach().contiguous().reshape(-1)
        try:
            # without a name, where systems can: nothing is left of it whatever ends the process
            with tempfile.TemporaryFile(dir=self.folder) as file:
                # before it is mapped: a full disk is an error here, and there the process's end
                file.write(content.view(torch.uint8).numpy().data)
                file.flush()
                name = f"/dev/fd/{file.name}" if isinstance(file.name, int) else file.name
                mapped = torch.from_file(
                    name, shared=True, size=content.numel(), dtype=content.dtype
                )
        except OSError as error:
            raise _no_room(self.folder, content.nbytes, error) from error
        mapped = mapped.reshape(value.shape)
        self._in_files[mapped] = None
        return mapped


def room_on(device: str) -> int:
    """Bytes of values that may stay on a device: half of those that are free; 0 where that is not
    known, and on the CPU, whose memory is RAM.
    """
    if torch.device(device).type != "cuda":
        return 0
    return int(torch.cuda.mem_get_info(device)[0]) // 2


def _no_room(folder: Path | None, size: int, error: OSError) -> ResourceError:
    folder = folder or Path(tempfile.gettempdir())
    return ResourceError(
        f"activations can't be paged to {folder}: {error.strerror} ({size:,} bytes needed, "
        f"{disk_usage(folder).free:,} free); give TMPDIR a folder with more room, or raise --memory"
    )


def _in_ram(value: Tensor) -> bool:
    return value.device.type == "cpu"
