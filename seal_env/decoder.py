"""Llama's decoder layer with its backward pass written out, for the architectures that share it.

transformers' own layer is about a hundred small operations for autograd, most of which move
memory or wait for Python; on a small model they cost more than the matrix products. Here a
layer is one autograd function that keeps only what its gradient needs. Same weights, same
formulas (Touvron et al. 2023, arXiv 2302.13971). Nothing of the model is patched, so several
threads can run it at once. Every other architecture runs through transformers' own layers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seal_env.adapters import Bank, Products
from seal_env.packing import Pass, Row
from seal_env.rounding import evenly

ARCHITECTURES = {"llama", "mistral", "qwen2"}
"""Values of ``config.model_type`` whose decoder layer is Llama's (Qwen2 adds biases)."""
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_LINEAR = [f"self_attn.{name}" for name in _ATTENTION] + [f"mlp.{name}" for name in _MLP]


class Decoder:
    """A model's stack of layers.

    Args:
        model: A causal language model that `is_supported`.
    """

    def __init__(self, model: nn.Module) -> None:
        base: Any = model.base_model
        self.base = base
        names = {id(module): name for name, module in model.named_modules()}
        self.layers = [_Layer(layer, names[id(layer)]) for layer in base.layers]

    def hidden(self, row: Row, run: Pass, bank: Bank | None) -> Tensor:
        """Last hidden states of a row, shape (rows, width)."""
        x = self.base.embed_tokens(row.ids)
        cos, sin = (y[0, :, None] for y in self.base.rotary_emb(x[None], row.positions[None]))
        half = sin.shape[-1] // 2
        rotation = cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        for layer in self.layers:
            adapters = [None if bank is None else bank.adapter(name) for name in layer.names]
            there = next((adapter.a for adapter in adapters if adapter is not None), None)
            x = _DecoderLayer.apply(x, there, layer, adapters, rotation, run)
        return self.base.norm(x[None])[0]


def is_supported(model: nn.Module) -> bool:
    """Whether a model's layers are of the kind that is written out here."""
    config: Any = model.config
    # Rotary embeddings that change with the input's length keep a state, which threads would share.
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        config.model_type in ARCHITECTURES
        and config.hidden_act == "silu"
        and rotary in ("default", "linear", "llama3", "yarn")
    )


class _Layer:
    """One decoder layer's parts."""

    def __init__(self, module: Any, name: str) -> None:
        attention = module.self_attn
        self.index, self.scaling = int(attention.layer_idx), float(attention.scaling)
        self.width = int(attention.head_dim)
        self.norms = (module.input_layernorm, module.post_attention_layernorm)
        self.linear = [module.get_submodule(place) for place in _LINEAR]
        self.names = [f"{name}.{place}" for place in _LINEAR]


class _Linear:
    """A frozen linear layer with its adapter, if it has one, in one pass."""

    def __init__(self, module: nn.Linear, adapter: Products | None, run: Pass) -> None:
        self.weight, self.bias, self.adapter, self.run = module.weight, module.bias, adapter, run
        self.hidden: list[Tensor] = []
        """What the adapter's gradient needs."""

    def forward(self, x: Tensor, blocks: list[Tensor]) -> Tensor:
        """Its output."""
        out = F.linear(x, self.weight, self.bias)
        if self.adapter is not None:
            self.hidden = self.adapter.add(out, blocks, self.run)
        return out

    def backward(self, grad: Tensor, blocks: list[Tensor], total: Tensor | None = None) -> Tensor:
        """The gradient of its input, added to `total` if that is given."""
        inner = grad @ self.weight if total is None else total.addmm_(grad, self.weight)
        self.learn(grad, blocks, inner)
        return inner

    def learn(self, grad: Tensor, blocks: list[Tensor], inner: Tensor | None) -> None:
        """The adapter's part of `backward`."""
        if self.adapter is not None:
            self.adapter.backward(grad, blocks, self.hidden, self.run, inner)


def _blocks(x: Tensor, run: Pass, *layers: _Linear) -> list[Tensor]:
    """An input in blocks by adapter, if one of the layers that take it is adapted."""
    return run.split(x) if any(layer.adapter is not None for layer in layers) else []


