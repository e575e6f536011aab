"""Generation: continuations of many prompts, each under its adapter, with a key-value cache.

A step is a pass over one row that holds the next token of every unfinished prompt
(`seal_env.engine.packing`). Equal prompts are read once and share a cache
(`seal_env.engine.shared_cache`). Where texts are scored as well, which follow the prompts, each
prompt has a cache of its own; what is generated there does not depend on that.

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
from seal_env.engine.cache import Cache, DecodePass, KeyValueCache
from seal_env.engine.learner import Learner
from seal_env.engine.packing import Layout, Row, padded_rows, whole_blocks, whole_rows
from seal_env.engine.passes import FullPass
from seal_env.engine.sampling import Completion, Constraint, Guide, Sampling
from seal_env.engine.shared_cache import SharedCache, shared_room

BLOCK = 256
"""Tokens of the vocabulary whose probabilities are summed together when one is drawn."""


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
        scored: Token ids to score after each prompt; None for none, and equal prompts are then
            read once.
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
        self.caches: list[Cache] = []
        self.guides: list[Guide] = []
        self.allowed: dict[int, np.ndarray] = {}
        """Whether each token may come next, by the index of its prompt."""
        self.stop_ids = set(learner.stop_ids.tolist())

    def run(self, progress: Callable[[int], None] | None) -> tuple[list[float], list[list[int]]]:
        """Mean log-probabilities of the scored texts (nats per token), and the continuations."""
        hidden = self._prefill()
        self.allowed = {i: guide.allowed() for i, guide in enumerate(self.guides)}
        for step in range(self.sampling.max_new_tokens):
            tokens = self._choose(hidden, step)
            going = self._append(tokens)
            if progress is not None:
                progress(len(self.prompts) - int(going.sum()))
            if not going.any():
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
        caches = self._plan(read, layout)
        self.caches = [cache for cache, _ in caches]

        def keep(keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
            for cache, groups in caches:
                cache.store([keys[i] for i in groups], [values[i] for i in groups])

        continued = keep if self.sampling.max_new_tokens > 1 else None
        hidden = self.learner.hidden(layout.row, FullPass(layout, continued), self.bank)
        starts, left = layout.starts[read.places], self.lengths - np.array(read.cuts)
        if self.scored is not None:
            texts = [read.texts[place] for place in read.places]
            self.likelihoods = self.learner.mean_log_probs(hidden, starts, texts, left.tolist())
        return hidden[torch.from_numpy(starts + left - 1).to(self.learner.device)]

    def _plan(self, read: _Texts, layout: Layout) -> list[tuple[Cache, list[int]]]:
        """Caches, each with the groups of blocks that hold its prompts."""
        places = np.array(read.places)
        together: dict[int, list[int]] = {}
        plan: list[tuple[Cache, list[int]]] = []
        blocks = zip(layout.blocks.members, layout.blocks.shapes, layout.before, strict=True)
        for group, (texts, (_, room), earlier) in enumerate(blocks):
            if texts[0] not in places:  # a beginning that others continue
                continue
            if earlier is not None:
                room += read.cuts[np.flatnonzero(places == texts[0])[0]]
            if self.scored is None:
                together.setdefault(shared_room(room), []).append(group)
            else:
                members = np.searchsorted(places, texts)
                plan.append((KeyValueCache(members, self.lengths[members], room), [group]))
        for room, groups in together.items():
            texts = np.concatenate([layout.blocks.members[group] for group in groups])
            members = np.flatnonzero(np.isin(places, texts))
            order = np.argsort(texts)
            prompts = order[np.searchsorted(texts, places[members], sorter=order)]
            plan.append((SharedCache(members, self.lengths[members], prompts, room), groups))
        return plan

    def _beginnings(self) -> _Texts:
        """Texts to read: each shared beginning once, and the rest of every prompt."""
        read = _Texts([], [], [], [], [])
        known: dict[tuple[int, tuple[int, ...], int], int] = {}
        for number, (prompt, owner, shared) in enumerate(
            zip(self.prompts, self.owners.tolist(), self.shared, strict=True)
        ):
            cut = whole_blocks(min(shared, len(prompt) - 1), self.learner.device)
            beginning, whole = (owner, tuple(prompt[:cut]), -1), (owner, tuple(prompt), cut)
            if cut and beginning not in known:
                known[beginning] = read.add(prompt[:cut], owner, -1)
            if self.scored is not None or whole not in known:
                behind = self.scored[number] if self.scored is not None else ()
                text = [*prompt[cut:], *behind]
                known[whole] = read.add(text, owner, known[beginning] if cut else -1)
            read.places.append(known[whole])
            read.cuts.append(cut)
        return read

    def _step(self, tokens: np.ndarray, step: int) -> Tensor:
        device = self.learner.device
        # Adapters need a spare row.
        rows = whole_rows(len(tokens)) if self.bank is None else padded_rows(len(tokens))
        run = DecodePass(self.owners[self.active], rows, self.caches, device)
        row = Row.build(tokens, self.lengths[self.active] + step, device, rows)
        for cache in self.caches:
            cache.prepare(self.active, step)
        return self.learner.hidden(row, run, self.bank)[: len(tokens)]

    def _choose(self, hidden: Tensor, step: int) -> np.ndarray:
        rows = whole_rows(len(hidden))
        logits = self.learner.head(F.pad(hidden, (0, 0, 0, rows - len(hidden))))[: len(hidden)]
        if self.guides:
            allowed = np.stack([self.allowed[i] for i in self.active.tolist()])
            forbidden = torch.from_numpy(~allowed).to(logits.device)
            logits.masked_fill_(forbidden, -math.inf)
        shares: Tensor | None = None
        if self.noise is None:
            tokens = logits.argmax(-1)
        else:
            shares = (logits.double() / self.sampling.temperature).softmax(-1)
            tokens = drawn(shares, self.noise[self.active, step].to(shares))
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
        going &= written < self.sampling.max_new_tokens
        if self.guides:
            going[going] = [self._allow(i) for i in self.active[going].tolist()]
        return going

    def _allow(self, number: int) -> bool:
        """Finds the tokens that may come next; whether there is more than one way to go on.

        A text after which one token alone is allowed, an end, ends at once: nothing is left to
        compute.
        """
        self.allowed[number] = allowed = self.guides[number].allowed()
        choices = np.flatnonzero(allowed)
        if len(choices) > 1 or int(choices[0]) not in self.stop_ids:
            return True
        self.ends[number] = (int(choices[0]),)
        if self.log_probs is not None:
            self.log_probs[number].append(0.0)
        return False

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


def drawn(shares: Tensor, noise: Tensor) -> Tensor:
    """Tokens drawn by inverting the cumulative distribution, shape (A,).

    The sum runs over blocks of tokens first and then within one block, which is faster than over
    all tokens. A token without a share is never drawn.

    Args:
        shares: Probabilities in float64, shape (A, V).
        noise: Uniform numbers in [0, 1), float64, shape (A,).
    """
    blocks = F.pad(shares, (0, -shares.shape[1] % BLOCK)).view(len(shares), -1, BLOCK)
    sums = blocks.sum(-1).cumsum(-1)
    wanted = torch.minimum(noise[:, None] * sums[:, -1:], _below(sums[:, -1:]))
    block = torch.searchsorted(sums, wanted, right=True)
    before = F.pad(sums, (1, 0)).gather(1, block)
    inner = blocks[torch.arange(len(blocks), device=blocks.device), block[:, 0]].cumsum(-1)
    # Summed in another order, the block may hold less than the rest.
    rest = torch.minimum(wanted - before, _below(inner[:, -1:]))
    return block[:, 0] * BLOCK + torch.searchsorted(inner, rest, right=True)[:, 0]


def _below(x: Tensor) -> Tensor:
    """The next smaller floating-point numbers: a product may round up to a sum."""
    return x.nextafter(torch.zeros_like(x))


def _uniforms(seeds: Sequence[int] | None, order: np.ndarray, sampling: Sampling) -> Tensor:
    """Uniform numbers in [0, 1) that decide the samples, shape (N, max_new_tokens)."""
    if seeds is None:
        raise ValueError("sampling at a temperature above 0 needs one seed per prompt")
    rows = []
    for i in order:
        generator = torch.Generator().manual_seed(int(seeds[i]))
        rows.append(torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(rows)
