"""Dispatch of items to workers of unequal speed, which may die or hang.

Items go out in batches whose size falls with the number of items that wait (guided
self-scheduling, Polychronopoulos & Kuck 1987, IEEE Transactions on Computers C-36 (12)), and is in
proportion to a worker's measured speed, so that a slow worker gets fewer of them. Items of a
worker that died or hangs are sent again, in halves, so that an item which ends its worker is alone
soon. Nothing here knows what an item is, or of Ray.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

from seal_env.errors import UserError

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

IN_FLIGHT = 2
"""Batches per worker, the second of which waits there while the first is worked on."""
SHARES = 4
"""Inverse of the part of a worker's share of what waits that it gets as one batch."""
SMALLEST = 64
"""Items per batch from which on a larger batch takes little less time per item on a small model
(docs/performance.md); fewer only where there are too few for two batches per worker, or for a
worker slower than the others."""
PROBE = 4
"""Inverse of the part of a smallest batch that a worker gets whose speed is not known yet."""
MAX_DEATHS = 10
"""Deaths of workers in a row without a result from which on dispatch gives up."""
POLLS = 4
"""Looks at the workers per timeout."""
SHORTEST = 1e-6
"""Seconds that a batch takes at least, as far as speeds are concerned."""
MAX_POLL = 1.0
"""Seconds between two looks at most."""


class Kind(Enum):
    """Kinds of events."""

    READY = "ready"
    """A worker is loaded and takes batches."""
    DONE = "done"
    """A batch has results."""
    ALIVE = "alive"
    """A worker made progress."""
    LOST = "lost"
    """A batch has no results since its worker died."""
    FAILED = "failed"
    """A batch, or the loading of a worker, raised an exception."""


@dataclass(frozen=True)
class Event(Generic[Result_co]):
    """News of a worker."""

    kind: Kind
    """What happened."""
    worker: int
    """Index of the worker."""
    batch: int = -1
    """Number of the batch; -1 if it is about none."""
    results: Sequence[Result_co] = ()
    """Results of the batch's items, in their order."""
    error: Exception | None = None
    """The exception of `FAILED`; the reason of `LOST`, if it is known."""


class Pool(Protocol[Item_contra, Result]):
    """Workers that a dispatch sends items to."""

    count: int
    """Number of workers."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""

    def load(self, worker: int) -> None:
        """Prepares a worker, once it is there; `Kind.READY` follows."""

    def send(self, worker: int, batch: int, items: Sequence[Item_contra]) -> None:
        """Sends a batch to a worker."""

    def kill(self, worker: int) -> None:
        """Replaces a worker by a new one, which is not loaded; no news of its batches follow."""

    def wait(self, seconds: float) -> list[Event[Result]]:
        """Events, as soon as there are any; none after so many seconds."""


class DeadlyItemError(UserError):
    """An item whose workers died one after the other.

    Args:
        item: Its index.
        reason: Reason of the last death.
    """

    def __init__(self, item: int, reason: str) -> None:
        super().__init__(f"item {item} ended {MAX_DEATHS} workers, one after the other ({reason})")
        self.item, self.reason = item, reason


@dataclass
class _Batch:
    """Items that are sent together."""

    items: Sequence[int]
    """Their indices."""
    deaths: int = 0
    """Workers that died of them, or of a batch that these are a half of."""


@dataclass
class _Worker:
    """The dispatch's view of a worker."""

    ready: bool = False
    """Whether it takes batches."""
    since: float = 0.0
    """Time of its last sign of life."""
    began: float = 0.0
    """Time when it began with the first of its batches."""
    speed: float | None = None
    """Items per second of its last batch; None before its first."""
    sent: dict[int, _Batch] = field(default_factory=dict)
    """Batches that it has, in the order in which it works on them."""


