"""Workers: their time against the threads of one process, what deaths cost, and how far they scale.

    python -m benchmarks.scaling

Claim: the tables and the plot of docs/scaling.md. Hardware: 2 CPU cores, about 5 minutes; no GPU.

Parts: `speed` (one pass by threads and by workers, alternately), `kills` (workers are killed by
SIGKILL while they work), `hang` (a worker is stopped by SIGSTOP), `costs` (seconds of a worker and
of the driver), `model` (simulated clusters of 1 to 256 workers with these costs, by the dispatch
that real workers are served by). In all of them rewards and infos are compared to the bit. The
command can be stopped at any time and continues when it is repeated.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated, Any

import gymnasium as gym
import psutil
import torch
import tyro
from rich.console import Console

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from benchmarks.cluster_model import Costs, SimulatedPool
from benchmarks.command import command
from benchmarks.scaling_plot import plot
from seal_agents.run_folder import RunFolder
from seal_env.config import EnvConfig
from seal_env.errors import UserError
from seal_env.inner_loop import Request
from seal_env.tasks.biographies.edits import STYLES, write
from seal_env.tasks.biographies.task import Biographies
from seal_env.vector import SelfEditVectorEnv
from seal_env.workers.dispatch import Dispatch
from seal_env.workers.remote_loop import RemoteLoop

PARTS = ("speed", "kills", "hang", "costs", "model")
WORKER = "ray::RayWorker"
"""Beginning of the title of a worker's process."""
BUSY = 10.0
"""Percent of a core that a worker uses while it works on a batch. Its title does not tell: a call
that asks whether it is alive changes it."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of simulated workers."""
CALLS = 64
"""Empty calls that the driver's time per batch is the mean of."""


@dataclass(frozen=True)
class Args:
    """Measures workers on this machine, and simulates more of them."""

    parts: tuple[str, ...] = PARTS
    """Parts: speed, kills, hang, costs, model."""
    edits: int = 256
    """Self-edits per pass, each about another person."""
    repeats: int = 3
    """Passes of each kind in `speed`; the first one of each is not counted."""
    kills: int = 10
    """Workers that are killed."""
    timeout: float = 20.0
    """Timeout of the worker that hangs, in seconds."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(workers=2)
    )
    """The environment, with at least one worker; its task is biographies."""
    out: Path = Path("runs/scaling")
    """Folder of figures.json and scaling.png."""

    def check(self) -> None:
        """Looks the numbers over.

        Raises:
            UserError: One cannot be used.
        """
        for name in ("edits", "repeats", "kills"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: must be at least 1")
        unknown = set(self.parts) - set(PARTS)
        if unknown:
            raise UserError(f"--parts {min(unknown)}: known parts are {', '.join(PARTS)}")
        if self.env.task != "biographies" or not self.env.workers:
            raise UserError("--task biographies and --workers of at least 1 are what is measured")


class Passes:
    """Passes over the same self-edits in one environment.

    Args:
        args: Settings of the benchmark.
        workers: Workers of the environment; 0 for the threads of this process.
        timeout: Their timeout in seconds; None for the default.
    """

    def __init__(self, args: Args, workers: int, timeout: float | None = None) -> None:
        env = replace(
            args.env, workers=workers, ray_address=args.env.ray_address if workers else None
        )
        if timeout is not None:
            env = replace(env, worker_timeout=timeout)
        made = gym.make_vec(
            "SelfEdit-v0",
            num_envs=args.edits,
            autoreset_mode="DISABLED",
            observe_final=False,
            **env.kwargs(),
        )
        base = made.unwrapped
        assert isinstance(base, SelfEditVectorEnv)
        self.envs = base

    @property
    def requests(self) -> list[Request]:
        """Requests of a pass."""
        episodes = self.envs.episodes
        running = [episode for episode in episodes.running if episode is not None]
        problems = [episode.problems[0] for episode in running]
        pairs = zip(problems, self.texts, strict=True)
        edits = [episodes.language.parse(text, problem) for problem, text in pairs]
        return [
            Request(problem, edit, 0, text=text)
            for problem, edit, text in zip(problems, edits, self.texts, strict=True)
        ]

    def begin(self, first: int, untouched: bool = True) -> None:
        """Starts the episodes.

        Args:
            first: Index of the first person.
            untouched: Whether the untouched learner is asked before, outside of the pass.
        """
        people, styles = range(first, first + self.envs.num_envs), list(STYLES)
        world, random = Biographies(), Random(first)
        self.texts = [
            write(styles[i % len(styles)], world.person("train", i), random) for i in people
        ]
        problems = [world.problem("train", i) for i in people]
        if untouched:
            self.envs.episodes.loop.baselines(problems)
        self.envs.reset(seed=0, options={"problems": problems})

    def run(self, first: int = 0) -> tuple[float, list[str]]:
        """Seconds of a pass, without its reset, and its rewards and infos.

        Args:
            first: Index of the first person.
        """
        self.begin(first)
        return self.step()

    def step(self) -> tuple[float, list[str]]:
        """`run` after a `begin`."""
        start = time.perf_counter()
        _, rewards, _, _, infos = self.envs.step(self.texts)
        seconds = time.perf_counter() - start
        return seconds, [repr(rewards.tolist()), *(repr(infos[name]) for name in sorted(infos))]


def speed(args: Args, tell: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of passes by threads and by workers, which alternate."""
    threads = Passes(args, 0)
    start = time.perf_counter()
    workers = Passes(args, args.env.workers)
    workers.run()  # loads them
    started = time.perf_counter() - start
    seconds: dict[str, list[float]] = {"threads": [], "workers": []}
    processor: dict[str, list[float]] = {"threads": [], "workers": []}
    equal = True
    for repeat in range(args.repeats + 1):
        found = []
        for name, passes in (("threads", threads), ("workers", workers)):
            passes.begin(args.edits * repeat)
            before = _processor_seconds()
            taken, told = passes.step()
            used = _processor_seconds() - before
            found.append(told)
            if repeat:
                seconds[name].append(round(taken, 2))
                processor[name].append(round(used, 2))
            tell(f"{name}: {taken:.2f} s, {used:.2f} s of processor time")
        equal = equal and found[0] == found[1]
    return {
        **seconds,
        "processor": processor,
        "ratio": _ratio(seconds),
        "processor_ratio": _ratio(processor),
        "start": round(started, 1),
        "equal": equal,
    }


