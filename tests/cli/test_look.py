"""subbyte look: what it says of a data set is what is in it."""

import json

import numpy as np
import pytest
import torch

from subbyte.data import load_data
from subbyte.records.look import LOOK, read_look
from tests.workplace import complaint, names_in


def test_digits_as_they_are(subbyte, tmp_path):
    out, options = tmp_path / "look", ("--normalize", "0.5/0.25", "--samples", 3)
    done = subbyte("look", "--data", "digits", "--out", out, *options)
    assert done.code == 0 and names_in(out) == {LOOK, "report.html"}, done.err
    found, data = read_look(out), load_data("digits", "0.5/0.25")
    assert (found.data, found.classes) == ("digits", list("0123456789"))
    for part, split in zip(found.parts, (data.train, data.test), strict=True):
        images, (channel,) = split.images(range(len(split))), part.channels
        assert (part.images, part.measured, part.shape) == (len(split), len(split), (1, 8, 8))
        assert part.counts == torch.bincount(split.labels).tolist()
        assert (channel.low, channel.high) == (-2, 2)
        assert channel.mean == pytest.approx(float(images.double().mean()), abs=1e-9)
        assert channel.std == pytest.approx(float(images.double().std(correction=0)), abs=1e-9)
        assert channel.pixel_mean == pytest.approx(0.25 * channel.mean + 0.5, abs=1e-9)
        assert channel.pixel_std == pytest.approx(0.25 * channel.std, abs=1e-9)
        labels = [sample.label for sample in part.samples]
        assert labels == sorted([*range(10)] * 3)
        assert split.labels[[sample.index for sample in part.samples]].tolist() == labels
    text = (out / "report.html").read_text()
    assert "1,438 train and 359 test images of 1 x 8 x 8, in 10 classes of 139 to 146 train" in text
    assert text.count('src="data:image/png') == 60
    tables = tmp_path / "csv"
    done = subbyte("report", out, "--csv", tables, "--out", tmp_path / "page.html")
    assert done.code == 0 and "figures-images-by-class.csv" in names_in(tables)
    again = subbyte("look", "--data", "digits", "--out", tmp_path / "again", *options)
    assert again.code == 0
    assert (tmp_path / "again" / LOOK).read_bytes() == (out / LOOK).read_bytes()


def test_images_without_labels_and_what_is_refused(subbyte, tmp_path):
    images = np.random.default_rng(0).random((30, 4, 6, 5), dtype=np.float32)
    np.savez(tmp_path / "plain.npz", images=images)
    out, data = tmp_path / "out", f"npz:{tmp_path / 'plain.npz'}"
    done = subbyte("look", "--data", data, "--out", out, "--samples", 2, "--images", 10, "--json")
    assert done.code == 0, done.err
    (part,) = json.loads(done.out)["result"]["parts"]
    assert not part["counts"] and part["measured"] == 10 and len(part["samples"]) == 20
    assert {sample["picture"] for sample in part["samples"]} == {""}  # 4 channels are no picture
    assert "30 test images of 4 x 6 x 5, without class labels" in (out / "report.html").read_text()
    images[3] = np.nan
    np.savez(tmp_path / "plain.npz", images=images)
    done = subbyte("look", "--data", data, "--out", tmp_path / "new")
    assert (
        done.code == 1
        and "NaN" in complaint(done.code, done.out, done.err)
        and not (tmp_path / "new").exists()
    )
