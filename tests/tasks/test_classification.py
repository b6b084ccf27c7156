"""evaluate and agreement against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, top_k_accuracy_score
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy

from subbyte.data import Split
from subbyte.engine.evaluation import evaluate
from subbyte.errors import DataError, ModelError, NumericsError, RecipeError
from subbyte.tasks import agreement


def split_of(images: Tensor, labels: Tensor) -> Split:
    return Split.labelled("test", labels, images.__getitem__)


def case(n: int = 103, classes: int = 10, seed: int = 0) -> tuple[Tensor, Split]:
    """Logits, and a split whose images are the logits, so that a network that flattens returns
    them.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator)
    labels = torch.randint(0, classes, (n,), generator=generator)
    logits[torch.arange(n), labels] += 0.7
    return logits, split_of(logits.view(n, classes, 1, 1), labels)


def flatten(images: Tensor) -> Tensor:
    return images.flatten(1)


@pytest.mark.parametrize("classes", [3, 5, 6, 10, 40])
@pytest.mark.parametrize("batch_size", [1, 17, 103, 500])
def test_figures_are_scikit_learns_and_torchmetrics(classes, batch_size):
    logits, split = case(classes=classes)
    result = evaluate(flatten, split, batch_size)
    labels, every = split.labels.numpy(), np.arange(classes)
    probabilities = logits.double().softmax(1).numpy()
    assert result.accuracy.top1 == pytest.approx(
        100 * top_k_accuracy_score(labels, logits, k=1, labels=every)
    )
    if classes > 5:
        assert result.accuracy.top5 == pytest.approx(
            100 * top_k_accuracy_score(labels, logits, k=5, labels=every)
        )
        metric = multiclass_accuracy(logits, split.labels, classes, average="micro", top_k=5)
        assert result.accuracy.top5 == pytest.approx(100 * float(metric), rel=1e-6)
    else:
        assert result.accuracy.top5 == 100
    assert result.accuracy.loss == pytest.approx(
        log_loss(labels, probabilities, labels=every), rel=1e-6
    )
    assert result.accuracy.count == 103
    assert torch.equal(result.logits, logits) and result.logits.dtype == torch.float32


def test_ties_go_to_the_lower_index():
    labels = torch.arange(10)
    result = evaluate(flatten, split_of(torch.zeros(10, 10, 1, 1), labels))
    assert (result.accuracy.top1, result.accuracy.top5) == (10.0, 50.0)
    assert result.accuracy.loss == pytest.approx(np.log(10))


def test_images_go_to_the_device_and_logits_come_back(monkeypatch):
    monkeypatch.setattr("subbyte.engine.evaluation.check_device", bool)
    logits, split = case()
    seen: list[str] = []

    def model(images: Tensor) -> Tensor:
        seen.append(images.device.type)
        return logits

    assert evaluate(model, split, device="meta").logits.device.type == "cpu"
    assert seen == ["meta"]


def test_progress_counts_images():
    _, split = case(23)
    seen: list[tuple[int, int]] = []
    evaluate(flatten, split, 10, lambda done, total: seen.append((done, total)))
    assert seen == [(10, 23), (20, 23), (23, 23)]


def test_a_module_is_in_eval_mode_meanwhile_and_as_before_afterwards():
    model = nn.Sequential(nn.BatchNorm2d(10), nn.Dropout(0.9), nn.Flatten()).train()
    model[0].eval()  # a frozen part must stay frozen
    logits, split = case()
    result = evaluate(model, split)
    assert torch.allclose(result.logits, logits / (1 + 1e-5) ** 0.5, atol=1e-6)
    assert [m.training for m in model.modules()] == [True, False, True, True]
    with pytest.raises(DataError):
        evaluate(nn.Sequential(model, nn.Linear(3, 3)), split)
    assert [m.training for m in model.modules()] == [True, False, True, True]


def test_no_gradient_is_kept_and_low_precision_becomes_float32():
    linear = nn.Linear(10, 4)
    _, split = case(classes=10)
    kept = Split.labelled("test", split.labels % 4, split.read)

    def model(images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return linear(images.flatten(1)).bfloat16()

    result = evaluate(model, kept)
    assert result.logits.dtype == torch.float32 and not result.logits.requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_logits_are_refused_and_the_image_named(value):
    logits, split = case(30)
    logits[17, 3] = value
    with pytest.raises(
        NumericsError, match=r"1 of 10 images are NaN or Inf .*, the first is image 17 of split"
    ):
        evaluate(flatten, split, 10)


@pytest.mark.parametrize(
    ("shift", "message"),
    [(1, r"label 10, but the network has 10 logits"), (-10, r"label -10, but")],
)
def test_labels_beyond_the_logits_are_refused_with_both_numbers(shift, message):
    _, split = case(200)
    assert (int(split.labels.min()), int(split.labels.max())) == (0, 9)
    with pytest.raises(DataError, match=message):
        evaluate(flatten, Split.labelled("test", split.labels + shift, split.read))


def test_images_that_the_network_cannot_take_are_explained():
    _, split = case()
    with pytest.raises(
        DataError, match=r"images \[10, 1, 1\] .*split 'test' \(RuntimeError: .*channels"
    ):
        evaluate(nn.Conv2d(3, 3, 1), split)


def test_errors_of_subbyte_pass_unchanged():
    _, split = case()

    def model(_: Tensor) -> Tensor:
        raise NumericsError("inner")

    with pytest.raises(NumericsError, match=r"^inner$"):
        evaluate(model, split)


@pytest.mark.parametrize(
    "output", [lambda x: x, lambda x: x.flatten(), lambda x: (x,), lambda x: x.flatten(1)[:-1]]
)
def test_what_is_no_row_of_logits_per_image_is_refused(output):
    _, split = case()
    with pytest.raises(ModelError, match=r"one row of logits per image"):
        evaluate(output, split)


def test_empty_splits_and_batches_are_refused():
    _, split = case()
    with pytest.raises(DataError, match="is empty"):
        evaluate(flatten, split.take([]))
    with pytest.raises(RecipeError, match="batch_size must be a whole number, at least 1, got 0"):
        evaluate(flatten, split, 0)


def test_agreement_is_the_share_of_equal_classes():
    a, _ = case(200, seed=1)
    b, _ = case(200, seed=2)
    wanted = 100 * np.mean(a.numpy().argmax(1) == b.numpy().argmax(1))
    assert agreement(a, b) == pytest.approx(wanted) and 0 < wanted < 100
    assert agreement(a, a * 3 - 1) == 100
    assert agreement(a, -a) == 0


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((3,), (3,)), ((0, 4), (0, 4))]
)
def test_agreement_needs_the_same_images(a, b):
    with pytest.raises(DataError, match=r"must be \[n, classes\]"):
        agreement(torch.zeros(a), torch.zeros(b))
