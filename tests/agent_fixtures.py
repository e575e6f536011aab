"""What the tests of agents and runs share: quick settings, and real processes to kill."""

import contextlib
import io
import json
import multiprocessing
import os
import time
from pathlib import Path

from rich.console import Console

from seal_agents import cli
from seal_agents.base import AgentContext, Experience
from seal_agents.runner.experience import text_of, tokens_of
from seal_env.engine.lora import LoraConfig
from seal_env.engine.training import FinetuneConfig
from seal_env.episodes import EnvConfig
from seal_env.inner_loop import InnerLoopConfig

INNER = InnerLoopConfig(LoraConfig(4, 8.0), FinetuneConfig(2e-2, epochs=1, batch_size=4))
QUICK = (
    "--task helpers:Parity --inner.finetune.epochs 1 --inner.finetune.batch-size 4 "
    "--inner.lora.rank 4 --inner.finetune.learning-rate 0.02"
).split()
TRAIN = [
    *QUICK,
    *"--problems 2 --samples 3 --rounds 2 --test-problems 3 --num-envs 2".split(),
    *"--options.max-new-tokens 16 --options.finetune.epochs 2".split(),
]
"""A run of train that takes a second."""

# Processes are forked from one that has imported everything already.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "agent_fixtures",
        "helpers",
        "seal_agents.algorithms.rest_em",
        "seal_agents.policies.language_model",
        "seal_agents.reporting.events",
        "seal_agents.runner.train",
    ]
)


def env(model: str, **settings) -> EnvConfig:
    return EnvConfig(**{"model": model, "task": "helpers:Parity", "inner": INNER, **settings})


def context(model: str, **settings) -> AgentContext:
    return AgentContext(env=env(model), **settings)


def experience(observation, action, reward, group="p", **info) -> Experience:
    """What a run makes of an action: of a text, or of a text with its tokens."""
    told = tokens_of(action)
    return Experience(
        observation,
        text_of(action) or "",
        reward,
        {"problem": group, **info},
        group,
        tokens=tuple(told["token_ids"]) if told else None,
        log_probs=tuple(told["log_probs"]) if told else None,
        ended=told.get("ended", False),
    )


def quiet() -> Console:
    return Console(file=io.StringIO(), width=80)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(arguments: list[str], folder: Path) -> multiprocessing.process.BaseProcess:
    """`seal-env` in a process of its own, with what it says in two files in `folder`."""
    process = FORKS.Process(target=_main, args=(arguments, str(folder)))
    process.start()
    return process


def finish(arguments: list[str], folder: Path) -> tuple[int, str, str]:
    """Runs `seal-env` to its end; returns status, output and errors."""
    process = start(arguments, folder)
    process.join(200)
    code = process.exitcode
    return code, (folder / "stdout").read_text(), (folder / "stderr").read_text()


def kill_when(arguments: list[str], folder: Path, due) -> bool:
    """Kills `seal-env` (SIGKILL) as soon as `due()`; whether it was still running."""
    process = start(arguments, folder)
    while process.is_alive() and not due():
        time.sleep(0.0005)
    running = process.is_alive()
    process.kill()
    process.join(60)
    return running


def _main(arguments: list[str], folder: str) -> None:
    os.chdir(folder)
    with open("stdout", "w") as out, open("stderr", "w") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main(arguments)
