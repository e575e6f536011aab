"""Workers as Ray actors: stateless, and restarted by Ray wherever there is room.

A worker builds what it is for from a `Spec`, plain data that comes with every call. Whatever dies
(an actor, its node) is therefore made again from the call that follows. Without an address, Ray
is started on this machine, on its loopback interface, without dashboard and usage statistics.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from seal_env.errors import UserError, first_line
from seal_env.workers.dispatch import Event, Kind
from seal_env.workers.placement import bundle, places

BUILT = 2
"""Number of specs that a worker keeps what it built from."""
SOON = 60
"""Seconds until workers have the room that is there."""
TRIES = 3
"""Attempts to start Ray."""
LOCAL = "127.0.0.1"
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Despite its name, on every system: "0" makes a Ray of one machine listen on loopback alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""Environment variables of a Ray that is started here, for its processes."""
_groups: weakref.WeakValueDictionary[tuple[Any, ...], RayGroup] = weakref.WeakValueDictionary()
_recent: list[RayGroup] = []
_lock = threading.RLock()


class Spec(Protocol):
    """Plain data from which a worker builds what it runs."""

    @property
    def digest(self) -> str:
        """Hash of the content."""

    def build(self, threads: int, tick: Callable[[], None]) -> Callable[[bytes], bytes]:
        """The function of a batch.

        Args:
            threads: Number of CPU threads.
            tick: Function to call at every sign of progress.
        """


class RayWorker:
    """The actor.

    Args:
        threads: Number of CPU threads.
        paths: Python path of the driver, where a user's own parts may lie.
    """

    def __init__(self, threads: int, paths: Sequence[str]) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        self.threads, self.done = threads, 0
        self.built: dict[str, Callable[[bytes], bytes]] = {}

    def load(self, digest: str, spec: Sequence[Any]) -> None:
        """Builds what a spec says, if that is not there.

        Args:
            digest: Hash of the spec.
            spec: Its object reference, in a list so that Ray does not fetch it at every call.
        """
        run = self.built.pop(digest, None)
        if run is None:
            import ray

            self.tick()
            while len(self.built) >= BUILT:
                self.built.pop(next(iter(self.built)))
            run = ray.get(spec[0]).build(self.threads, self.tick)
        self.built[digest] = run
        self.tick()

    def run(self, digest: str, spec: Sequence[Any], batch: bytes) -> bytes:
        """Results of a batch; arguments as of `load`."""
        self.load(digest, spec)
        results = self.built[digest](batch)
        self.tick()
        return results

    def tick(self) -> None:
        """Counts a sign of progress."""
        self.done += 1

    def ticks(self) -> int:
        """Number of signs of progress; answered while a batch is worked on."""
        return self.done


