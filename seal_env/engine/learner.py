"""The learner: a frozen causal language model, loaded once and shared by all environments.

`Learner` computes hidden states, scores and losses of many texts in one pass, each under its own
adapter. All of them are packed into one row of tokens (`seal_env.engine.packing`), and the results
of one text do not depend on the texts beside it.

Dimensions:
    - T: rows of tokens in a pass, spare ones included.
    - D: width of the hidden states.
    - V: size of the vocabulary, as rows of the output head.
    - M: labels, the rows at which a loss is computed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seal_env.engine.banks import Bank, routed
from seal_env.engine.llama import Decoder, is_supported
from seal_env.engine.logits import Logits
from seal_env.engine.packing import ROW_MULTIPLE, Layout, Row, padded_rows
from seal_env.engine.passes import FullPass, Pass, running
from seal_env.engine.rendering import TOKENIZING, Renderer
from seal_env.engine.rotary import longest_unchanged
from seal_env.engine.threads import Turns

LOGITS = {"cpu": 1 << 23}
"""Bound on the number of logits in memory at a time, by device type."""
LOGITS_ELSEWHERE = 1 << 27
"""The bound on other devices, where a small product costs as much as reading the whole head."""


class Learner:
    """A frozen model with its tokenizer.

    The model is put into eval mode and its parameters are frozen. Where `seal_env.engine.llama`
    supports it, the matrices of queries, keys and values are moved next to each other in memory;
    each stays the module's own weight.

    Args:
        model: A causal language model whose attention is `passes.IMPLEMENTATION`.
        tokenizer: The model's tokenizer.
        name: The name or path that it was loaded by.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.decoder = Decoder(model) if is_supported(model) else None
        """The model's layers with a written-out backward pass; None for other architectures."""
        self._logits = Logits(model)
        self.bits = True
        """Whether the check at load found equal bits for a text alone and beside others."""
        self.trust_remote_code = False
        """Whether the model was allowed to bring Python code of its own."""
        self.device = model.device
        self.width = int(model.get_input_embeddings().weight.shape[1])  # type: ignore[index]
        self.max_length = _max_length(model, tokenizer)
        embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
        rows = min(int(module.weight.shape[0]) for module in embeddings)  # type: ignore[index]
        self.renderer = Renderer(tokenizer, name, rows, self.max_length, _configured_ends(model))
        """Conversion of texts to this model's tokens."""
        self.stop_ids, self.end_ids = self.renderer.stop_ids, self.renderer.end_ids
        self.cache: dict[Any, dict[Any, Any]] = {}
        """Measurements of the untouched model, by kind; caches of the modules that use it."""
        vocabulary = int(model.get_output_embeddings().weight.shape[0])
        logits = LOGITS.get(self.device.type, LOGITS_ELSEWHERE)
        self.head_rows = min(max(logits // vocabulary // ROW_MULTIPLE, 1) * ROW_MULTIPLE, 1024)
        """Rows of hidden states per call of the output head."""
        self.turns = Turns()
        """Lock that is held while transformers' own layers run: adapters are attached to the layers
        themselves, and a layer may store data of the row that goes through it."""
        self._newlines: Tensor | None = None

    def copy_model(self) -> PreTrainedModel:
        """Copy of the model, without adapters that another thread has attached."""
        with self.turns:
            return copy.deepcopy(self.model)

    def workers(self, parts: int) -> int:
        """Number of threads for a job of so many independent parts."""
        if self.device.type != "cpu" or self.decoder is None:
            return 1
        return max(1, min(parts, torch.get_num_threads()))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, which may be any string. See `seal_env.engine.rendering`."""
        return self.renderer.encode(text)

    def encode_prompt(self, text: str, chat: bool | None) -> list[int]:
        """Token ids of a prompt that is not to be cut."""
        return self.renderer.prompt((text,), chat=chat).ids

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of a text that follows a prompt."""
        return self.renderer.answer(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return self.renderer.decode(ids)

    def hidden(self, row: Row, run: Pass, bank: Bank | None) -> Tensor:
        """Last hidden states of a row, shape (T, D)."""
        if self.decoder is not None:
            return self.decoder.hidden(row, run, bank)
        attached: AbstractContextManager[None] = (
            bank.attached(self.model) if bank is not None else nullcontext()
        )
        with self.turns, running(run), attached:
            output = self.model.base_model(
                input_ids=row.ids[None], position_ids=row.positions[None], use_cache=False
            )
        return output.last_hidden_state[0]

    def head(self, hidden: Tensor) -> Tensor:
        """Float32 logits, shape (T, V), of hidden states, shape (T, D)."""
        return self._logits(hidden).float()

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
            prompts: Token ids; after an empty prompt the completion's first token is not scored.
            completions: Token ids, none empty.
            owners: Index of the adapter of each.
            bank: The adapters; None for the untouched model.

        Returns:
            Nats per token, at most 0; NaN where no token was scored.
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
        """Mean log-probability of each text, without its leading tokens.

        Args:
            hidden: Last hidden states of a row, shape (T, D).
            starts: Row of each text's first token.
            texts: Token ids.
            unscored: Number of leading tokens of each text that are not scored.

        Returns:
            Nats per token, at most 0; NaN where no token was scored.
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
        """Cross-entropy at some rows, with a bounded number of logits in memory.

        Args:
            hidden: Last hidden states of a row, shape (T, D).
            rows: Indices of rows, shape (M,).
            labels: Token ids that follow them, M of them.

        Returns:
            Nats, shape (M,).
        """

        def loss(some: Tensor, targets: Tensor) -> Tensor:
            # A GPU converts within the softmax, without a float32 copy of the logits.
            log_shares = self._logits(some).log_softmax(-1, dtype=torch.float32)
            return F.nll_loss(log_shares, targets, reduction="none")

        return self.losses_at(hidden, rows, labels, loss)

    def losses_at(
        self,
        hidden: Tensor,
        rows: np.ndarray,
        labels: Sequence[int],
        loss: Callable[..., Tensor],
        *beside: Tensor,
    ) -> Tensor:
        """Loss of a kind of its own at some rows, with a bounded number of logits in memory.

        Args:
            hidden: Last hidden states of a row, shape (T, D).
            rows: Indices of rows, shape (M,).
            labels: Token ids that follow them, M of them.
            loss: Loss of each row, from some rows of hidden states, their labels and `beside`.
            beside: Further data of each row without a gradient, shape (M, ...).

        Returns:
            Nats, shape (M,).
        """
        count = len(rows)
        padded = np.resize(rows, padded_rows(count))
        targets = torch.tensor(
            np.resize(np.asarray(labels, dtype=np.int64), len(padded)), device=self.device
        )
        chosen = hidden.index_select(0, torch.from_numpy(padded).to(self.device))
        if beside:
            index = torch.from_numpy(np.resize(np.arange(count), len(padded))).to(self.device)
            beside = tuple(data.index_select(0, index) for data in beside)
        return _Losses.apply(chosen, self.head_rows, loss, targets, *beside)[:count]

    @torch.no_grad()
    def describe(
        self, texts: Sequence[Sequence[int]], owners: Sequence[int], bank: Bank | None
    ) -> tuple[np.ndarray, list[float]]:
        """Mean last hidden state and loss of each text.

        Returns:
            Float32 array of shape (texts, D), and one loss per text in nats per token (0 for a text
            of one token).
        """
        layout = Layout(texts, routed(bank, owners, texts), self.device)
        hidden = self.hidden(layout.row, FullPass(layout), bank)
        means = np.empty((len(texts), self.width), dtype=np.float32)
        states = hidden.float().cpu().numpy().astype(np.float64)
        for i, (start, ids) in enumerate(zip(layout.starts, texts, strict=True)):
            means[i] = states[start : start + len(ids)].mean(axis=0)
        scores = self.mean_log_probs(hidden, layout.starts, texts, [0] * len(texts))
        losses = [-score if len(ids) > 1 else 0.0 for score, ids in zip(scores, texts, strict=True)]
        return means, losses

    def ends_line(self, tokens: Tensor) -> Tensor:
        """Whether each token contains a line break, bool, same shape."""
        if self._newlines is None:
            size = int(self.model.get_input_embeddings().weight.shape[0])
            with TOKENIZING:
                pieces = [self.tokenizer.decode([i]) for i in range(min(size, len(self.tokenizer)))]
            flags = ["\n" in piece for piece in pieces] + [False] * (size - len(pieces))
            self._newlines = torch.tensor(flags, device=self.device)
        return self._newlines[tokens]


class _Losses(torch.autograd.Function):
    """Loss of each row, with the gradient computed in the same loop over chunks of rows.

    Only one chunk's logits are in memory at a time, and they are computed once.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, size: int, loss: Callable[..., Tensor], *beside: Tensor
    ) -> Tensor:
        parts, grads, wanted = [], [], ctx.needs_input_grad[0]
        chunks = (data.split(size) for data in beside)
        for some, *others in zip(hidden.split(size), *chunks, strict=True):
            with torch.set_grad_enabled(wanted):
                x = some.detach().requires_grad_(wanted)
                losses = loss(x, *others)
                if wanted:
                    grads += torch.autograd.grad(losses.sum(), x)
            parts.append(losses.detach())
        if wanted:
            ctx.save_for_backward(torch.cat(grads))
        ctx.beside = len(beside)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        inner = grad * outer[0].to(grad.dtype)[:, None]
        return inner, None, None, *(None,) * ctx.beside


def _max_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Length of the longest input in tokens, by the model's config and the tokenizer."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    limits = (1 << 20, tokenizer.model_max_length, positions, longest_unchanged(config))
    return int(min(limit for limit in limits if limit))


def _configured_ends(model: PreTrainedModel) -> list[int]:
    """Ids of the tokens that end a text, by the model's generation settings."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return [int(i) for i in listed if i is not None]