def _ratio(seconds: Mapping[str, Sequence[float]]) -> float:
    """Median time of workers as a multiple of that of threads."""
    return round(median(seconds["workers"]) / median(seconds["threads"]), 3)


def _processor_seconds() -> float:
    """Processor time of this process and of its workers, which a busy machine hardly changes."""
    total = time.process_time()
    for process in psutil.Process().children(recursive=True):
        try:
            if WORKER in process.cmdline()[0]:
                total += sum(process.cpu_times()[:2])
        except (psutil.Error, IndexError):
            continue  # it ended meanwhile
    return total


def kills(args: Args, tell: Callable[[str], None]) -> dict[str, Any]:
    """Passes in which workers are killed, until so many were."""
    wanted, quiet = _reference(args)
    passes = Passes(args, args.env.workers)
    killed, equal, seconds = 0, True, []
    random = Random(0)
    while killed < args.kills:
        with _meanwhile(lambda: _strike(signal.SIGKILL), random, args.kills - killed) as struck:
            taken, told = passes.run()
        killed, equal = killed + len(struck), equal and told == wanted
        seconds.append(round(taken, 2))
        tell(f"{len(struck)} workers killed in a pass of {taken:.1f} s")
    return {"killed": killed, "passes": seconds, "undisturbed": quiet, "equal": equal}


def hang(args: Args, tell: Callable[[str], None]) -> dict[str, Any]:
    """A pass in which one worker is stopped."""
    wanted, quiet = _reference(args)
    passes = Passes(args, args.env.workers, args.timeout)
    with _meanwhile(lambda: _strike(signal.SIGSTOP), Random(0), 1) as struck:
        taken, told = passes.run()
    gone = not psutil.pid_exists(struck[0]) if struck else False
    tell(f"{len(struck)} worker stopped in a pass of {taken:.1f} s")
    return {
        "stopped": len(struck),
        "replaced": gone,
        "timeout": args.timeout,
        "seconds": round(taken, 2),
        "undisturbed": quiet,
        "equal": told == wanted,
    }


def _reference(args: Args) -> tuple[list[str], float]:
    """Rewards and infos of one process, and the seconds of a pass by undisturbed workers."""
    _, wanted = Passes(args, 0).run()
    workers = Passes(args, args.env.workers)
    workers.run()
    taken, _ = workers.run()
    return wanted, round(taken, 2)


def _strike(how: signal.Signals) -> int | None:
    """Sends a signal to a worker of this process that works on a batch; returns its id."""
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() == psutil.STATUS_STOPPED or WORKER not in process.cmdline()[0]:
                continue
            if process.cpu_percent(0.1) > BUSY:
                os.kill(process.pid, how)
                return process.pid
        except (psutil.Error, IndexError, ProcessLookupError):
            continue  # it ended meanwhile
    return None


@contextmanager
def _meanwhile(strike: Callable[[], int | None], random: Random, most: int) -> Iterator[list[int]]:
    """Context in which workers are struck at random moments.

    Args:
        strike: Function that strikes one and returns its process id; None if none is working.
        random: Source of the moments.
        most: Number of strikes.
    """
    struck: list[int] = []
    over = threading.Event()

    def work() -> None:
        while len(struck) < most and not over.wait(random.uniform(0.2, 1.0)):
            process = strike()
            if process is not None:
                struck.append(process)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield struck
    finally:
        over.set()
        thread.join()


