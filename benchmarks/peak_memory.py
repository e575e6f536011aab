"""Peak memory of a piece of code."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from seal_env.engine.memory import proc_field


class PeakMemory:
    """Context that measures the peak memory above the memory at its start.

    Args:
        device: Device of the code: a CUDA device's allocator is used, or else the process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.megabytes = 0.0
        """The result, 2^20 bytes; 0 where it cannot be told."""

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            self._before = proc_field(Path("/proc/self/status"), "VmRSS:") or 0
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = proc_field(Path("/proc/self/status"), "VmHWM:") or 0
        self.megabytes = max(peak - self._before, 0) / (1 << 20)
