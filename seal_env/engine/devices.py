"""Devices and precisions by name, and whether a processor computes in bfloat16."""

from __future__ import annotations

import logging
import time
from functools import cache

import torch

from seal_env.engine.shapes import REAL, ModelShape
from seal_env.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EMULATED = 3.0
"""Ratio of the times of a product in bfloat16 and in float32 above which the processor emulates
bfloat16. Processors with bfloat16 have ratios of 0.2 to 1, those without it 50 to 150."""

FASTER = 1.5
"""Ratio of the times of products in float32 and in bfloat16 from which on `auto` takes bfloat16,
whose rounding is coarser."""
ROWS, WIDEST = 256, 1024
"""Tokens of the measured products, and bound on their width, which bounds the measurement."""

_log = logging.getLogger(__name__)


def resolve_device(device: str) -> torch.device:
    """Device by name.

    Raises:
        UserError: The name is unknown or the device is not available.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if cuda else "mps" if mps else "cpu"
    available = {"cpu": True, "cuda": cuda, "mps": mps}.get(device.partition(":")[0])
    if available is None:
        raise UserError(f"unknown device {device!r}: use auto, cpu, cuda or mps")
    if not available:
        raise UserError(f"device {device!r} is not available here: use auto or cpu")
    return torch.device(device)


def resolve_dtype(dtype: str, device: torch.device, shape: ModelShape | None = None) -> torch.dtype:
    """Precision of the frozen weights by name.

    Warns once per process about bfloat16 on a processor that emulates it.

    Args:
        dtype: The name. ``auto`` is bfloat16 on a GPU; on a CPU for models from `REAL` on whichever
            is quicker there, and float32 for others.
        device: Device of the weights.
        shape: Shape of the model, if it is known.

    Raises:
        UserError: The name is unknown.
    """
    if dtype == "auto":
        if device.type != "cpu":
            return torch.bfloat16
        if shape is None or shape.parameters < REAL:
            return torch.float32
        return torch.bfloat16 if speedup(shape.width) >= FASTER else torch.float32
    if dtype not in DTYPES:
        raise UserError(f"unknown precision {dtype!r}: use auto, float32 or bfloat16")
    if dtype == "bfloat16" and device.type == "cpu":
        _warn_if_emulated()
    return DTYPES[dtype]


@cache
def speedup(width: int) -> float:
    """Time of a product of a model's shape in float32, as a multiple of that in bfloat16.

    Measured once per process, in some hundredths of a second. Where bfloat16 is emulated, only the
    smaller product of `product_seconds` is measured.
    """
    small = product_seconds(torch.float32) / product_seconds(torch.bfloat16)
    if small < 1 / EMULATED:
        return small
    width = min(width, WIDEST)
    shape = ROWS, width, 4 * width
    return product_seconds(torch.float32, *shape) / product_seconds(torch.bfloat16, *shape)


@cache
def _warn_if_emulated() -> None:
    wide, narrow = product_seconds(torch.float32), product_seconds(torch.bfloat16)
    if narrow > EMULATED * wide:
        _log.warning(
            "this processor emulates bfloat16: a product takes %.3g ms in it and %.3g ms in "
            "float32; use dtype float32, or auto",
            1e3 * narrow,
            1e3 * wide,
        )


def product_seconds(
    dtype: torch.dtype, rows: int = 64, inner: int = 512, columns: int = 512
) -> float:
    """Shortest of four times of a matrix product on one CPU thread, in seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would also measure their waits
    try:
        x, y = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            torch.mm(x, y)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return min(times)
