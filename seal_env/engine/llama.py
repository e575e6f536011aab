"""Llama's decoder layer with a written-out backward pass, for architectures that share it.

transformers' own layer is about a hundred small operations for autograd, most of which move
memory or wait for Python; in a small model they cost more than the matrix products. Here a
layer is one autograd function that saves only what its gradient needs, with the same weights and
formulas (Touvron et al. 2023, arXiv 2302.13971). No method of the model is patched, so that several
threads can run it at once. Every other architecture runs through transformers' own layers.

Dimensions:
    - T: rows of tokens in a pass, spare ones included.
    - D: width of the hidden states.
    - H: heads of queries, keys and values together; E: width of a head.
    - O: outputs of linear layers that share an input, together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seal_env.engine.attention import Scoring
from seal_env.engine.banks import Bank, Products
from seal_env.engine.heads import Heads
from seal_env.engine.packing import Row
from seal_env.engine.passes import Pass
from seal_env.engine.rounding import evenly

ARCHITECTURES = {"llama", "mistral", "qwen2"}
"""Values of ``config.model_type`` whose decoder layer is Llama's (Qwen2 adds biases)."""
_LINEAR = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj",),
    ("mlp.up_proj",),
    ("mlp.down_proj",),
)
"""Names of a layer's matrices, grouped by shared input: one product per group."""


class Decoder:
    """Stack of a model's layers.

    Args:
        model: A causal language model that `is_supported`.
    """

    def __init__(self, model: nn.Module) -> None:
        base: Any = model.base_model
        self.base = base
        names = {id(module): name for name, module in model.named_modules()}
        self.layers = [_Layer(layer, names[id(layer)]) for layer in base.layers]

    def hidden(self, row: Row, run: Pass, bank: Bank | None) -> Tensor:
        """Last hidden states of a row, shape (T, D)."""
        x = self.base.embed_tokens(row.ids)
        cos, sin = (y[0, :, None] for y in self.base.rotary_emb(x[None], row.positions[None]))
        half = sin.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        rotation = cos, sin, -sin
        for layer in self.layers:
            linear = [_Linear(matrix, bank, run) for matrix in layer.matrices]
            adapted = (adapter.trigger for part in linear for _, adapter in part.adapters)
            there = next(adapted, None) if torch.is_grad_enabled() else None
            x = _DecoderLayer.apply(x, there, layer, linear, rotation, run)
        return self.base.norm(x[None])[0]


def is_supported(model: nn.Module) -> bool:
    """Whether a model's layers are implemented here."""
    config: Any = model.config
    # Rotary embeddings that depend on the input's length have a state, which threads would share.
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        config.model_type in ARCHITECTURES
        and config.hidden_act == "silu"
        and rotary in ("default", "linear", "llama3", "yarn")
    )


