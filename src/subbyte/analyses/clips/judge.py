"""Measure what clips cost the network, by running it with its weights replaced."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.func import functional_call

from subbyte.data import Split
from subbyte.engine.evaluation import Evaluation, evaluate
from subbyte.graph import Network
from subbyte.records.clips import JUDGED


class Judge:
    """Runs the network with weights replaced: on images to evaluate on, and on the test split."""

    def __init__(self, network: Network, evaluation: Split | None, test: Split) -> None:
        self._network, self._evaluation, self._test = network, evaluation, test

    @cached_property
    def _float(self) -> Tensor:
        """The float network's log probabilities."""
        assert self._evaluation is not None
        return self._run({}, self._evaluation).logits.double().log_softmax(1)

    def _run(self, tensors: Mapping[str, Tensor], split: Split) -> Evaluation:
        def network(x: Tensor) -> Tensor:
            if x.ndim == 4:  # faster on CPUs
                x = x.contiguous(memory_format=torch.channels_last)
            output = functional_call(self._network.graph_module, dict(tensors), (x,))
            assert isinstance(output, Tensor)
            return output

        return evaluate(network, split)

    def judge(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Cross-entropy, mean KL(float network || this one) and accuracy; nothing without images to
        evaluate on.
        """
        if self._evaluation is None:
            return {}
        found = self._run(tensors, self._evaluation)
        gap = self._float - found.logits.double().log_softmax(1)
        divergence = float((self._float.exp() * gap).sum(1).mean())
        return dict(zip(JUDGED, (found.accuracy.loss, divergence, found.top1), strict=True))

    def test(self, tensors: Mapping[str, Tensor]) -> float:
        """Top-1 on the test split, percent."""
        return self._run(tensors, self._test).top1
