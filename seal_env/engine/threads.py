"""Parallel parts of one job on a CPU, each with its own threads.

Every operation that several threads share ends with all of them waiting for the last. If a job
has independent parts, such as adapters that are trained side by side, one thread per part is
faster. The results are the same to the bit either way.

Several environments may run in threads, too. Objects that such threads share and cannot use at
the same time are locked: see `Turns` and `seal_env.engine.rendering.TOKENIZING`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, RLock, Semaphore
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
if hasattr(os, "register_at_fork"):
    # A forked process has one thread, and torch's OpenMP waits forever for those of the parent.
    # With one thread it does not wait.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
_SHARING = RLock()
"""Lock around changes of torch's number of threads by `run_parts`."""


class Turns:
    """Lock for objects that one thread may use at a time; copied and pickled as a new lock."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()


def run_parts(jobs: Sequence[Callable[[Event], T]]) -> list[T]:
    """Runs jobs at the same time, each with its share of torch's threads.

    Args:
        jobs: Functions of an event that is set when another job has failed, so that they can stop.

    Returns:
        The results in order. An exception of one job is raised once all have ended.
    """
    stop = Event()
    if len(jobs) <= 1:
        return [job(stop) for job in jobs]
    # torch has one number per thread and a default for new threads, and setting one's own sets the
    # default, too. The full number is restored once every part has its share.
    started = Semaphore(0)
    with _SHARING:
        threads = torch.get_num_threads()

    def work(job: Callable[[Event], T]) -> T:
        torch.set_num_threads(max(1, threads // len(jobs)))
        torch.get_num_threads()  # fixes this thread's number, so that it no longer uses the default
        started.release()
        try:
            return job(stop)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(len(jobs)) as pool:
        try:
            with _SHARING:
                futures = [pool.submit(work, job) for job in jobs]
                for _ in jobs:
                    started.acquire()
                torch.set_num_threads(threads)
            return [future.result() for future in futures]
        finally:
            stop.set()


def split_evenly(sizes: Sequence[int], parts: int) -> list[range]:
    """Ranges of neighboring items of about equal total size, at most `parts` of them."""
    middles = np.cumsum(sizes) - np.asarray(sizes) / 2
    shares = [sum(sizes) * i / parts for i in range(1, parts)]
    cuts = [0, *(int(np.searchsorted(middles, share)) for share in shares), len(sizes)]
    return [range(a, b) for a, b in itertools.pairwise(cuts) if b > a]
