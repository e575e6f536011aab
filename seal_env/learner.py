"""The learner: a frozen causal language model, loaded once and shared by all environments.

`Learner` scores and continues many texts in one pass, each under the adapter it belongs to.
Everything goes through rows of packed tokens (`seal_env.packing`), so what one text gets does
not depend on the texts beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seal_env.adapters import Bank
from seal_env.constrained import Constraint, Guide
from seal_env.decoder import Decoder, is_supported
from seal_env.packing import (
    ROW_MULTIPLE,
    Blocks,
    FullPass,
    Layout,
    Pass,
    Row,
    owner_segments,
    padded_rows,
    running,
    scaled_attention,
    whole_blocks,
)
from seal_env.prompts import uses_chat

LOGITS = 1 << 23
"""Logits that are computed at a time, which bounds their memory."""
CACHE_STEP = 32
"""The key-value cache of a decoder grows by this many tokens at a time."""


@dataclass(frozen=True)
class Sampling:
    """How a text is continued."""

    max_new_tokens: int
    """Longest continuation, in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token; otherwise tokens are drawn at this temperature."""
    stop_at_newline: bool = False
    """Whether a line break ends the continuation (once something was written)."""


class Learner:
    """A frozen model with its tokenizer.

    Args:
        model: A causal language model whose attention is `packing.IMPLEMENTATION`.
        tokenizer: Its tokenizer.
        name: What it was loaded as.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.decoder = Decoder(model) if is_supported(model) else None
        """The model's layers as `seal_env.decoder` writes them out; None if it cannot."""
        self.device = model.device
        self.width = int(model.get_input_embeddings().weight.shape[1])  # type: ignore[index]
        self.max_length = _max_length(model, tokenizer)
        self.stop_ids = _stop_ids(model, tokenizer)
        self.end_ids = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        """What a training sequence ends with."""
        self.kept: dict[str, dict[Any, Any]] = {}
        """What was measured of the untouched model and need not be measured again, by kind."""
        vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self.head_rows = min(max(LOGITS // vocabulary // ROW_MULTIPLE, 1) * ROW_MULTIPLE, 1024)
        """Rows that the output head takes at a time."""
        self._newlines: Tensor | None = None

    def workers(self, parts: int) -> int:
        """How many independent parts of a job are best run at the same time."""
        if self.device.type != "cpu" or self.decoder is None:
            return 1
        return max(1, min(parts, torch.get_num_threads()))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text to learn from or to read; any string is legal.

        Text that spells a special token stays text.
        """
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self.tokenizer(clean, split_special_tokens=True)["input_ids"])

    def encode_prompt(self, text: str, chat: bool | None) -> list[int]:
        """Token ids of a prompt; a chat template's special tokens are read as such."""
        if not uses_chat(self.tokenizer, chat):
            return self.encode(text)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of a text that follows a prompt."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        found = self.tokenizer(clean, add_special_tokens=False, split_special_tokens=True)
        return list(found["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def hidden(self, row: Row, run: Pass, bank: Bank | None) -> Tensor:
        """Last hidden states of a row, shape (rows, width)."""
        if self.decoder is not None:
            return self.decoder.hidden(row, run, bank)
        attached: AbstractContextManager[None] = (
            bank.attached(self.model) if bank is not None else nullcontext()
        )
        with running(run), attached:
            output = self.model.base_model(
                input_ids=row.ids[None], position_ids=row.positions[None], use_cache=False
            )
        return output.last_hidden_state[0]

    def head(self, hidden: Tensor) -> Tensor:
        """Float32 logits of hidden states, shape (rows, vocabulary)."""
        return self.model.get_output_embeddings()(hidden).float()

    @torch.no_grad()
    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        owners: Sequence[int],
        bank: Bank | None,
    ) -> list[float]:
        """Mean log-probability per token of each completion after its prompt.

        Args:
            prompts: Token ids; an empty prompt leaves the completion's first token unscored.
            completions: Token ids, none empty.
            owners: The adapter each belongs to.
            bank: The adapters; None for the untouched model.

        Returns:
            Natural logarithms, at most 0; NaN where nothing was scored.
        """
        whole = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
        if not whole:
            return []
        layout = Layout(whole, owners, self.device)
        hidden = self.hidden(layout.row, FullPass(layout), bank)
        return self.mean_log_probs(hidden, layout.starts, whole, [len(p) for p in prompts])

    def mean_log_probs(
        self,
        hidden: Tensor,
        starts: np.ndarray,
        texts: Sequence[Sequence[int]],
        unscored: Sequence[int],
    ) -> list[float]:
        """Mean log-probability per token of each text after so many of its tokens.

        Args:
            hidden: Last hidden states of a row, shape (rows, width).
            starts: The row of each text's first token.
            texts: Token ids.
            unscored: Leading tokens that do not count, of each.
        """
        rows: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
        labels: list[int] = []
        counts = []
        for start, ids, skipped in zip(starts, texts, unscored, strict=True):
            first = max(1, skipped)
            rows.append(np.arange(start + first - 1, start + len(ids) - 1))
            labels += ids[first:]
            counts.append(len(ids) - first)
        losses = self.losses(hidden, np.concatenate(rows), labels).tolist() if labels else []
        means, position = [], 0
        for count in counts:
            # fsum is exact, so the mean does not depend on the order of the sum.
            means.append(
                -math.fsum(losses[position : position + count]) / count if count else math.nan
            )
            position += count
        return means

    def losses(self, hidden: Tensor, rows: np.ndarray, labels: Sequence[int]) -> Tensor:
        """Cross-entropy at some rows, shape (len(rows),), without keeping all logits at once."""
        count = len(rows)
        padded = np.resize(rows, padded_rows(count))
        targets = torch.tensor(
            np.resize(np.asarray(labels, dtype=np.int64), len(padded)), device=self.device
        )
        chosen = hidden.index_select(0, torch.from_numpy(padded).to(self.device))
        return _Losses.apply(chosen, targets, self.head, self.head_rows)[:count]

    @torch.no_grad()
    def describe(
        self, texts: Sequence[Sequence[int]], owners: Sequence[int], bank: Bank | None
    ) -> tuple[np.ndarray, list[float]]:
        """What a model makes of texts: mean last hidden state, and loss per token.

        Returns:
            Float32 array of shape (texts, width), and one loss a text (0 for a single token).
        """
        layout = Layout(texts, owners, self.device)
        hidden = self.hidden(layout.row, FullPass(layout), bank)
        means = np.empty((len(texts), self.width), dtype=np.float32)
        states = hidden.float().cpu().numpy().astype(np.float64)
        for i, (start, ids) in enumerate(zip(layout.starts, texts, strict=True)):
            means[i] = states[start : start + len(ids)].mean(axis=0)
        scores = self.mean_log_probs(hidden, layout.starts, texts, [0] * len(texts))
        losses = [-score if len(ids) > 1 else 0.0 for score, ids in zip(scores, texts, strict=True)]
        return means, losses

    @torch.no_grad()
    def generate(
        self,
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
            prompts: Token ids, none empty.
            sampling: How.
            owners: The adapter of each prompt; all 0 if left out.
            bank: The adapters; None for the untouched model.
            seeds: One a prompt; fix what is drawn at a temperature above 0.
            progress: Called with the number of prompts done.
            constraint: What may be written; anything if left out.
            shared: About how many leading tokens of each prompt are read once for all prompts of
                its adapter that begin with them; none if left out.

        Returns:
            The new token ids of each prompt, without the end token. They end where the model's
            longest input does, too.
        """
        if not prompts:
            return []
        owners = owners or [0] * len(prompts)
        decoder = _Decoder(self, prompts, owners, bank, sampling, seeds, None, shared)
        if constraint is not None:
            decoder.guides = [constraint.start() for _ in prompts]
        return decoder.run(progress)[1]

    @torch.no_grad()
    def score_and_generate(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        sampling: Sampling,
        owners: Sequence[int],
        bank: Bank | None,
        shared: Sequence[int] | None = None,
    ) -> tuple[list[float], list[list[int]]]:
        """What `score` and `generate` return, with every prompt read once.

        Args:
            prompts: Token ids, none empty.
            completions: What is scored after each.
            sampling: How the prompts are continued; greedily.
            owners: The adapter each belongs to.
            bank: The adapters; None for the untouched model.
            shared: See `generate`.
        """
        if not prompts:
            return [], []
        decoder = _Decoder(self, prompts, owners, bank, sampling, None, completions, shared)
        return decoder.run(None)

    def ends_line(self, tokens: Tensor) -> Tensor:
        """Which tokens contain a line break; same shape, bool."""
        if self._newlines is None:
            size = int(self.model.get_input_embeddings().weight.shape[0])
            pieces = [self.tokenizer.decode([i]) for i in range(min(size, len(self.tokenizer)))]
            flags = ["\n" in piece for piece in pieces] + [False] * (size - len(pieces))
            self._newlines = torch.tensor(flags, device=self.device)
        return self._newlines[tokens]


class _Losses(torch.autograd.Function):
    """Cross-entropy of each row; the gradient is found along with it, a few rows at a time.

    So the logits of a few rows are all that is ever in memory, and they are computed once.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, labels: Tensor, head: Callable[[Tensor], Tensor], size: int
    ) -> Tensor:
        parts, grads, wanted = [], [], ctx.needs_input_grad[0]
        for some, targets in zip(hidden.split(size), labels.split(size), strict=True):
            with torch.set_grad_enabled(wanted):
                x = some.detach().requires_grad_(wanted)
                losses = F.cross_entropy(head(x), targets, reduction="none")
                if wanted:
                    grads += torch.autograd.grad(losses.sum(), x)
            parts.append(losses.detach())
        if wanted:
            ctx.save_for_backward(torch.cat(grads))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * outer[0].to(grad.dtype)[:, None], None, None, None


class _DecodePass(Pass):
    """One new token of every running sequence, attending to its sequence's cache."""

    def __init__(self, decoder: _Decoder) -> None:
        owners, counts = owner_segments(
            decoder.owners[decoder.active], np.ones(len(decoder.active), dtype=np.int64)
        )
        rows = padded_rows(len(decoder.active))
        super().__init__(owners, Blocks.build(counts, rows, decoder.learner.device))
        self.decoder = decoder

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        out = torch.zeros_like(q)
        for cache in self.decoder.caches:
            rows, slots = cache.rows, cache.slots
            keys, values = cache.keys[layer], cache.values[layer]
            keys[cache.index, slots] = k[rows]
            values[cache.index, slots] = v[rows]
            mixed = scaled_attention(
                q[rows].unsqueeze(1), keys, values, scale, causal=False, mask=cache.mask
            )
            out[rows] = mixed.squeeze(1)
        return out


class _Cache:
    """Keys and values of the running sequences whose prompts have the same bucket."""

    def __init__(self, members: np.ndarray, lengths: np.ndarray, room: int) -> None:
        self.members, self.lengths, self.room = members, lengths, room
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def prepare(self, active: np.ndarray, step: int, capacity: int, like: Tensor) -> None:
        """Gets ready for the token at position `lengths + step` of each sequence."""
        device, dtype = like.device, like.dtype
        for tensors in (self.keys, self.values):
            for layer, tensor in tensors.items():
                if tensor.shape[1] < capacity:
                    missing = capacity - tensor.shape[1]
                    tensors[layer] = F.pad(tensor, (0, 0, 0, 0, 0, missing))
        self.rows = torch.from_numpy(np.searchsorted(active, self.members)).to(device)
        self.index = torch.arange(len(self.members), device=device)
        self.slots = torch.from_numpy(self.lengths + step).to(device)
        visible = torch.arange(capacity, device=device)[None] <= self.slots[:, None]
        mask = torch.zeros(visible.shape, dtype=dtype, device=device)
        self.mask = mask.masked_fill_(~visible, -math.inf)[:, None, None]

    def keep(self, stay: np.ndarray) -> None:
        """Drops the sequences that are done."""
        chosen = torch.from_numpy(np.flatnonzero(stay))
        self.members, self.lengths = self.members[stay], self.lengths[stay]
        for tensors in (self.keys, self.values):
            for layer, tensor in tensors.items():
                tensors[layer] = tensor[chosen.to(tensor.device)]


class _Decoder:
    """Continues packed prompts with a key-value cache per bucket of prompt lengths."""

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
        self.noise = _uniforms(seeds, self.order, sampling) if sampling.temperature > 0 else None
        self.caches: list[_Cache] = []
        self.guides: list[Guide] = []

    def run(self, progress: Callable[[int], None] | None) -> tuple[list[float], list[list[int]]]:
        """Mean log-probabilities of what is scored, if anything is, and the continuations."""
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

    def _prefill(self) -> Tensor:
        # What is scored stands behind its prompt. Its keys and values are never looked at by a
        # continuation, which writes its own over them.
        scored = self.scored or [[] for _ in self.prompts]
        sequences: list[Sequence[int]] = []
        owners, before, places, cuts = [], [], [], []
        beginnings: dict[tuple[int, tuple[int, ...]], int] = {}
        for prompt, behind, owner, shared in zip(
            self.prompts, scored, self.owners.tolist(), self.shared, strict=True
        ):
            cut = whole_blocks(min(shared, len(prompt) - 1))
            key = owner, tuple(prompt[:cut])
            if cut and key not in beginnings:
                beginnings[key] = len(sequences)
                sequences.append(prompt[:cut])
                owners.append(owner)
                before.append(-1)
            places.append(len(sequences))
            cuts.append(cut)
            sequences.append([*prompt[cut:], *behind])
            owners.append(owner)
            before.append(beginnings[key] if cut else -1)
        layout = Layout(sequences, owners, self.learner.device, np.array(before))
        own = np.full(len(sequences), -1)
        own[places] = np.arange(len(places))
        groups = zip(layout.blocks.members, layout.blocks.shapes, layout.before, strict=True)
        caches: list[_Cache | None] = []
        for members, (_, room), earlier in groups:
            chosen = own[members]
            passed = cuts[chosen[0]] if earlier is not None else 0
            is_prompt = bool((chosen >= 0).all())
            cache = _Cache(chosen, self.lengths[chosen], passed + room) if is_prompt else None
            caches.append(cache)
        self.caches = [cache for cache in caches if cache is not None]

        def keep(layer: int, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
            for cache, k, v in zip(caches, keys, values, strict=True):
                if cache is not None:
                    cache.keys[layer], cache.values[layer] = k, v

        hidden = self.learner.hidden(layout.row, FullPass(layout, keep), self.bank)
        starts, left = layout.starts[places], self.lengths - np.array(cuts)
        if self.scored is not None:
            texts = [sequences[place] for place in places]
            self.likelihoods = self.learner.mean_log_probs(hidden, starts, texts, left.tolist())
        return hidden[torch.from_numpy(starts + left - 1).to(self.learner.device)]

    def _step(self, tokens: np.ndarray, step: int) -> Tensor:
        device = self.learner.device
        run = _DecodePass(self)
        row = Row.build(tokens, self.lengths[self.active] + step, device)
        for cache in self.caches:
            capacity = cache.room + -(-(step + 1) // CACHE_STEP) * CACHE_STEP
            cache.prepare(self.active, step, capacity, next(iter(cache.keys.values())))
        return self.learner.hidden(row, run, self.bank)[: len(tokens)]

    def _choose(self, hidden: Tensor, step: int) -> np.ndarray:
        rows = padded_rows(len(hidden))
        logits = self.learner.head(F.pad(hidden, (0, 0, 0, rows - len(hidden))))[: len(hidden)]
        if self.guides:
            allowed = np.stack([self.guides[i].allowed() for i in self.active])
            forbidden = torch.from_numpy(~allowed).to(logits.device)
            logits = logits.masked_fill(forbidden, -math.inf)
        if self.noise is None:
            return logits.argmax(-1).cpu().numpy()
        scaled = (logits.double() / self.sampling.temperature).softmax(-1).cumsum(-1)
        drawn = self.noise[self.active, step].to(scaled)[:, None] * scaled[:, -1:]
        return torch.searchsorted(scaled, drawn, right=True)[:, 0].cpu().numpy()

    def _append(self, tokens: np.ndarray) -> np.ndarray:
        """Writes the new tokens down; returns which of the active sequences go on."""
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


def _uniforms(seeds: Sequence[int] | None, order: np.ndarray, sampling: Sampling) -> Tensor:
    """The numbers in [0, 1) that decide what is drawn, shape (prompts, max_new_tokens)."""
    if seeds is None:
        raise ValueError("sampling at a temperature above 0 needs one seed a prompt")
    rows = []
    for i in order:
        generator = torch.Generator().manual_seed(int(seeds[i]))
        rows.append(torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def _max_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest input in tokens, by the model's config and the tokenizer.

    Packed attention knows no sliding window, which makes no difference within the window.
    """
    config = model.config
    limits = [1 << 20, tokenizer.model_max_length]
    limits.append(getattr(config, "max_position_embeddings", None) or limits[0])
    if getattr(config, "use_sliding_window", True):
        limits.append(getattr(config, "sliding_window", None) or limits[0])
    return int(min(limits))


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Tokens that end a text."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return np.array([i for i in {*listed, tokenizer.eos_token_id} if i is not None], dtype=np.int64)
