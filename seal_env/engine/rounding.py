"""Element-wise operations whose rounding does not depend on where in a row a token stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def evenly(operation: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """An element-wise operation that rounds alike wherever in a row a token stands.

    On a CPU torch deals the elements out to threads in equal shares, and computes what is left
    over at the end of a share, less than a vector, by scalar code that rounds differently. So
    the shares are made whole vectors here.

    Args:
        operation: The operation.
        *tensors: What it takes, all of one shape.
    """
    size = tensors[0].numel()
    even = _even_share(size) if tensors[0].device.type == "cpu" else size
    if even == size:
        return operation(*tensors)
    flat = [x.reshape(-1) for x in tensors]
    parts = [operation(*(x[:even] for x in flat)), operation(*(x[even:] for x in flat))]
    return torch.cat(parts).view_as(tensors[0])


class EvenActivation(nn.Module):
    """An activation that is applied by `evenly`.

    Args:
        inner: The activation.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Shape in, same shape out."""
        return evenly(self.inner, x)


_GRAIN = 32768  # at::internal::GRAIN_SIZE: fewest elements that torch gives a thread
_VECTORS = 64  # elements: two of the longest vectors, of two bytes each


def _even_share(size: int) -> int:
    """How many of so many elements can be dealt out to threads in whole vectors."""
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
