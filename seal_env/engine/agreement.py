"""Check at load: does a model give its own numbers on packed rows?

Packed rows are exact for layers that treat tokens alike and for attention that goes through
transformers' interface. Any other layer would give wrong results without an error. Therefore the
model's own results on two short texts, computed before its attention is replaced, are compared with
those of packed rows: scores, cached generation, and the gradient of a training step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from seal_env.engine.config import LoraConfig
from seal_env.engine.generation import BatchGenerator
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.engine.packing import SHORTEST_SHARED, Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.sampling import Sampling
from seal_env.errors import UserError

WIDENED = 1 << 29
"""Bound on the parameters of models that are compared in float32; a larger model is compared in its
own precision, where rounding hides small differences."""
TOLERANCE = 1e-3
"""Tolerance of float32 logits, relative to their standard deviation, and of gradients, relative to
their norm."""
ROUGH_TOLERANCE = 0.03
"""Tolerance of bfloat16 logits, where transformers' own attention kernels differ by less than half
of it; else twice what they differ by: 0.035 for SmolLM2-135M, with its 30 layers."""
ROUGH_GRADIENT_TOLERANCE = 0.1
"""The same of gradients; else twice what the kernels' differ by: 0.37 for Qwen2.5-0.5B on a CPU."""
_LORA = LoraConfig(rank=4, alpha=8.0)
_LENGTHS = (24, 21)
_WRITTEN = 3
"""Tokens at the end of each text that are generated one by one."""

_CHUNKS = "it attends in chunks and scales queries by their place in the row"
_SPARSE = "it chooses the keys that a query sees by an index of its own (sparse attention)"
BY_THE_ROW = {
    "axk2": _SPARSE,
    "deepseek_v32": _SPARSE,
    "deepseek_v4": "it compresses keys along the row",
    "dots3_note_text": _SPARSE,
    "glm_moe_dsa": _SPARSE,
    "hy_v4": _SPARSE,
    "llama4": _CHUNKS,
    "llama4_text": _CHUNKS,
}
"""Refusals by ``config.model_type`` of differences that such short texts cannot show."""


class Own(NamedTuple):
    """A model's own numbers."""

    logits: list[Tensor]
    """Logits of each text, float32, shape (tokens, vocabulary)."""
    grads: Tensor
    """Gradients of one adapter per text, shape (texts, weights)."""
    tolerance: float
    """Tolerance of logits, relative to their standard deviation."""
    tolerance_of_grads: float
    """Tolerance of gradients, relative to their norm."""


def checked(network: PreTrainedModel, prepare: Callable[[], Learner]) -> Learner:
    """Learner of a network, if it gives the network's own results.

    Args:
        network: The model as loaded.
        prepare: Function that replaces its attention and constructs the learner; may be called
            twice.

    Raises:
        UserError: The results differ; the message names the difference.
    """
    if reason := BY_THE_ROW.get(network.config.model_type):
        raise UserError(reason)
    texts = _probes(network)
    own = _own_numbers(network, texts)
    with _widened(network) as is_wide:
        if is_wide:
            exact = _own_numbers(network, texts)
            _compare(prepare(), texts, exact)
    learner = prepare()
    learner.bits = _compare(learner, texts, own)
    return learner


