"""Running parts of one job side by side on a CPU, each on threads of its own.

Every operation that several threads share ends with all of them waiting for the last. Where a
job falls into independent parts, such as adapters that are trained next to each other, it is
quicker to give each part a thread. The numbers are the same to the bit either way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


def run_parts(jobs: Sequence[Callable[[Event], T]]) -> list[T]:
    """Runs jobs at the same time, each with its share of torch's threads.

    Args:
        jobs: Called with an event that is set when another one has failed: they may as well stop.

    Returns:
        What they returned. An exception of one is raised once all have ended.
    """
    stop = Event()
    if len(jobs) == 1:
        return [jobs[0](stop)]
    threads = torch.get_num_threads()

    def work(job: Callable[[Event], T]) -> T:
        torch.set_num_threads(max(1, threads // len(jobs)))  # counts for this thread
        try:
            return job(stop)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(len(jobs)) as pool:
        try:
            return [future.result() for future in [pool.submit(work, job) for job in jobs]]
        finally:
            stop.set()
            torch.set_num_threads(threads)


def split_evenly(sizes: Sequence[int], parts: int) -> list[range]:
    """Cuts a sequence of items into at most so many runs of about equal total size."""
    middles = np.cumsum(sizes) - np.asarray(sizes) / 2
    shares = [sum(sizes) * i / parts for i in range(1, parts)]
    cuts = [0, *(int(np.searchsorted(middles, share)) for share in shares), len(sizes)]
    return [range(a, b) for a, b in itertools.pairwise(cuts) if b > a]
