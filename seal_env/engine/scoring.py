"""Log-likelihoods of many texts under many learners, in passes within a bound on tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Event

from seal_env.engine.banks import Bank
from seal_env.engine.learner import Learner
from seal_env.engine.threads import run_parts, split_evenly


def log_likelihoods(
    learner: Learner,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    owners: Sequence[int],
    bank: Bank | None,
    tokens: int,
) -> list[float]:
    """Mean log-probability per token of each completion after its prompt.

    A result does not depend on the other texts. As `Learner.score`, which computes all at once.

    Args:
        learner: The base.
        prompts: Token ids, none empty.
        completions: Token ids, none empty.
        owners: Index of the adapter of each.
        bank: The adapters; None for the untouched model.
        tokens: Bound on the tokens of one pass; a longer text is a pass by itself.

    Returns:
        Nats per token, not finite where the learner's numbers are not.
    """
    if not prompts:
        return []
    sizes = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]

    def job(part: range) -> Callable[[Event], list[float]]:
        def score(stop: Event) -> list[float]:
            found: list[float] = []
            for run in passes(sizes[part.start : part.stop], tokens):
                if stop.is_set():
                    break
                some = slice(part.start + run.start, part.start + run.stop)
                found += learner.score(prompts[some], completions[some], owners[some], bank)
            return found

        return score

    parts = split_evenly(sizes, learner.workers(len(sizes)))
    return [value for part in run_parts([job(part) for part in parts]) for value in part]


def passes(sizes: Sequence[int], budget: int) -> Iterable[range]:
    """Ranges of items whose sizes sum to at most the budget, or single items."""
    start, used = 0, 0
    for index, size in enumerate(sizes):
        if index > start and used + size > budget:
            yield range(start, index)
            start, used = index, 0
        used += size
    if start < len(sizes):
        yield range(start, len(sizes))