def _probes(network: PreTrainedModel) -> list[list[int]]:
    """Two texts of ordinary words with a common beginning: special tokens may hinge on rounding."""
    ends = (network.get_input_embeddings(), network.get_output_embeddings())
    vocabulary = min(int(end.weight.shape[0]) for end in ends)  # type: ignore[index]
    special = {getattr(network.config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    words = [(1009 + 997 * i) % vocabulary for i in range(3 * sum(_LENGTHS))]
    words = [word for word in words if word not in special]
    shared, rest = words[:SHORTEST_SHARED], words[SHORTEST_SHARED:]
    first, second = (length - SHORTEST_SHARED for length in _LENGTHS)
    return [shared + rest[:first], shared + rest[first : first + second]]


@contextmanager
def _widened(network: nn.Module) -> Iterator[bool]:
    """Context in which a small model is float32; afterwards it is the same to the bit.

    Yields:
        Whether the model was converted: False if it is float32 already, or large.
    """
    tensors = [*network.parameters(), *network.buffers()]
    narrow = [x for x in tensors if x.dtype == torch.bfloat16]
    size = sum(x.numel() for x in narrow)
    if not narrow or size > WIDENED:
        yield False
        return
    try:
        for x in narrow:
            x.data = x.data.float()
        yield True
    finally:
        for x in narrow:
            x.data = x.data.bfloat16()


def _bank(network: nn.Module, device: torch.device) -> AdapterBank:
    """One adapter per text, without zero matrices."""
    bank = AdapterBank(find_targets(network, _LORA), _LORA, len(_LENGTHS), device)
    generator = torch.Generator().manual_seed(0)
    for target in bank.targets:
        for matrix in bank.matrices[target.name]:
            matrix.copy_(torch.randn(matrix.shape, generator=generator) / target.inputs**0.5)
    return bank


def _own_numbers(network: PreTrainedModel, texts: Sequence[Sequence[int]]) -> Own:
    """Results of the original model, with the tolerances that its precision asks for."""
    logits, grads = _own_results(network, texts)
    if not grads.isfinite().all():
        raise UserError("transformers' own training step of it is not finite")
    tolerance = of_grads = TOLERANCE
    if network.dtype != torch.float32:
        rounding, rounding_of_grads = _rounding(network, texts, logits, grads)
        tolerance = max(ROUGH_TOLERANCE, 2 * rounding)
        of_grads = max(ROUGH_GRADIENT_TOLERANCE, 2 * rounding_of_grads)
    first, second = (x[:SHORTEST_SHARED] for x in logits)
    if _differ(first, second, network.dtype, tolerance):
        raise UserError("what it makes of a token depends on later ones: it is not causal")
    return Own(logits, grads, tolerance, of_grads)


def _own_results(
    network: PreTrainedModel, texts: Sequence[Sequence[int]]
) -> tuple[list[Tensor], Tensor]:
    """Logits and gradients, one text at a time, with adapters in plain autograd; see `Own`."""
    bank = _bank(network, network.device)
    grads = AdapterBank(bank.targets, _LORA, len(texts), network.device)
    logits: list[Tensor] = []
    for index, text in enumerate(texts):
        ids = torch.tensor([text], device=network.device)
        with torch.no_grad():
            logits.append(network(input_ids=ids, use_cache=False).logits[0].float())
        pairs = {
            name: [matrix[index].clone().requires_grad_() for matrix in matrices]
            for name, matrices in bank.matrices.items()
        }
        with torch.enable_grad(), _plainly_adapted(network, pairs):
            adapted = network(input_ids=ids, use_cache=False).logits[0, :-1].float()
            F.cross_entropy(adapted, ids[0, 1:]).backward()
        for name, pair in pairs.items():
            for total, matrix in zip(grads.matrices[name], pair, strict=True):
                if matrix.grad is not None:
                    total[index] = matrix.grad
    return logits, grads.weights


def _rounding(
    network: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    logits: Sequence[Tensor],
    grads: Tensor,
) -> tuple[float, float]:
    """Error of rounding: how far two attention kernels of transformers' own are apart.

    Returns:
        The largest of the texts' errors of the median token, and of their gradients; 0 for a model
        with one kernel.
    """
    used = network.config._attn_implementation
    try:
        network.set_attn_implementation("eager")
        eager, eager_grads = _own_results(network, texts)
    except (ImportError, ValueError):  # it has no such kernel
        return 0.0, 0.0
    finally:
        network.set_attn_implementation(used)
    errors = [_errors(x, y).median() for x, y in zip(eager, logits, strict=True)]
    return float(max(errors)), float(_errors_of_grads(eager_grads, grads).max())


@contextmanager
def _plainly_adapted(network: nn.Module, pairs: dict[str, list[Tensor]]) -> Iterator[None]:
    """Context in which modules add the low-rank products of A and B, by module name."""

    def adapted(module: nn.Module, a: Tensor, b: Tensor) -> Callable[[Tensor], Tensor]:
        base, scale = module.forward, _LORA.alpha / _LORA.rank
        return lambda x: base(x) + (x.float() @ a.t() @ b.t() * scale).to(x.dtype)

    modules = {name: network.get_submodule(name) for name in pairs}
    try:
        for name, (a, b) in pairs.items():
            modules[name].forward = adapted(modules[name], a, b)
        yield
    finally:
        for module in modules.values():
            module.__dict__.pop("forward", None)


def _compare(learner: Learner, texts: list[list[int]], own: Own) -> bool:
    """Comparison of packed rows with a model's own results.

    Returns:
        Whether each text gets the same bits alone and beside the other.

    Raises:
        UserError: A result differs; the message names it.
    """
    precision = learner.model.dtype
    alone = [_logits(learner, [text])[0] for text in texts]
    allowed = own.tolerance
    if any(_differ(*pair, precision, allowed) for pair in zip(alone, own.logits, strict=True)):
        raise UserError(
            "packed rows give it other scores: its positions or its attention are of another kind"
        )
    beside = _logits(learner, texts[::-1])[::-1]
    if any(_differ(*pair, precision, allowed) for pair in zip(beside, own.logits, strict=True)):
        raise UserError("a text changes the next one in a row: a state or positions run along it")
    written = _written(learner, texts)
    expected = [x[-_WRITTEN - 1 :] for x in own.logits]
    if any(_differ(*pair, precision, allowed) for pair in zip(written, expected, strict=True)):
        raise UserError("what it writes token by token, with its cache, differs from its scores")
    grads = _grads(learner, texts, [0, 1])
    if not (_errors_of_grads(grads, own.grads) <= own.tolerance_of_grads).all():
        raise UserError("a training step on packed rows differs from its own")
    last = _grads(learner, texts[1:], [1])
    return torch.equal(last[1], grads[1]) and all(map(torch.equal, alone, beside))


def _differ(found: Tensor, expected: Tensor, precision: torch.dtype, allowed: float) -> bool:
    """Whether logits differ: of any token in float32, of most tokens in lower precision.

    In lower precision, rounding may route a token to another expert.
    """
    errors = _errors(found, expected)
    error = errors.max() if precision == torch.float32 else errors.median()
    return not error <= allowed


def _errors(found: Tensor, expected: Tensor) -> Tensor:
    """Errors of the logits of each token, relative to their standard deviation; shape (tokens,)."""
    return (found - expected).square().mean(-1).sqrt() / (expected.std() + 1e-3)


def _errors_of_grads(found: Tensor, expected: Tensor) -> Tensor:
    """Errors of the gradients of each adapter, relative to their norm; shape (adapters,)."""
    return (found - expected).norm(dim=1) / (expected.norm(dim=1) + 1e-12)


def _logits(learner: Learner, texts: list[list[int]]) -> list[Tensor]:
    """Logits of texts in one row."""
    layout = Layout(texts, [0] * len(texts), learner.device)
    run = FullPass(layout)
    with torch.no_grad():
        logits = learner.head(learner.hidden(layout.row, run, None))
    if not run.calls:
        raise UserError("its layers do not attend through transformers' attention interface")
    return [logits[a : a + len(t)] for a, t in zip(layout.starts.tolist(), texts, strict=True)]


def _written(learner: Learner, texts: list[list[int]]) -> list[Tensor]:
    """Logits at the last tokens of texts, with their common beginning read once."""
    prompts = [text[:-_WRITTEN] for text in texts]
    shared = [SHORTEST_SHARED] * len(texts)
    decoder = BatchGenerator(
        learner, prompts, [0] * len(texts), None, Sampling(_WRITTEN), None, None, shared
    )
    with torch.no_grad():
        states = torch.stack(decoder.follow([text[-_WRITTEN:] for text in texts]))
        logits = learner.head(states.flatten(0, 1)).view(*states.shape[:2], -1)
    return list(logits.unbind(1))


def _grads(learner: Learner, texts: Sequence[Sequence[int]], owners: Sequence[int]) -> Tensor:
    """Gradients of the mean loss of texts, each under an adapter, shape (adapters, weights)."""
    bank = _bank(learner.model, learner.device)
    bank.require_grads()
    layout = Layout([text[:-1] for text in texts], owners, learner.device)
    rows = [np.arange(s, s + len(t) - 1) for s, t in zip(layout.starts, texts, strict=True)]
    labels = [token for text in texts for token in text[1:]]
    with torch.enable_grad():
        hidden = learner.hidden(layout.row, FullPass(layout), bank)
        losses = learner.losses(hidden, np.concatenate(rows), labels)
        torch.stack([x.mean() for x in losses.split([len(r) for r in rows])]).sum().backward()
    grads = bank.grads
    bank.drop_grads()
    assert grads is not None
    return grads
