"""A server under load: concurrent sessions against the vector environment, and hostile bodies.

    python -m benchmarks.serving

Prints latencies of steps (seconds), the throughput of the server and of `SelfEditVectorEnv` with as
many sub-environments (self-edits per second), and what came of the hostile bodies.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass

import gymnasium as gym
import httpx2
import numpy as np
import tyro

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from benchmarks.served import served
from seal_env.serving.client import SelfEditClient
from seal_env.serving.models import SelfEditAction


@dataclass(frozen=True)
class ServingBenchmark:
    """Settings."""

    sessions: int = 64
    """Concurrent sessions."""
    steps: int = 50
    """Steps per session."""
    vector_steps: int = 5
    """Steps of the vector environment; 0 leaves it out."""
    hostile: int = 10_000
    """Hostile bodies."""


def self_edit(context: str) -> str:
    """A self-edit of usual length: one sentence per line."""
    return context.replace(". ", ".\n")


def vector_throughput(count: int, steps: int) -> float:
    """Self-edits per second of the vector environment."""
    envs = gym.make_vec("SelfEdit-v0", num_envs=count, observe_final=False)
    seconds = 0.0
    for step in range(steps + 1):
        problems = [step * count + i for i in range(count)]
        observations, _ = envs.reset(seed=0, options={"problems": problems})
        texts = [self_edit(context) for context in observations["context"]]
        start = time.perf_counter()
        envs.step(texts)
        seconds += (time.perf_counter() - start) * (step > 0)  # the first one warms up
    return count * steps / seconds


async def load(url: str, count: int, steps: int) -> tuple[list[float], float]:
    """Seconds of each step of each session, and of the whole."""

    async def session(number: int) -> list[float]:
        taken = []
        async with SelfEditClient(base_url=url, message_timeout_s=600.0) as client:
            for step in range(steps):
                first = await client.reset(seed=0, problem=step * count + number)
                text = self_edit(first.observation.context)
                start = time.perf_counter()
                result = await client.step(SelfEditAction(text=text))
                taken.append(time.perf_counter() - start)
                assert result.done and not result.observation.metadata["error"]
        return taken

    start = time.perf_counter()
    taken = await asyncio.gather(*(session(number) for number in range(count)))
    return [seconds for one in taken for seconds in one], time.perf_counter() - start


async def attack(url: str, count: int, pid: int) -> tuple[Counter[int], list[int]]:
    """Statuses of hostile bodies, and the server's resident memory (MiB) over time."""
    rng = random.Random(0)
    headers = {"content-type": "application/json"}  # else no body would reach the environment
    bodies = (
        b"{", b"[" * 50_000, b"\xff\xfe", b'{"seed": NaN}', b'{"seed": -1}', b'{"problem": "x"}',
        b'{"action": 3}', b'{"action": {"text": "\\ud800"}}', b'{"action": {"text": "x"}}',
        b'{"action": {"text": "x"}, "timeout_s": 1e999}', b"x" * (1 << 20) + b"x",
    )  # fmt: skip
    statuses: Counter[int] = Counter()
    memory = []
    async with httpx2.AsyncClient(base_url=url, timeout=60.0) as client:
        for start in range(0, count, 20):
            sent = []
            for _ in range(min(20, count - start)):
                body = rng.choice(bodies)
                body = bytes(rng.randrange(256) for _ in range(60)) if rng.random() < 0.3 else body
                path = rng.choice(("/reset", "/step", "/mcp", "/seal-env/task", "/seal-env/tasks"))
                sent.append(client.post(path, content=body, headers=headers))
            statuses.update(reply.status_code for reply in await asyncio.gather(*sent))
            if start % (count // 5) < 20:
                memory.append(resident(pid))
    return statuses, memory


def resident(pid: int) -> int:
    """Resident memory of a process, MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) >> 10


def main() -> None:
    """Prints the figures."""
    settings = tyro.cli(ServingBenchmark, description=__doc__)
    count = settings.sessions
    if settings.vector_steps:
        baseline = vector_throughput(count, settings.vector_steps)
        print(f"vector environment, K = {count}: {baseline:.1f} self-edits per second", flush=True)
    with served() as (url, pid):
        if settings.steps:
            taken, seconds = asyncio.run(load(url, count, settings.steps))
            p50, p95 = np.percentile(taken, [50, 95])
            print(f"{len(taken)} steps of {count} sessions, no error: p50 {p50:.2f} s, p95 "
                  f"{p95:.2f} s, {len(taken) / seconds:.1f} self-edits per second")  # fmt: skip
            metrics = httpx2.get(f"{url}/metrics").json()
            sizes = itertools.islice(reversed(metrics["batch_sizes"].items()), 8)
            print(f"passes {metrics['passes']}, by size {dict(sizes)}", flush=True)
        if settings.hostile:
            statuses, memory = asyncio.run(attack(url, settings.hostile, pid))
            print(f"hostile bodies: {dict(sorted(statuses.items()))}; memory {memory} MiB")


if __name__ == "__main__":
    main()
