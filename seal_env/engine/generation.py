"""Generation: continuations of many prompts, each under its adapter, with a key-value cache.

Prompts of one bucket of lengths share a cache. A step is a pass over one row that holds the next
token of every unfinished prompt (`seal_env.engine.packing`).

Dimensions:
    - N: prompts.
    - A: prompts that are not finished yet.
    - D: width of the hidden states; V: size of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seal_env.engine.banks import Bank
from seal_env.engine.cache import CACHE_STEP, DecodePass, KeyValueCache, longer
from seal_env.engine.learner import Learner
from seal_env.engine.packing import Layout, Row, padded_rows, whole_blocks
from seal_env.engine.passes import FullPass
from seal_env.engine.sampling import Completion, Constraint, Guide, Sampling


class _Texts(NamedTuple):
    """Texts that are read in one pass, some of which continue others."""

    texts: list[Sequence[int]]
    """Token ids of each."""
    owners: list[int]
    """The adapter of each."""
    before: list[int]
    """Index of the text that each continues; -1 for none."""
    places: list[int]
    """Index of the text that holds the end of each prompt."""
    cuts: list[int]
    """Tokens of each prompt that are in the text before that one."""

    def add(self, text: Sequence[int], owner: int, before: int) -> int:
        """Adds a text; returns its index."""
        self.texts.append(text)
        self.owners.append(owner)
        self.before.append(before)
        return len(self.texts) - 1


class BatchGenerator:
    """State of one batch of prompts while they are continued; see `generate`.

    Args:
        learner: The model.
        prompts: Token ids of N prompts, none empty.
        owners: Index of the adapter of each prompt.
        bank: The adapters; None for the untouched model.
        sampling: Length, temperature and ends of the continuations.
        seeds: One seed per prompt, for temperatures above 0.
        scored: Token ids to score after each prompt; None for none.
        shared: Number of leading tokens of each prompt that may be read once for several.
    """

    def __init__(
        self,
        learner: Learner,
        prompts: Sequence[Sequence[int]],
        owners: Sequence[int],
        bank: Bank | None,
        sampling: Sampling,
        seeds: Sequence[int] | None,
        scored: Sequence[Sequence[int]] | None = None,
        shared: Sequence[int] | None = None,
    ) -> None:
        self.learner, self.bank, self.sampling = learner, bank, sampling
        self.order = np.argsort(np.asarray(owners), kind="stable")
        self.prompts = [prompts[i] for i in self.order]
        self.owners = np.asarray(owners)[self.order]
        self.lengths = np.array([len(p) for p in self.prompts])
        self.scored = None if scored is None else [scored[i] for i in self.order]
        self.shared = [0 if shared is None else shared[i] for i in self.order]
        self.likelihoods: list[float] = []
        self.active = np.arange(len(self.prompts))
        self.texts: list[list[int]] = [[] for _ in self.prompts]
        self.log_probs: list[list[float]] | None = None
        """Log-probabilities of the tokens chosen for each text, its end included; None where they
        are not asked for."""
        self.ends: list[tuple[int, ...]] = [() for _ in self.prompts]
        """Token that ended each text, if one did."""
        self.noise = _uniforms(seeds, self.order, sampling) if sampling.temperature > 0 else None
        self.caches: list[KeyValueCache] = []
        self.guides: list[Guide] = []

    def run(self, progress: Callable[[int], None] | None) -> tuple[list[float], list[list[int]]]:
        """Mean log-probabilities of the scored texts (nats per token), and the continuations."""
        hidden = self._prefill()
        for step in range(self.sampling.max_new_tokens):
            tokens = self._choose(hidden, step)
            going = self._append(tokens)
            if progress is not None:
                progress(len(self.prompts) - int(going.sum()))
            if not going.any() or step + 1 == self.sampling.max_new_tokens:
                break
            self._drop(going)
            hidden = self._step(tokens[going], step)
        places = np.argsort(self.order)
        return [self.likelihoods[i] for i in places if self.likelihoods], [
            self.texts[i] for i in places
        ]

    def follow(self, written: Sequence[Sequence[int]]) -> list[Tensor]:
        """Continues with given tokens instead of generated ones.

        Args:
            written: As many tokens per prompt as `sampling` allows.

        Returns:
            The prompts' last hidden states, then those of each step, shape (N, D) each.
        """
        places = torch.from_numpy(np.argsort(self.order)).to(self.learner.device)
        states = [self._prefill()]
        for step in range(self.sampling.max_new_tokens):
            states.append(self._step(np.array([written[i][step] for i in self.order]), step))
        return [state[places] for state in states]

    def _prefill(self) -> Tensor:
        """Reads the prompts and scored texts; returns the prompts' last hidden states, (N, D).

        A continuation never sees the keys and values of a scored text: it overwrites them.
        """
        read = self._beginnings()
        layout = Layout(read.texts, read.owners, self.learner.device, np.array(read.before))
        own = np.full(len(read.texts), -1)
        own[read.places] = np.arange(len(read.places))
        caches: list[KeyValueCache | None] = []
        groups = zip(layout.blocks.members, layout.blocks.shapes, layout.before, strict=True)
        for members, (_, room), earlier in groups:
            chosen = own[members]
            passed = read.cuts[chosen[0]] if earlier is not None else 0
            is_prompt = bool((chosen >= 0).all())
            cache = (
                KeyValueCache(chosen, self.lengths[chosen], passed + room) if is_prompt else None
            )
            caches.append(cache)
        self.caches = [cache for cache in caches if cache is not None]

        def keep(keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
            for cache, k, v in zip(caches, keys, values, strict=True):
                if cache is not None:
                    # With room for the first tokens; a view would keep the queries in memory.
                    cache.keys.append(longer(k))
                    cache.values.append(longer(v))

        continued = keep if self.sampling.max_new_tokens > 1 else None
        hidden = self.learner.hidden(layout.row, FullPass(layout, continued), self.bank)
        starts, left = layout.starts[read.places], self.lengths - np.array(read.cuts)
        if self.scored is not None:
            texts = [read.texts[place] for place in read.places]
            self.likelihoods = self.learner.mean_log_probs(hidden, starts, texts, left.tolist())
        return hidden[torch.from_numpy(starts + left - 1).to(self.learner.device)]

    def _beginnings(self) -> _Texts:
        """Texts to read: each shared beginning once, and the rest of every prompt."""
        scored = self.scored or [[] for _ in self.prompts]
        read = _Texts([], [], [], [], [])
        known: dict[tuple[int, tuple[int, ...]], int] = {}
        for prompt, behind, owner, shared in zip(
            self.prompts, scored, self.owners.tolist(), self.shared, strict=True
        ):
            cut = whole_blocks(min(shared, len(prompt) - 1))
            key = owner, tuple(prompt[:cut])
            if cut and key not in known:
                known[key] = read.add(prompt[:cut], owner, -1)
            place = read.add([*prompt[cut:], *behind], owner, known[key] if cut else -1)
            read.places.append(place)
            read.cuts.append(cut)
        return read

    def _step(self, tokens: np.ndarray, step: int) -> Tensor:
        device = self.learner.device
        run = DecodePass(self.owners[self.active], self.caches, device)
        row = Row.build(tokens, self.lengths[self.active] + step, device)
        for cache in self.caches:
            capacity = cache.room + -(-(step + 1) // CACHE_STEP) * CACHE_STEP
            cache.prepare(self.active, step, capacity)
        return self.learner.hidden(row, run, self.bank)[: len(tokens)]

    def _choose(self, hidden: Tensor, step: int) -> np.ndarray:
        rows = padded_rows(len(hidden))
        logits = self.learner.head(F.pad(hidden, (0, 0, 0, rows - len(hidden))))[: len(hidden)]
        if self.guides:
            allowed = np.stack([self.guides[i].allowed() for i in self.active])
            forbidden = torch.from_numpy(~allowed).to(logits.device)
            logits = logits.masked_fill(forbidden, -math.inf)
        shares: Tensor | None = None
        if self.noise is None:
            tokens = logits.argmax(-1)
        else:
            shares = (logits.double() / self.sampling.temperature).softmax(-1)
            sums = shares.cumsum(-1)
            drawn = self.noise[self.active, step].to(sums)[:, None] * sums[:, -1:]
            tokens = torch.searchsorted(sums, drawn, right=True)[:, 0]
        if self.log_probs is not None:
            values = [0.0] * len(tokens)
            if shares is not None:
                values = shares.gather(-1, tokens[:, None])[:, 0].log().tolist()
            for i, value in zip(self.active, values, strict=True):
                self.log_probs[i].append(value)
        return tokens.cpu().numpy()

    def _append(self, tokens: np.ndarray) -> np.ndarray:
        """Appends the new tokens; returns whether each sequence goes on, shape (A,)."""
        going = ~np.isin(tokens, self.learner.stop_ids)
        if self.sampling.stop_at_newline:
            breaks = self.learner.ends_line(torch.from_numpy(tokens).to(self.learner.device))
            written = np.array([bool(self.texts[i]) for i in self.active])
            going &= ~(breaks.cpu().numpy() & written)
        for i, token, goes in zip(self.active, tokens, going, strict=True):
            if goes:
                self.texts[i].append(int(token))
                if self.guides:
                    self.guides[i].take(token)
            else:
                self.ends[i] = (int(token),)
        written = np.array([len(self.texts[i]) for i in self.active])
        going &= self.lengths[self.active] + written <= self.learner.max_length
        return going

    def _drop(self, going: np.ndarray) -> None:
        if going.all():
            return
        done = set(self.active[~going].tolist())
        self.active = self.active[going]
        for cache in self.caches:
            stay = np.array([i not in done for i in cache.members.tolist()])
            if not stay.all():
                cache.keep(stay)
        self.caches = [cache for cache in self.caches if len(cache.members)]


@torch.no_grad()
def generate(
    learner: Learner,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    owners: Sequence[int] | None = None,
    bank: Bank | None = None,
    seeds: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
    constraint: Constraint | None = None,
    shared: Sequence[int] | None = None,
) -> list[list[int]]:
    """Continues prompts, each under its adapter, until an end token or the limit.

    Args:
        learner: The model.
        prompts: Token ids of N prompts, none empty.
        sampling: Length, temperature and ends of the continuations.
        owners: Index of the adapter of each prompt; None for adapter 0.
        bank: The adapters; None for the untouched model.
        seeds: One seed per prompt, for temperatures above 0.
        progress: Callback with the number of finished prompts.
        constraint: Bound on the tokens that may be generated; None for none.
        shared: Number of leading tokens of each prompt that are read once, about, for all prompts
            of its adapter that begin with them; None for 0.

    Returns:
        The new token ids of each prompt, without the end token. A continuation also ends at the
        model's longest input.
    """
    if not prompts:
        return []
    owners = owners or [0] * len(prompts)
    decoder = BatchGenerator(learner, prompts, owners, bank, sampling, seeds, None, shared)
    if constraint is not None:
        decoder.guides = [constraint.start() for _ in prompts]
    return decoder.run(progress)[1]


@torch.no_grad()
def sample(
    learner: Learner,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    bank: Bank | None = None,
    constraint: Constraint | None = None,
    shared: Sequence[int] | None = None,
) -> list[Completion]:
    """Continuations as data to learn from: text, tokens, and the log-probability of each token.

    The tokens are those that `generate` returns, to the bit, and the end token.

    Args:
        learner: The model.
        prompts: Token ids of N prompts, none empty.
        sampling: Length, temperature and ends of the continuations.
        seeds: One seed per prompt.
        bank: The adapters, of which the first is used; None for the untouched model.
        constraint: Bound on the tokens that may be generated; None for none.
        shared: As in `generate`.

    Returns:
        One `Completion` per prompt.
    """
    if not prompts:
        return []
    owners = [0] * len(prompts)
    decoder = BatchGenerator(learner, prompts, owners, bank, sampling, seeds, None, shared)
    decoder.log_probs = [[] for _ in prompts]
    if constraint is not None:
        decoder.guides = [constraint.start() for _ in prompts]
    _, texts = decoder.run(None)
    # All have the same owner, so the decoder's order is that of the prompts.
    return [
        Completion(learner.decode(text), (*text, *end), tuple(log_probs), bool(end))
        for text, end, log_probs in zip(texts, decoder.ends, decoder.log_probs, strict=True)
    ]


@torch.no_grad()
def score_and_generate(
    learner: Learner,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    sampling: Sampling,
    owners: Sequence[int],
    bank: Bank | None,
    shared: Sequence[int] | None = None,
) -> tuple[list[float], list[list[int]]]:
    """Results of `Learner.score` and greedy `generate`, with every prompt read once.

    Args:
        learner: The model.
        prompts: Token ids of N prompts, none empty.
        completions: Token ids to score after each prompt.
        sampling: Length and ends of the continuations.
        owners: Index of the adapter of each prompt.
        bank: The adapters; None for the untouched model.
        shared: See `generate`.

    Returns:
        Mean log-probability of each completion (nats per token), and the new token ids.
    """
    if not prompts:
        return [], []
    decoder = BatchGenerator(learner, prompts, owners, bank, sampling, None, completions, shared)
    return decoder.run(None)


def _uniforms(seeds: Sequence[int] | None, order: np.ndarray, sampling: Sampling) -> Tensor:
    """Uniform numbers in [0, 1) that decide the samples, shape (N, max_new_tokens)."""
    if seeds is None:
        raise ValueError("sampling at a temperature above 0 needs one seed per prompt")
    rows = []
    for i in order:
        generator = torch.Generator().manual_seed(int(seeds[i]))
        rows.append(torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(rows)