class _DecoderLayer(torch.autograd.Function):
    """Attention and MLP, each behind a norm and around a residual."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        trigger: Tensor | None,
        layer: _Layer,
        adapters: list[Products | None],
        rotation: tuple[Tensor, Tensor],
        run: Pass,
    ) -> Tensor:
        learning = any(ctx.needs_input_grad[:2])
        linear = [_Linear(*pair, run) for pair in zip(layer.linear, adapters, strict=True)]
        q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj = linear

        normed, scale1 = _norm(x, layer.norms[0])
        blocks1 = _blocks(normed, run, q_proj, k_proj, v_proj)
        heads = [part.forward(normed, blocks1).view(len(x), -1, layer.width) for part in linear[:3]]
        heads[:2] = [_rotate(part, *rotation) for part in heads[:2]]
        heads = [part.detach().requires_grad_(learning) for part in heads]
        with torch.set_grad_enabled(learning):  # a graph of its own: any kernel can attend
            mixed = run.attend(layer.index, heads[0], heads[1], heads[2], layer.scaling)
        attended = mixed.detach().reshape(len(x), -1)
        blocks2 = _blocks(attended, run, o_proj)
        middle = o_proj.forward(attended, blocks2).add_(x)
        normed, scale2 = _norm(middle, layer.norms[1])
        blocks3 = _blocks(normed, run, gate_proj, up_proj)
        gate, up = gate_proj.forward(normed, blocks3), up_proj.forward(normed, blocks3)
        active = evenly(F.silu, gate).mul_(up)
        blocks4 = _blocks(active, run, down_proj)
        out = down_proj.forward(active, blocks4).add_(middle)
        if learning:
            # Nothing of this is an output, so autograd has no cycle to fear.
            ctx.kept = linear, rotation, heads, mixed, (blocks1, blocks2, blocks3, blocks4)
            ctx.layer = layer
            ctx.save_for_backward(x, scale1, middle, scale2, gate, up)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        linear, (cos, sin), heads, mixed, blocks = ctx.kept
        ctx.kept = None  # frees this layer's memory before the next one's turn
        q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj = linear
        x, scale1, middle, scale2, gate, up = ctx.saved_tensors
        norm1, norm2 = ctx.layer.norms

        grad = down_proj.backward(outer[0], blocks[3])
        grad_up = evenly(F.silu, gate).mul_(grad)
        grad_gate = evenly(torch.ops.aten.silu_backward, grad.mul_(up), gate)
        grad = up_proj.backward(grad_up, blocks[2])
        grad = gate_proj.backward(grad_gate, blocks[2], grad)
        grad_middle = _norm_backward(grad, middle, scale2, norm2).add_(outer[0])
        grad = o_proj.backward(grad_middle, blocks[1])
        grads = list(torch.autograd.grad(mixed, heads, grad.view_as(mixed)))
        grads[:2] = [_rotate(part, cos, -sin) for part in grads[:2]]
        grads = [part.reshape(len(x), -1) for part in grads]
        if not ctx.needs_input_grad[0]:  # the first adapted layer: nothing below it learns
            for part, outer_grad in zip(linear[:3], grads, strict=True):
                part.learn(outer_grad, blocks[0], None)
            return None, None, None, None, None, None
        grad = q_proj.backward(grads[0], blocks[0])
        grad = k_proj.backward(grads[1], blocks[0], grad)
        grad = v_proj.backward(grads[2], blocks[0], grad)
        grad = _norm_backward(grad, x, scale1, norm1).add_(grad_middle)
        return grad, None, None, None, None, None


def _norm(x: Tensor, module: Any) -> tuple[Tensor, Tensor]:
    """RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467), and what it multiplied each row by."""
    wide = x.float()
    scale = wide.square().mean(-1, keepdim=True).add_(module.variance_epsilon).rsqrt_()
    return (wide * scale).to(x.dtype).mul_(module.weight), scale


def _norm_backward(grad: Tensor, x: Tensor, scale: Tensor, module: Any) -> Tensor:
    """The gradient of the norm's input: s (g - y mean(g y)), where y = s x and g = w grad."""
    wide = (grad * module.weight).float()
    normed = x.float() * scale
    wide.sub_(normed.mul_((wide * normed).mean(-1, keepdim=True)))
    return wide.mul_(scale).to(grad.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

    Args:
        x: Shape (rows, heads, width).
        cos: Shape (rows, 1, width).
        sin: As cos, its first half negated; negated as a whole it turns back.
    """
    half = x.shape[-1] // 2
    return torch.cat([x[..., half:], x[..., :half]], dim=-1).mul_(sin).add_(x * cos)