class RayGroup:
    """Workers of one cluster, shared by all environments of the process.

    Args:
        ray: The module ray, connected.
        count: Number of workers.
        gpus: Whether each worker has a GPU if the cluster has any.
        timeout: Seconds to wait for room if there is none now; 0 if the cluster does not grow.

    Raises:
        UserError: There is no room for the workers.
    """

    def __init__(self, ray: Any, count: int, gpus: bool, timeout: float) -> None:
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.ray = ray
        """The module ray."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.gpus = gpus and any(node.get("GPU", 0) >= 1 for node in nodes)
        """Whether each worker has a GPU."""
        self.count = count
        """Number of workers."""
        self.lock = threading.Lock()
        """Held by the pass that uses the workers."""
        wanted = bundle(nodes, count, self.gpus)
        room = places(nodes, wanted)
        self._group = placement_group([wanted] * count) if timeout or room >= count else None
        if self._group is None or not self._group.wait(timeout or SOON):
            if self._group is not None:
                remove_placement_group(self._group)
            told = " and ".join(f"{amount:g} {name}" for name, amount in wanted.items())
            raise UserError(
                f"workers {count}: each takes {told}, and Ray has room for {room}; give fewer"
            )
        actor = ray.remote(max_restarts=-1, concurrency_groups={"watch": 1})(RayWorker)
        cores, paths = int(wanted["CPU"]), [os.path.abspath(path) for path in sys.path]
        self.actors = [
            actor.options(
                num_cpus=cores,
                num_gpus=wanted.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, index),
            ).remote(cores, paths)
            for index in range(count)
        ]
        """Handles of the workers."""
        self.speeds: dict[str, dict[int, float]] = {}
        """Speeds of the workers (`seal_env.workers.dispatch.Dispatch`), by model."""
        self._specs: dict[str, Any] = {}
        self._finalizer = weakref.finalize(self, _end, self.actors, self._group)
        self._finalizer.atexit = False  # Ray ends them itself

    def put(self, spec: Spec) -> Any:
        """Object reference of a spec, which is sent to each node once."""
        ref = self._specs.pop(spec.digest, None)
        if ref is None:
            while len(self._specs) >= 2 * BUILT:
                self._specs.pop(next(iter(self._specs)))
            ref = self.ray.put(spec)
        self._specs[spec.digest] = ref
        return ref

    def close(self) -> None:
        """Ends the workers."""
        self._finalizer()


def _end(actors: Sequence[Any], group: Any) -> None:
    import ray
    from ray.util.placement_group import remove_placement_group

    if ray.is_initialized():
        for actor in actors:
            ray.kill(actor)
        remove_placement_group(group)


def ray_group(
    count: int, address: str | None, gpus: bool, threads: int, timeout: float
) -> RayGroup:
    """The process's workers of some settings.

    Those that were asked for last are kept, so that environments are cheap to construct.

    Args:
        count: Number of workers.
        address: Address of the cluster, as `ray.init` takes it; None for a Ray on this machine.
        gpus: Whether each worker has a GPU if the cluster has any.
        threads: Cores of this machine that a Ray here may use.
        timeout: Seconds to wait for room on a cluster.

    Raises:
        UserError: Ray is not installed or cannot be reached, or there is no room.
    """
    with _lock:
        ray = connected(address, max(count, threads))
        key = (ray.get_runtime_context().get_job_id(), count, gpus)
        group = _groups.get(key)
        if group is None:
            _recent.clear()
            gc.collect()  # makes room: an environment that nobody uses may be in a cycle
            # A cluster may grow while the request waits; this machine does not.
            group = RayGroup(ray, count, gpus, 0.0 if address is None else timeout)
            _groups[key] = group
        _recent[:] = [group]
        return group


def connected(address: str | None, cores: int) -> Any:
    """The module ray, connected to a cluster; an existing connection is used as it is.

    Args:
        address: As `ray.init` takes it; None to start Ray on this machine.
        cores: Cores of a Ray that is started here.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"workers need the package ray ({error}): pip install 'seal-env[ray]'"
        ) from None
    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address is None:
            with _loopback(ray):
                _start(ray, num_cpus=cores, include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except Exception as error:  # Ray has no common class of what may go wrong here
        where = "cannot be started on this machine" if address is None else f"{address!r}: no Ray"
        raise UserError(f"ray_address: {where} ({first_line(error)})") from error
    if address is None and ray.util.get_node_ip_address() != LOCAL:
        ray.shutdown()
        raise UserError(
            f"workers: this version of ray ({ray.__version__}) would listen on the network; "
            f"connect to a Ray of your own before"
        )
    return ray


def _start(ray: Any, **settings: Any) -> None:
    """Starts Ray, which gives up after 30 seconds, so on a busy machine perhaps not at once."""
    for left in reversed(range(TRIES)):
        try:
            ray.init("local", **settings)
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


@contextmanager
def _loopback(ray: Any) -> Iterator[None]:
    """Context in which a Ray that is started listens on loopback alone."""
    constants = ray._private.ray_constants
    before = {name: os.environ.get(name) for name in _SETTINGS}
    clusters = constants.ENABLE_RAY_CLUSTER  # what the variable was when ray was imported
    os.environ.update(_SETTINGS)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class RayPass:
    """The workers of a group in one pass: a `seal_env.workers.dispatch.Pool` of batches.

    Args:
        group: The workers.
        spec: What they run.
        pack: Function from items to the bytes that are sent.
        unpack: Function from the bytes that come back to results.
    """

    def __init__(
        self,
        group: RayGroup,
        spec: Spec,
        pack: Callable[[Sequence[Any]], bytes],
        unpack: Callable[[bytes], Sequence[Any]],
    ) -> None:
        self.group, self.count = group, group.count
        self.pack, self.unpack = pack, unpack
        self.call = spec.digest, [group.put(spec)]
        self.pending: dict[Any, tuple[str, int, int]] = {}
        """What runs, the worker and the batch, by object reference."""
        self.ticks = [-1] * group.count
        """Last known number of signs of progress per worker."""

    def now(self) -> float:
        """See `Pool`."""
        return time.monotonic()

    def load(self, worker: int) -> None:
        """See `Pool`; the call waits in Ray until the worker is there."""
        method = self.group.actors[worker].load.options(max_task_retries=-1)
        self.pending[method.remote(*self.call)] = "load", worker, -1

    def send(self, worker: int, batch: int, items: Sequence[Any]) -> None:
        """See `Pool`."""
        ref = self.group.actors[worker].run.remote(*self.call, self.pack(items))
        self.pending[ref] = "run", worker, batch

    def kill(self, worker: int) -> None:
        """See `Pool`."""
        self.group.ray.kill(self.group.actors[worker], no_restart=False)
        self.pending = {r: told for r, told in self.pending.items() if told[1] != worker}

    def wait(self, seconds: float) -> list[Event[Any]]:
        """See `Pool`."""
        end = self.now() + seconds
        self._watch()
        events: list[Event[Any]] = []
        while not events and (left := end - self.now()) > 0:
            refs = list(self.pending)
            first, _ = self.group.ray.wait(refs, timeout=left)
            if first:
                first, _ = self.group.ray.wait(refs, num_returns=len(refs), timeout=0)
            events = [event for ref in first if (event := self._event(ref)) is not None]
        return events

    def drop(self) -> None:
        """Cancels what still waits, after an exception."""
        for ref, (what, _, _) in self.pending.items():
            if what == "run":
                self.group.ray.cancel(ref)
        self.pending.clear()

    def _watch(self) -> None:
        """Asks all workers for their signs of progress."""
        asked = {worker for what, worker, _ in self.pending.values() if what == "ticks"}
        for worker, actor in enumerate(self.group.actors):
            if worker not in asked:
                ref = actor.ticks.options(concurrency_group="watch").remote()
                self.pending[ref] = "ticks", worker, -1

    def _event(self, ref: Any) -> Event[Any] | None:
        """The news that an object reference which is there has; None if it has none."""
        from ray.exceptions import RayTaskError

        what, worker, batch = self.pending.pop(ref)
        try:
            value = self.group.ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            known = isinstance(cause, UserError)
            return Event(Kind.FAILED, worker, batch, error=cause if known else error)
        except self.group.ray.exceptions.RayError as error:
            if what == "ticks":
                return None
            return Event(Kind.LOST, worker, batch, error=UserError(type(error).__name__))
        if what == "ticks":
            moved, self.ticks[worker] = value != self.ticks[worker], value
            return Event(Kind.ALIVE, worker) if moved else None
        if what == "load":
            return Event(Kind.READY, worker)
        return Event(Kind.DONE, worker, batch, self.unpack(value))
