"""Running parts of one job side by side on a CPU, each on threads of its own.

Every operation that several threads share ends with all of them waiting for the last. Where a
job falls into independent parts, such as adapters that are trained next to each other, it is
quicker to give each part a thread. The numbers are the same to the bit either way.

Several environments may run in threads of their own as well. What such threads share and cannot
use at the same time is locked: see `Turns` and
`seal_env.engine.rendering.TOKENIZING`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, RLock, Semaphore
from types import TracebackType
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
if hasattr(os, "register_at_fork"):
    # A forked process has one thread, and OpenMP, which torch computes with, waits for ever for
    # those that the old one had. With one thread it does not look for them.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
_SHARING = RLock()
"""Held while `run_parts` changes how many threads torch gives to new threads."""


class Turns:
    """A lock for what threads have to use one after the other; copies and pickles as a new one."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()


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
    # torch keeps one number for each thread and one for threads that have none yet, and setting
    # one's own sets the other too. So the whole number is put back once every part has its share.
    started = Semaphore(0)
    with _SHARING:
        threads = torch.get_num_threads()

    def work(job: Callable[[Event], T]) -> T:
        torch.set_num_threads(max(1, threads // len(jobs)))
        torch.get_num_threads()  # now this thread has its number, and no longer takes that of all
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
    """Cuts a sequence of items into at most so many runs of about equal total size."""
    middles = np.cumsum(sizes) - np.asarray(sizes) / 2
    shares = [sum(sizes) * i / parts for i in range(1, parts)]
    cuts = [0, *(int(np.searchsorted(middles, share)) for share in shares), len(sizes)]
    return [range(a, b) for a, b in itertools.pairwise(cuts) if b > a]
