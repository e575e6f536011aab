"""Parallel jobs in processes, each with its share of the cores.

`concurrent.futures` is not used: its processes continue when their parent is killed or interrupted,
and a run that is still being written cannot be resumed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Job = TypeVar("Job")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Failed(str):
    """Why a job did not end well, in one line."""


def in_processes(
    work: Callable[[Job], None],
    jobs: Sequence[Job],
    count: int,
) -> Iterator[tuple[Job, Failed | None]]:
    """Results of jobs in parallel processes, each as it ends.

    Args:
        work: Function of a job; importable by name, and free to keep data for the next job.
        jobs: The jobs, in the order of their start.
        count: Number of processes.
    """
    todo = list(reversed(jobs))
    workers: dict[Connection, _Worker[Job]] = {}
    try:
        with _threads(max(1, (os.cpu_count() or 1) // count)):
            for _ in range(min(count, len(todo))):
                worker = _Worker(work)
                workers[worker.pipe] = worker
                worker.begin(todo.pop())
        while workers:
            for pipe in wait(list(workers)):
                worker = workers[pipe]  # type: ignore[index]
                job, failed = worker.job, worker.result()
                dead = not worker.process.is_alive()
                if dead or not todo:
                    worker.end()
                    del workers[worker.pipe]
                if dead and todo:
                    with _threads(max(1, (os.cpu_count() or 1) // count)):
                        fresh = _Worker(work)
                    workers[fresh.pipe] = fresh
                    fresh.begin(todo.pop())
                elif todo:
                    worker.begin(todo.pop())
                yield job, failed
    finally:
        for worker in workers.values():
            worker.process.kill()


class _Worker(Generic[Job]):
    """A process that does one job after another."""

    def __init__(self, work: Callable[[Job], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job

    def begin(self, job: Job) -> None:
        self.job = job
        self.pipe.send(job)

    def result(self) -> Failed | None:
        try:
            failed = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return Failed(f"its process was killed (status {self.process.exitcode})")
        return None if failed is None else Failed(failed)

    def end(self) -> None:
        self.pipe.close()  # which ends the process


def _serve(work: Callable[[Job], None], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's to stop
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            work(job)
            pipe.send(None)
        except Exception as error:
            if not isinstance(error, ValueError):
                traceback.print_exc()  # a mistake in a program, whose author needs to see it
            pipe.send(" ".join(f"{type(error).__name__}: {error}".split()))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Context in which new processes have a given number of threads."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ |= dict.fromkeys(THREADS, str(count))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        sys.stdout.flush()
