"""Sampling of many texts by a policy, in batches and on all processor cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event

from seal_env.engine.banks import Bank
from seal_env.engine.generation import sample
from seal_env.engine.learner import Learner
from seal_env.engine.sampling import Completion, Constraint, Sampling
from seal_env.engine.threads import run_parts, split_evenly


def write_texts(
    learner: Learner,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    batch_size: int,
    bank: Bank | None = None,
    constraint: Constraint | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Samples one text per prompt; each depends on its prompt and seed alone.

    Args:
        learner: The model.
        prompts: Token ids, none empty. Equal ones are read once per batch if they are neighbors.
        sampling: Length, temperature and ends of the texts.
        seeds: One seed per prompt.
        batch_size: Texts per batch and thread; bounds the memory of the key-value cache.
        bank: The adapters, of which the first is used; None for the untouched model.
        constraint: Bound on the tokens that may be generated; None for none.
        progress: Callback with the number of texts finished so far.
    """
    done: list[int] = []

    def job(part: range) -> Callable[[Event], list[Completion]]:
        def work(stop: Event) -> list[Completion]:
            texts: list[Completion] = []
            for start in range(part.start, part.stop, batch_size):
                if stop.is_set():
                    break
                batch = slice(start, min(start + batch_size, part.stop))
                texts += sample(
                    learner, prompts[batch], sampling, seeds[batch], bank, constraint=constraint
                )
                done.append(batch.stop - start)
                if progress is not None:
                    progress(sum(done))
            return texts

        return work

    parts = split_evenly([len(prompt) for prompt in prompts], learner.workers(len(prompts)))
    return [text for texts in run_parts([job(part) for part in parts]) for text in texts]
