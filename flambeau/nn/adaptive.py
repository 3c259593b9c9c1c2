"""A softmax over many classes that computes what rare ones need only where they occur."""

from __future__ import annotations

import itertools
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import flambeau
from flambeau.nn import functional as F
from flambeau.nn.containers import ModuleList, Sequential
from flambeau.nn.linear import Linear
from flambeau.nn.module import Module

ASMoutput = namedtuple("ASMoutput", "output loss")


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of classes in clusters, the frequent classes first.

    The head scores the first cluster's classes and the other clusters; a cluster's classes are
    scored, in fewer dimensions the rarer they are, for the examples alone whose target is there.

    Args:
        in_features: size of an example.
        n_classes: how many classes there are, the frequent ones first.
        cutoffs: where clusters begin, ascending, in [1, n_classes - 1].
        div_value: a cluster's dimensions are this many times fewer than those of the one before.
        head_bias: whether the head has a bias.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: cutoffs that are not as said.

    Reference:
        Grave et al., Efficient softmax approximation for GPUs (arXiv:1609.04309).
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        given = list(cutoffs)
        if not given:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if given != sorted({int(c) for c in given}) or not 0 < given[0] <= given[-1] < n_classes:
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing"
                " order, where each value is between 1 and n_classes-1"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*given, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = given[0]
        self.n_clusters = len(given)
        self.head_size = self.shortlist_size + self.n_clusters
        place = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **place)
        self.tail = ModuleList()
        for number, (low, high) in enumerate(itertools.pairwise(self.cutoffs), 1):
            inner = int(in_features // div_value**number)
            self.tail.append(
                Sequential(
                    Linear(in_features, inner, bias=False, **place),
                    Linear(inner, high - low, bias=False, **place),
                )
            )

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in (self.head, *(layer for pair in self.tail for layer in pair)):
            module.reset_parameters()

    def forward(self, input_: Any, target_: Any) -> ASMoutput:
        """The targets' log-probabilities, and the mean of what they lack.

        Args:
            input_: (N, in_features) or (in_features).
            target_: (N) or (), classes.

        Returns:
            output: shaped as the targets; loss: a number.

        Raises:
            RuntimeError: shapes that do not go together, or a class that is not there.
        """
        self._check(input_, target_)
        one = target_.ndim == 0
        input, target = (t.unsqueeze(0) if one else t for t in (input_, target_))
        head = F.log_softmax(self.head(input), dim=1)
        place, inner = target, flambeau.zeros_like(head[:, 0])
        used = int((target < self.shortlist_size).logical_and(target >= 0).sum())
        for number, (low, high) in enumerate(itertools.pairwise(self.cutoffs)):
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            if not rows.numel():
                continue
            used += rows.numel()
            place = place.index_fill(0, rows, self.shortlist_size + number)
            scores = F.log_softmax(self.tail[number](input.index_select(0, rows)), dim=1)
            chosen = scores.gather(1, (target.index_select(0, rows) - low).unsqueeze(1))
            inner = inner.index_copy(0, rows, chosen.squeeze(1))
        if used != target.numel():
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                f"[{target.min().item()}, {target.max().item()}] were found. "
            )
        output = inner + head.gather(1, place.unsqueeze(1)).squeeze(1)
        loss = -output.mean()
        return ASMoutput(output.squeeze(0) if one else output, loss)

    def _check(self, input: Any, target: Any) -> None:
        if target.ndim > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if input.ndim != target.ndim + 1:
            raise RuntimeError(
                f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found "
                f"inputs with size {input.size()}"
            )
        if target.ndim and input.size(0) != target.size(0):
            raise RuntimeError("Input and target should have the same size in the batch dimension.")

    def log_prob(self, input: Any) -> Any:
        """Log-probabilities of all classes.

        Args:
            input: (N, in_features).

        Returns:
            (N, n_classes).
        """
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for number, cluster in enumerate(self.tail):
            own = head[:, self.shortlist_size + number].unsqueeze(1)
            parts.append(F.log_softmax(cluster(input), dim=1) + own)
        return flambeau.cat(parts, 1)

    def predict(self, input: Any) -> Any:
        """(N) the most probable class of each example of (N, in_features)."""
        return self.log_prob(input).argmax(1)
