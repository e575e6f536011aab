"""Element-wise operations whose rounding does not depend on a token's position in the row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def evenly(operation: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Result of an element-wise operation, rounded independently of an element's position.

    On a CPU torch divides the elements among threads in equal shares, and computes the remainder
    of a share, less than a vector, with scalar code that rounds differently. Here the shares
    consist of whole vectors.

    Args:
        operation: The operation.
        *tensors: Its arguments, all of one shape.
    """
    size = tensors[0].numel()
    even = _even_share(size) if tensors[0].device.type == "cpu" else size
    if even == size:
        return operation(*tensors)
    flat = [x.reshape(-1) for x in tensors]
    parts = [operation(*(x[:even] for x in flat)), operation(*(x[even:] for x in flat))]
    return torch.cat(parts).view_as(tensors[0])


class EvenActivation(nn.Module):
    """Activation that is applied by `evenly`.

    Args:
        inner: The activation.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Shape in, same shape out."""
        return evenly(self.inner, x)


_GRAIN = 32768  # at::internal::GRAIN_SIZE: fewest elements per thread in torch
_VECTORS = 64  # elements: two of the longest vectors, of two bytes each


def _even_share(size: int) -> int:
    """Number of leading elements that divide among threads in whole vectors."""
    while True:
        threads = min(torch.get_num_threads(), -(-size // _GRAIN))
        if threads <= 1 or size % (threads * _VECTORS) == 0:
            return size
        size -= size % (threads * _VECTORS)


def even_activations(model: nn.Module) -> None:
    """Wraps the activations of a model in `EvenActivation`, in place."""
    kinds = ("transformers.activations", "torch.nn.modules.activation")
    for module in list(model.modules()):
        if isinstance(module, EvenActivation):
            continue
        for name, child in list(module.named_children()):
            if type(child).__module__ in kinds:
                setattr(module, name, EvenActivation(child))
