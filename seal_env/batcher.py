"""Dynamic batching: single requests from many threads and coroutines, run together in passes.

A pass of the inner loop costs about as much for a few self-edits as for one, and what comes of one
does not depend on the others, so that whoever asks for one reward at a time can share passes with
everybody else without a change of any bit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from seal_env.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(UserError):
    """More requests wait than a batcher holds."""


@dataclass(frozen=True)
class BatcherConfig:
    """Settings of a batcher."""

    max_batch: int = 64
    """Most requests per pass."""
    max_wait: float = 0.02
    """Seconds that the oldest request waits at most for others to share its pass."""
    max_queue: int = 4096
    """Most requests that wait; one more is refused."""
    timeout: float | None = None
    """Seconds from a request to its result; None for no limit."""

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_queue"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: must be at least 1")
        if not 0 <= self.max_wait <= threading.TIMEOUT_MAX:
            raise UserError(f"max_wait {self.max_wait}: must be a number of seconds, 0 or more")
        if self.timeout is not None and not 0 < self.timeout <= threading.TIMEOUT_MAX:
            raise UserError(f"timeout {self.timeout}: must be above 0 seconds, or None")


@dataclass(frozen=True)
class BatcherMetrics:
    """Counts of a batcher since its start."""

    queue: int = 0
    """Requests that wait now."""
    requests: int = 0
    """Requests that were accepted."""
    cancelled: int = 0
    """Requests given up by their callers before their pass began."""
    failed: int = 0
    """Requests that ended in an exception."""
    passes: int = 0
    """Passes."""
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    """Number of passes by the number of their requests."""
    busy_seconds: float = 0.0
    """Seconds spent in passes."""
    waited_seconds: float = 0.0
    """Seconds that requests waited for their passes, summed over requests."""


@dataclass(frozen=True)
class _Call(Generic[Item, Result]):
    """One request."""

    item: Item
    """What to run."""
    since: float = field(default_factory=time.monotonic)
    """When it was made, in seconds of the monotonic clock."""
    future: Future[Result] = field(default_factory=Future)
    """Its result."""


class Batcher(Generic[Item, Result]):
    """Collects requests and runs them together in a worker thread.

    A pass begins when `max_batch` requests wait, or `max_wait` seconds after the oldest of them.
    If a pass raises, its halves are run again, down to the single requests that raise by
    themselves: an error in one request touches no other.

    Args:
        run: Function of a pass: results of requests, in their order. Called by one thread only.
        config: Settings; None for the defaults.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        config: BatcherConfig | None = None,
    ) -> None:
        self.run = run
        self.config = config or BatcherConfig()
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._seconds: dict[str, float] = {"busy": 0.0, "waited": 0.0}

    def submit(self, item: Item) -> Future[Result]:
        """Puts a request into the queue.

        Cancelling the future takes the request out, unless its pass has begun.

        Raises:
            QueueFullError: `max_queue` requests wait.
            RuntimeError: The batcher is closed.
        """
        call: _Call[Item, Result] = _Call(item)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            if len(self._waiting) >= self.config.max_queue:
                raise QueueFullError(
                    f"{len(self._waiting)} requests wait already; send fewer at a time, or raise "
                    f"max_queue"
                )
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="batcher", daemon=True)
                self._worker.start()
            self._waiting.append(call)
            self._counts["requests"] += 1
            self._changed.notify()
        return call.future

    def call(self, item: Item) -> Result:
        """Result of a request, for threads.

        Raises:
            TimeoutError: It is not there after `timeout` seconds.
        """
        future = self.submit(item)
        try:
            return future.result(self.config.timeout)
        finally:
            future.cancel()

    async def ask(self, item: Item) -> Result:
        """Result of a request, for coroutines of any event loop; cancelling it gives it up.

        Raises:
            TimeoutError: It is not there after `timeout` seconds.
        """
        return await asyncio.wait_for(asyncio.wrap_future(self.submit(item)), self.config.timeout)

    def metrics(self) -> BatcherMetrics:
        """Counts since the start."""
        with self._changed:
            return BatcherMetrics(
                queue=len(self._waiting),
                batch_sizes=dict(sorted(self._sizes.items())),
                busy_seconds=self._seconds["busy"],
                waited_seconds=self._seconds["waited"],
                **{name: self._counts[name] for name in ("requests", "cancelled", "failed")},
                passes=self._sizes.total(),
            )

    def close(self) -> None:
        """Ends the worker after its current pass; requests that wait are cancelled."""
        with self._changed:
            self._closed = True
            waiting, worker = list(self._waiting), self._worker
            self._waiting.clear()
            self._changed.notify()
        for call in waiting:
            call.future.cancel()
        if worker is not None and worker is not threading.current_thread():
            worker.join()

    def __enter__(self) -> Batcher[Item, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        """Runs passes until the batcher is closed."""
        while calls := self._collect():
            live = [call for call in calls if call.future.set_running_or_notify_cancel()]
            start = time.monotonic()
            with self._changed:
                self._counts["cancelled"] += len(calls) - len(live)
                self._seconds["waited"] += sum(start - call.since for call in live)
            if live:
                self._pass(live)
            with self._changed:
                self._seconds["busy"] += time.monotonic() - start

    def _collect(self) -> list[_Call[Item, Result]]:
        """Requests of the next pass, which it waits for; none if the batcher is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._waiting:
                left = self._waiting[0].since + self.config.max_wait - time.monotonic()
                self._changed.wait_for(
                    lambda: len(self._waiting) >= self.config.max_batch or self._closed, left
                )
            count = min(len(self._waiting), self.config.max_batch)
            return [self._waiting.popleft() for _ in range(count)]

    def _pass(self, calls: Sequence[_Call[Item, Result]]) -> None:
        """Runs requests together; on an exception each half by itself."""
        with self._changed:
            self._sizes[len(calls)] += 1
        try:
            results = list(self.run([call.item for call in calls]))
            if len(results) != len(calls):
                raise RuntimeError(f"a pass of {len(calls)} requests has {len(results)} results")
        except BaseException as error:  # whatever it is: nobody waits for a worker that died
            if len(calls) > 1:
                middle = len(calls) // 2
                self._pass(calls[:middle])
                self._pass(calls[middle:])
                return
            with self._changed:
                self._counts["failed"] += 1
            calls[0].future.set_exception(error)
            return
        for call, result in zip(calls, results, strict=True):
            call.future.set_result(result)
