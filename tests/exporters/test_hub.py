"""Networks in folders of the Hub's form; nothing here asks the Hub."""

import sys

import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import DataError, SubbyteError
from subbyte.exporters import hub


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()


@pytest.fixture(scope="module")
def quantized(network):
    return subbyte.quantize(network, torch.randn(24, 3, 2, 2), "w4")


def test_what_is_read_is_what_was_written(network, quantized, tmp_path):
    folder = subbyte.save_pretrained(quantized, tmp_path / "a" / "net")
    files = {file.name for file in folder.iterdir()}
    assert files == {"model.safetensors", "plan.yaml", "README.md"}
    images = torch.randn(5, 3, 2, 2)
    again = subbyte.from_pretrained(folder, network)
    assert torch.equal(again(images), quantized(images))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: subbyte\n") and "| 1 | 4 |" in card
    assert str(tmp_path) not in card


def test_the_hub_is_asked_where_there_is_no_folder(network, quantized, tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    folder, asked = hub.save_pretrained(quantized, tmp_path / "there"), []

    def download(name, file, revision):
        asked.append((name, file, revision))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    hub.from_pretrained("some/net", network, revision="v1")
    assert asked == [("some/net", "model.safetensors", "v1")]


def test_a_repository_gets_the_whole_folder(quantized, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    calls = []

    class Commit:
        commit_url = "there"

    def upload(repo_id, folder_path, commit_message):
        files = sorted(file.name for file in hub.Path(folder_path).iterdir())
        calls.append((repo_id, files, commit_message))
        return Commit()

    def create(name, **how):
        calls.append((name, how))

    monkeypatch.setattr(huggingface_hub, "create_repo", create)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
    assert hub.push_to_hub(quantized, "some/net") == "there"
    assert calls == [
        ("some/net", {"private": True, "exist_ok": True}),
        ("some/net", ["README.md", "model.safetensors", "plan.yaml"], "Quantized network"),
    ]


def test_a_name_that_the_hub_has_not_is_one_line(network, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fail(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("not there\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(DataError, match=r"some/net is no folder here.*not there$"):
        hub.from_pretrained("some/net", network)


def test_without_the_package_it_says_what_to_install(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SubbyteError, match=r"pip install 'subbyte\[hub\]'"):
        hub.from_pretrained("some/net", network)
