"""Simulated workers on a virtual clock, for the dispatch that real ones get their batches from."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_env.errors import UserError
from seal_env.workers.dispatch import Event, Kind


@dataclass(frozen=True)
class Costs:
    """Seconds of a worker and of the driver."""

    per_edit: float = 1.0
    """Of a worker, per self-edit."""
    per_batch: float = 0.0
    """Of a worker, per batch: steps take time however few self-edits share them."""
    driver_per_edit: float = 0.0
    """Of the driver, per self-edit: packing the request, unpacking the result."""
    driver_per_batch: float = 0.0
    """Of the driver, per batch: a call, and its answer."""
    latency: float = 0.0
    """Of the network, each way, per batch."""
    loading: float = 0.0
    """Of a worker until it takes batches."""


@dataclass
class _Simulated:
    """State of a simulated worker."""

    free: float = 0.0
    """Time when all that it has is done."""
    batches: dict[int, int] = field(default_factory=dict)
    """Number of items by batch that it has."""
    life: int = 0
    """Number of its restarts; events of earlier lives are void."""
    hangs: bool = False
    """Whether it does nothing any more."""


class SimulatedPool:
    """Workers that take time and return ``work(item)``; a `seal_env.workers.dispatch.Pool`.

    Args:
        speeds: Speed of each worker, 1 for one that takes `Costs.per_edit`.
        costs: Seconds.
        work: Function from an item to its result.
        deaths: Numbers of batches, in the order of sending, whose worker dies in their middle.
        hangs: Numbers of batches whose worker hangs in their middle.
        deadly: Items that end their worker whenever they are worked on.
        failing: Items that raise a `UserError`.
    """

    def __init__(
        self,
        speeds: Sequence[float],
        costs: Costs,
        work: Callable[[Any], Any] = lambda item: item,
        deaths: Collection[int] = (),
        hangs: Collection[int] = (),
        deadly: Collection[Any] = (),
        failing: Collection[Any] = (),
    ) -> None:
        self.count, self.speeds, self.costs, self.work = len(speeds), speeds, costs, work
        self.deaths, self.hangs = frozenset(deaths), frozenset(hangs)
        self.deadly, self.failing = frozenset(deadly), frozenset(failing)
        self.clock = self.driver_seconds = 0.0
        self.carried: list[int] = [0] * self.count
        """Items that each worker returned results of."""
        self._workers = [_Simulated() for _ in speeds]
        self._events: list[tuple[float, int, int, Event[Any]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """See `Pool`."""
        return self.clock

    def load(self, worker: int) -> None:
        """See `Pool`."""
        self._push(worker, self.clock + self.costs.loading, Event(Kind.READY, worker))

    def send(self, worker: int, batch: int, items: Sequence[Any]) -> None:
        """See `Pool`."""
        costs, one = self.costs, self._workers[worker]
        self._drive(costs.driver_per_batch / 2 + costs.driver_per_edit / 2 * len(items))
        start = max(one.free, self.clock + costs.latency)
        seconds = costs.per_batch + costs.per_edit * len(items)
        one.batches[batch] = len(items)
        if one.hangs or batch in self.hangs:
            one.hangs = True
            return
        one.free = start + seconds / self.speeds[worker]
        if batch in self.deaths or self.deadly & set(items):
            self._push(worker, (start + one.free) / 2, Event(Kind.LOST, worker, batch))
        elif self.failing & set(items):
            error = UserError(f"failing: {sorted(self.failing & set(items))}")
            self._push(worker, one.free, Event(Kind.FAILED, worker, batch, error=error))
        else:
            done = Event(Kind.DONE, worker, batch, [self.work(item) for item in items])
            self._push(worker, one.free + costs.latency, done)

    def kill(self, worker: int) -> None:
        """See `Pool`."""
        self._workers[worker] = _Simulated(self.clock, {}, self._workers[worker].life + 1)

    def wait(self, seconds: float) -> list[Event[Any]]:
        """See `Pool`."""
        self._drop_void()
        end = self.clock + seconds
        if not self._events or self._events[0][0] > end:
            self.clock = end
            return []
        self.clock = max(self.clock, self._events[0][0])
        found: list[Event[Any]] = []
        while self._events and self._events[0][0] <= self.clock:
            _, _, life, event = heapq.heappop(self._events)
            one = self._workers[event.worker]
            if life != one.life:
                continue
            if event.kind is Kind.LOST:
                found += [Event(Kind.LOST, event.worker, batch) for batch in one.batches]
                self.kill(event.worker)
                continue
            if event.kind is Kind.DONE:
                count = one.batches.pop(event.batch)
                self.carried[event.worker] += count
                self._drive(
                    self.costs.driver_per_batch / 2 + self.costs.driver_per_edit / 2 * count
                )
            found.append(event)
        return found

    def _drop_void(self) -> None:
        """Drops events of earlier lives from the front."""
        while self._events and self._events[0][2] != self._workers[self._events[0][3].worker].life:
            heapq.heappop(self._events)

    def _push(self, worker: int, when: float, event: Event[Any]) -> None:
        life = self._workers[worker].life
        heapq.heappush(self._events, (when, next(self._order), life, event))

    def _drive(self, seconds: float) -> None:
        self.clock += seconds
        self.driver_seconds += seconds