def costs(args: Args, tell: Callable[[str], None]) -> dict[str, Any]:
    """Processor seconds of a worker with one core, and of the driver, per self-edit and batch."""
    passes = Passes(args, 0)
    passes.begin(0)
    requests, loop = passes.requests, passes.envs.episodes.loop
    few, many = max(1, args.edits // 32), max(2, args.edits // 4)
    times: dict[int, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for count in (few, few, many):  # the first one warms up
            start = time.process_time()
            loop.run(requests[:count])
            times[count] = time.process_time() - start
            tell(f"{count} self-edits on one core: {times[count]:.2f} s")
    finally:
        torch.set_num_threads(threads)
    per_edit = (times[many] - times[few]) / (many - few)
    remote = Passes(args, args.env.workers)
    remote.run()  # loads the workers
    start = time.process_time()
    remote.begin(args.edits, untouched=False)
    described = time.process_time() - start
    start = time.process_time()
    remote.step()
    driving = time.process_time() - start
    tell(f"the driver: {driving:.2f} s of processor time in a pass of {args.edits}")
    executor = remote.envs.episodes.executor
    assert isinstance(executor, RemoteLoop)
    ray, actor = executor.group.ray, executor.group.actors[0]
    start = time.process_time()
    ray.get([actor.ticks.remote() for _ in range(CALLS)])
    calling = (time.process_time() - start) / CALLS
    found = {
        "per_edit": per_edit,
        "per_batch": max(0.0, times[few] - few * per_edit),
        "driver_per_edit": driving / args.edits,
        "driver_per_batch": calling,
        "serial_per_edit": described / args.edits,
    }
    return {name: float(f"{value:.3g}") for name, value in found.items()}


def model(measured: Mapping[str, float]) -> list[dict[str, float]]:
    """Simulated passes of clusters, one row per number of workers.

    Rows have the seconds of a pass of 256 self-edits, of one of 8 per worker where those are more,
    and the share of the driver's seconds in the latter.
    """
    names = ("per_edit", "per_batch", "driver_per_edit", "driver_per_batch")
    known = Costs(**{name: measured[name] for name in names}, latency=1e-3)
    rows = []
    for count in SIZES:
        row: dict[str, float] = {"workers": count}
        for name, edits in (("fixed", 256), ("grown", max(256, 8 * count))):
            pool = SimulatedPool([1.0] * count, known)
            Dispatch(list(range(edits)), pool, 1e9).run()
            seconds = pool.clock + measured["serial_per_edit"] * edits
            row[name] = edits / seconds
            row["driver"] = (seconds - pool.clock + pool.driver_seconds) / seconds
        rows.append(row)
    return rows


def run(args: Args, console: Console) -> dict[str, Any]:
    """Measures what has not been measured, and draws the plot; returns the figures."""
    args.check()
    folder = RunFolder(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    settings = {
        "edits": args.edits,
        "workers": args.env.workers,
        "threads": torch.get_num_threads(),
        "env": {k: v for k, v in vars(args.env).items() if v != getattr(EnvConfig(), k)},
    }
    found = folder.read_json("figures.json") or {"settings": settings}
    if found["settings"] != settings:
        raise UserError(f"--out {args.out}: has figures of other settings; give another folder")

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    parts: dict[str, Callable[[Args, Callable[[str], None]], Any]] = {
        "speed": speed,
        "kills": kills,
        "hang": hang,
        "costs": costs,
    }
    for name in PARTS:
        if name not in args.parts or (name in found and name != "model"):
            continue
        if name != "model":
            found[name] = parts[name](args, tell)
        elif "costs" in found:
            found[name] = model(found["costs"])
            folder.write_bytes("scaling.png", plot(found))
        folder.write_json("figures.json", found)
    return found


def _tell(args: Args, console: Console) -> int:
    found = run(args, console)
    for name in ("speed", "kills", "hang", "costs"):
        if name in found:
            console.print(f"{name}: {found[name]}", markup=False, highlight=False)
    for row in found.get("model", ()):
        console.print(
            "{workers:4.0f} workers: {fixed:8.1f} self-edits/s of 256, {grown:8.1f} of 8 per "
            "worker, driver {driver:.0%}".format(**row),
            markup=False,
            highlight=False,
        )
    broken = [n for n in ("speed", "kills", "hang") if n in found and not found[n]["equal"]]
    if broken:
        print(f"error: rewards differ in {', '.join(broken)}", file=sys.stderr)
    missed = "hang" in found and not found["hang"]["stopped"]
    if missed:
        print("error: hang stopped no worker: give more --edits", file=sys.stderr)
    return 1 if broken or missed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "scaling", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