class _Layer:
    """Parts of one decoder layer."""

    def __init__(self, module: Any, name: str) -> None:
        attention = module.self_attn
        # Qwen2's layers say whether they have a window, and Mistral's all have the config's. Llama
        # knows none, whatever a config that was once Mistral's still says.
        window = getattr(attention, "sliding_window", None)
        if attention.config.model_type == "mistral":
            window = attention.config.sliding_window
        self.scoring = Scoring(float(attention.scaling), window)
        self.width = int(attention.head_dim)
        q, k = (int(x.weight.shape[0]) for x in (attention.q_proj, attention.k_proj))
        self.heads = Heads(q // self.width, k // self.width)
        self.norms = (module.input_layernorm, module.post_attention_layernorm)
        self.matrices = [
            _Matrix([(f"{name}.{place}", module.get_submodule(place)) for place in places])
            for places in _LINEAR
        ]


class _Matrix:
    """Linear layers that share an input, with their matrices stacked to one.

    Args:
        modules: The layers by name in the model; their weights become views of the stacked matrix.
    """

    def __init__(self, modules: Sequence[tuple[str, nn.Linear]]) -> None:
        self.modules = [module for _, module in modules]
        weights: list[Tensor] = [module.weight for module in self.modules]
        ends = [0, *accumulate(len(weight) for weight in weights)]
        rows = [slice(*place) for place in pairwise(ends)]
        self.parts = [(name, place) for (name, _), place in zip(modules, rows, strict=True)]
        """Rows of the stacked matrix that belong to each layer."""
        self._whole: Tensor | None = None
        self._places: list[int] = []
        if len(weights) > 1:
            self._whole = torch.cat([weight.detach() for weight in weights])
            for weight, place in zip(weights, rows, strict=True):
                weight.data = self._whole[place]
            self._places = [weight.data_ptr() for weight in weights]

    def weight(self) -> Tensor:
        """Stacked matrix, shape (O, D)."""
        weights: tuple[Tensor, ...] = tuple(module.weight for module in self.modules)
        if self._whole is None:
            return weights[0]
        if [weight.data_ptr() for weight in weights] == self._places:
            return self._whole
        return torch.cat(weights)  # a module was given other weights: correct, but slower

    def bias(self) -> Tensor | None:
        """Stacked biases, shape (O,); None without any."""
        biases = tuple(module.bias for module in self.modules)
        if all(bias is None for bias in biases):
            return None
        return biases[0] if len(biases) == 1 else torch.cat(biases)


class _Linear:
    """Frozen linear layers that share an input, and their adapters, in one pass."""

    def __init__(self, matrix: _Matrix, bank: Bank | None, run: Pass) -> None:
        self.weight, self.bias, self.run = matrix.weight(), matrix.bias(), run
        self.adapters: list[tuple[slice, Products]] = []
        """Adapters, each with the range of its outputs."""
        for name, rows in matrix.parts:
            adapter = None if bank is None else bank.adapter(name, run)
            if adapter is not None:
                self.adapters.append((rows, adapter))
        self.hidden: list[list[Tensor]] = []
        """Tensors that the adapters' gradients need."""

    def forward(self, x: Tensor, blocks: list[Tensor]) -> Tensor:
        """Outputs of the layers side by side, shape (T, O)."""
        out = F.linear(x, self.weight, self.bias)
        self.hidden = [
            adapter.add(out[:, rows], blocks, self.run) for rows, adapter in self.adapters
        ]
        return out

    def backward(self, grad: Tensor, blocks: list[Tensor], total: Tensor | None = None) -> Tensor:
        """Gradient of the input, added to `total` if that is given, shape (T, D)."""
        inner = grad @ self.weight if total is None else total.addmm_(grad, self.weight)
        parts: list[Tensor] = []
        self.learn(grad, blocks, parts)
        return inner.add_(self.run.join(parts)) if parts else inner

    def learn(self, grad: Tensor, blocks: list[Tensor], inner: list[Tensor] | None) -> None:
        """Adapters' part of `backward`."""
        if not self.adapters:
            return
        outer = self.run.split(grad)
        for (rows, adapter), hidden in zip(self.adapters, self.hidden, strict=True):
            some = [part[..., rows] for part in outer]
            adapter.backward(some, blocks, hidden, self.run, inner)


def _blocks(x: Tensor, run: Pass, *layers: _Linear) -> list[Tensor]:
    """Input in blocks by adapter, if one of its layers is adapted."""
    return run.split(x) if any(layer.adapters for layer in layers) else []


class _DecoderLayer(torch.autograd.Function):
    """Attention and MLP, each after a norm and with a residual connection."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        trigger: Tensor | None,
        layer: _Layer,
        linear: list[_Linear],
        rotation: tuple[Tensor, Tensor, Tensor],
        run: Pass,
    ) -> Tensor:
        learning = any(ctx.needs_input_grad[:2])
        attn_proj, o_proj, gate_proj, up_proj, down_proj = linear
        cos, sin, _ = rotation

        normed, scale1 = _norm(x, layer.norms[0])
        blocks1 = _blocks(normed, run, attn_proj)
        heads = attn_proj.forward(normed, blocks1).view(len(x), -1, layer.width)
        _rotate(heads[:, : -layer.heads.keys], cos, sin)
        mixed, back = run.attend(heads, layer.heads, layer.scoring, learning)
        attended = mixed.view(len(x), -1)
        blocks2 = _blocks(attended, run, o_proj)
        middle = o_proj.forward(attended, blocks2).add_(x)
        normed, scale2 = _norm(middle, layer.norms[1])
        blocks3 = _blocks(normed, run, gate_proj, up_proj)
        gate, up = gate_proj.forward(normed, blocks3), up_proj.forward(normed, blocks3)
        active = evenly(F.silu, gate).mul_(up)
        blocks4 = _blocks(active, run, down_proj)
        out = down_proj.forward(active, blocks4).add_(middle)
        if back is not None:
            # None of these is an output, so there is no reference cycle.
            ctx.pieces = linear, back.run, (blocks1, blocks2, blocks3, blocks4)
            ctx.layer, ctx.rotation = layer, rotation
            ctx.save_for_backward(x, scale1, middle, scale2, gate, up, *back.saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        linear, attend_backward, blocks = ctx.pieces
        ctx.pieces = None  # frees this layer's memory before the next one's turn
        attn_proj, o_proj, gate_proj, up_proj, down_proj = linear
        x, scale1, middle, scale2, gate, up, *attended = ctx.saved_tensors
        layer, (norm1, norm2) = ctx.layer, ctx.layer.norms
        cos, _, back = ctx.rotation

        grad = down_proj.backward(outer[0], blocks[3])
        grad_up = evenly(F.silu, gate).mul_(grad)
        grad_gate = evenly(torch.ops.aten.silu_backward, grad.mul_(up), gate)
        grad = up_proj.backward(grad_up, blocks[2])
        grad = gate_proj.backward(grad_gate, blocks[2], grad)
        grad_middle = _norm_backward(grad, middle, scale2, norm2).add_(outer[0])
        grad = o_proj.backward(grad_middle, blocks[1])
        heads = attend_backward(grad.view(len(x), -1, layer.width), attended)
        _rotate(heads[:, : -layer.heads.keys], cos, back)
        grad = heads.view(len(x), -1)
        if not ctx.needs_input_grad[0]:  # the first adapted layer: nothing before it is trained
            attn_proj.learn(grad, blocks[0], None)
            return None, None, None, None, None, None
        grad = attn_proj.backward(grad, blocks[0])
        grad = _norm_backward(grad, x, scale1, norm1).add_(grad_middle)
        return grad, None, None, None, None, None


def _norm(x: Tensor, module: Any) -> tuple[Tensor, Tensor]:
    """RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467), and its factor of each row, (T, 1)."""
    if x.is_cuda:  # one kernel for eight
        width, eps = [x.shape[-1]], module.variance_epsilon
        normed, scale = torch.ops.aten._fused_rms_norm(x, width, module.weight, eps)
        return normed, scale
    wide = x.float()
    scale = wide.square().mean(-1, keepdim=True).add_(module.variance_epsilon).rsqrt_()
    return (wide * scale).to(x.dtype).mul_(module.weight), scale


def _norm_backward(grad: Tensor, x: Tensor, scale: Tensor, module: Any) -> Tensor:
    """Gradient of the norm's input: s (g - y mean(g y)), where y = s x and g = w grad."""
    if x.is_cuda:
        backward = torch.ops.aten._fused_rms_norm_backward
        width, wanted = [x.shape[-1]], [True, False]  # the weight is frozen
        return backward(grad, x, width, scale, module.weight, wanted)[0]
    wide = (grad * module.weight).float()
    normed = x.float() * scale
    wide.sub_(normed.mul_((wide * normed).mean(-1, keepdim=True)))
    return wide.mul_(scale).to(grad.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in place.

    Args:
        x: Shape (T, heads, E).
        cos: Shape (T, 1, E).
        sin: Shape (T, 1, E), its first half negated; the negated tensor rotates back.
    """
    half = x.shape[-1] // 2
    turned = torch.cat([x[..., half:], x[..., :half]], dim=-1).mul_(sin)
    x.mul_(cos).add_(turned)