class Dispatch(Generic[Item, Result]):
    """Results of items by the workers of a pool.

    Args:
        items: The items.
        pool: The workers.
        timeout: Seconds without a sign of life after which a worker is replaced.
        progress: Callback for the number of results, and of items.
        note: Callback for a line about a lost worker.
        speeds: Items per second of the workers in earlier dispatches, by index; added to.
    """

    def __init__(
        self,
        items: Sequence[Item],
        pool: Pool[Item, Result],
        timeout: float,
        progress: Callable[[int, int], None] | None = None,
        note: Callable[[str], None] | None = None,
        speeds: dict[int, float] | None = None,
    ) -> None:
        self.items, self.pool, self.timeout = items, pool, timeout
        self.progress, self.note = progress, note
        self.speeds = {} if speeds is None else speeds
        self.workers = [_Worker(speed=self.speeds.get(i)) for i in range(pool.count)]
        self.smallest = max(1, min(SMALLEST, len(items) // (IN_FLIGHT * pool.count)))
        self._next = self._number = self._vain = 0
        self._again: deque[_Batch] = deque()
        self._results: dict[int, Result] = {}

    def run(self) -> list[Result]:
        """Results in the order of the items.

        Raises:
            DeadlyItemError: An item ends every worker that it is sent to.
            UserError: No worker stays alive.
            Exception: The first exception that a worker raised.
        """
        for index in range(len(self.workers)):
            self._load(index)
        poll = min(MAX_POLL, self.timeout / POLLS)
        while len(self._results) < len(self.items):
            self._send()
            for event in self.pool.wait(poll):
                self._take(event)
            self._replace_hanging()
        return [self._results[i] for i in range(len(self.items))]

    def _load(self, index: int) -> None:
        worker = self.workers[index]
        worker.ready, worker.since = False, self.pool.now()
        self.pool.load(index)

    def _send(self) -> None:
        """Gives batches to the workers that have few, those that have none first."""
        for depth in range(IN_FLIGHT):
            for index, worker in enumerate(self.workers):
                if not worker.ready or len(worker.sent) != depth:
                    continue
                if depth and (worker.speed is None or self._waiting <= self._reserve):
                    continue  # the rest goes to whoever is idle first
                batch = self._batch(worker)
                if batch is None:
                    return
                if not worker.sent:
                    worker.since = worker.began = self.pool.now()
                worker.sent[self._number] = batch
                self.pool.send(index, self._number, [self.items[i] for i in batch.items])
                self._number += 1

    @property
    def _reserve(self) -> int:
        """Number of items that are not sent before somebody is idle."""
        return self.smallest * len(self.workers)

    @property
    def _waiting(self) -> int:
        """Number of items that no worker has."""
        return len(self.items) - self._next + sum(len(batch.items) for batch in self._again)

    def _batch(self, worker: _Worker) -> _Batch | None:
        """The next batch for a worker; None if no item waits."""
        if self._again:
            return self._again.popleft()
        left = len(self.items) - self._next
        if not left:
            return None
        size = max(1, self.smallest // PROBE)
        if worker.speed is not None:
            speeds = [w.speed for w in self.workers if w.speed is not None]
            mean = sum(speeds) / len(speeds)
            share = worker.speed / (mean * len(self.workers))
            least = max(1, round(self.smallest * min(1.0, worker.speed / mean)))
            size = max(least, int(left * share / SHARES))
        start, self._next = self._next, min(self._next + size, len(self.items))
        return _Batch(range(start, self._next))

    def _take(self, event: Event[Result]) -> None:
        worker = self.workers[event.worker]
        if event.kind is Kind.FAILED:
            assert event.error is not None
            raise event.error
        if event.kind is Kind.LOST:
            self._lost(event)
            return
        worker.since = self.pool.now()
        if event.kind is Kind.READY:
            worker.ready = True
        elif event.kind is Kind.DONE and event.batch in worker.sent:
            batch = worker.sent.pop(event.batch)
            worker.speed = len(batch.items) / max(worker.since - worker.began, SHORTEST)
            worker.began = worker.since
            self.speeds[event.worker] = worker.speed
            self._results.update(zip(batch.items, event.results, strict=True))
            self._vain = 0
            if self.progress is not None:
                self.progress(len(self._results), len(self.items))

    def _lost(self, event: Event[Result]) -> None:
        """Takes back what a dead worker had of one batch, and waits for the worker's return."""
        worker, why = self.workers[event.worker], str(event.error or "it died")
        first = next(iter(worker.sent), None)
        batch = worker.sent.pop(event.batch, None)
        if batch is not None:
            self._requeue(batch, event.batch == first, why)
        if worker.ready or batch is None:
            self._died(event.worker, "was lost", why)
            self._load(event.worker)

    def _replace_hanging(self) -> None:
        now = self.pool.now()
        for index, worker in enumerate(self.workers):
            busy = worker.sent or not worker.ready
            if not busy or now - worker.since <= self.timeout:
                continue
            why = f"no sign of life for {self.timeout:g} s"
            self.pool.kill(index)
            for place, batch in enumerate(worker.sent.values()):
                self._requeue(batch, place == 0, why)
            worker.sent.clear()
            self._died(index, "hangs and is replaced", why)
            self._load(index)

    def _requeue(self, batch: _Batch, blamed: bool, why: str) -> None:
        """Puts the items of a dead worker's batch in front of those that wait.

        Args:
            batch: The batch.
            blamed: Whether the worker died while it worked on it.
            why: Reason of the death.
        """
        deaths = batch.deaths + blamed
        if deaths >= MAX_DEATHS and len(batch.items) == 1:
            raise DeadlyItemError(batch.items[0], why)
        middle = (len(batch.items) + 1) // 2 if blamed else len(batch.items)
        halves = [batch.items[:middle], batch.items[middle:]]
        self._again.extendleft(_Batch(half, deaths) for half in reversed(halves) if half)

    def _died(self, index: int, what: str, why: str) -> None:
        """Counts a death.

        Raises:
            UserError: There were too many in a row.
        """
        self._vain += 1
        if self.note is not None:
            self.note(f"worker {index} {what} ({why}); its self-edits are sent again")
        if self._vain > MAX_DEATHS * len(self.workers):
            raise UserError(
                f"workers were lost {self._vain} times in a row, and nothing was done in between "
                f"({why}); see Ray's logs of the nodes, or give a longer worker_timeout"
            )
