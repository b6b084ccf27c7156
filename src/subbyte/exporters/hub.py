"""Quantized networks as folders in the form of the Hugging Face Hub, there or on this machine (the
optional extra `hub`).

A folder holds the packed file, the plan and a card. The architecture is in none of them: whoever
loads one brings it, as for `load`.
"""

from pathlib import Path
from typing import Any

from torch import nn

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import DataError, SubbyteError
from subbyte.exporters.packed import load, save
from subbyte.io.files import write_text
from subbyte.io.user_file import UserFiles
from subbyte.io.workplaces import scratch
from subbyte.records import HEAD, PLAN

PACKED, CARD = "model.safetensors", "README.md"


def save_pretrained(model: QuantizedModel, folder: str | Path) -> Path:
    """Write a quantized network as the Hub has it: model.safetensors, plan.yaml and README.md, its
    card. Returns the folder, which is made where there is none; other files in it are left.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CARD, _card(model))
    write_text(folder / PLAN, model.plan.to_yaml(UserFiles(folder)))
    save(model, folder / PACKED)
    return folder


def from_pretrained(
    source: str | Path, model: nn.Module, *, revision: str | None = None
) -> QuantizedModel:
    """Read what `save_pretrained` or `push_to_hub` wrote into the architecture of `model`, whose
    own weights do not matter.

    source: a folder, or else the name of a repository on the Hub, `owner/name`; revision: branch,
    tag or commit there. Nothing that is downloaded is executed.
    Raises DataError where there is neither, FormatError as `load` does.
    """
    folder = Path(source)
    if folder.is_dir():
        return load(folder / PACKED, model)
    hub = _hub()
    try:
        return load(hub.hf_hub_download(str(source), PACKED, revision=revision), model)
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise DataError(
            f"{source} is no folder here, and the Hub does not give it: {_line(error)}"
        ) from error


def push_to_hub(
    model: QuantizedModel, name: str, *, private: bool = True, message: str = "Quantized network"
) -> str:
    """Write a quantized network into a repository of the Hub, as whoever logged in there; returns
    the address of the commit.

    name: `owner/name`; it is made where there is none, for nobody else to see unless `private` is
    False. message: of the commit.
    Raises DataError where the Hub refuses.
    """
    hub = _hub()
    with scratch() as folder:
        save_pretrained(model, folder)
        try:
            hub.create_repo(name, private=private, exist_ok=True)
            done = hub.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
        except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
            raise DataError(f"the Hub does not take {name}: {_line(error)}") from error
    return str(done.commit_url)


def _card(model: QuantizedModel) -> str:
    """The card of a network alone; figures are for whoever measured them to add."""
    lines = [
        HEAD,
        f"# A network in {model.bits_per_weight:.2f} bits a weight",
        "",
        f"Quantized by subbyte, recipe {model.plan.name}; {model.packed_bytes:,} bytes of numbers.",
        "",
        "```python",
        "quantized = subbyte.from_pretrained(NAME, model)  # the float network's architecture",
        "```",
        "",
        "| layer | bits |",
        "|---|---|",
        *(f"| {row.name} | {row.bits} |" for row in model.ledger if row.kind == "layer"),
    ]
    return "\n".join(lines) + "\n"


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise SubbyteError("the Hub needs huggingface_hub: pip install 'subbyte[hub]'") from error
    return huggingface_hub


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]
