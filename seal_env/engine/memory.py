"""Free memory of a device; retention of freed memory by the C library."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> None:
    """Makes the C library retain the memory of freed tensors on the CPU for the next ones.

    By default glibc returns large blocks to the system at once, and every new tensor costs page
    faults: a third to a half of the inner loop's time (docs/performance.md). No effect with other C
    libraries.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    library.mallopt(_M_TOP_PAD, 64 << 20)


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated on a device now; None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    if device.type == "mps":
        limit = torch.mps.recommended_max_memory()
        return int(limit - torch.mps.driver_allocated_memory())
    found = [proc_field(Path("/proc/meminfo"), "MemAvailable:"), _cgroup_room()]
    known = [bytes_ for bytes_ in found if bytes_ is not None]
    return min(known) if known else None


def proc_field(path: Path, name: str) -> int | None:
    """Entry of a /proc file in bytes; None without such a file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(name)), None)


def _cgroup_room() -> int | None:
    """Bytes left under a container's limit (cgroup version 2); None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        cached = (folder / "memory.stat").read_text()
    except OSError:
        return None
    if limit == "max":
        return None
    # Files that are cached count as used and can be dropped.
    inactive = next(
        (int(x.split()[1]) for x in cached.splitlines() if x.startswith("inactive_file ")), 0
    )
    return max(int(limit) - used + inactive, 0)
