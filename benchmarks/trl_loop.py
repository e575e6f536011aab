"""GRPO by TRL's own loop: what its policy writes against what `base` writes, on held-out people.

    python -m benchmarks.trl_loop --through reward-funcs openenv --seeds 3

The trainer is TRL's unmodified `GRPOTrainer`. The environment is its reward function: in the same
process (`SelfEditReward`), or behind a server of `seal-env serve` (`ServerReward`, one OpenEnv
session per self-edit). What is done is not done again: the adapter and the figures of each seed are
in --out. A seed that is stopped in its training starts it anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rich.console import Console

from benchmarks.command import command
from benchmarks.served import served
from seal_agents.policies.options import ADAPTER
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.runner.build import make
from seal_env.config import EnvConfig
from seal_env.engine.checkpoints import EMBEDDED
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.vector import SelfEditVectorEnv

REWARD = "accuracy + 0.3 * log_likelihood"
"""Reward of the training; held out, accuracy is compared."""
REWARDS, TRAINED = "rewards.json", "trained.json"
"""Mean reward of each batch, and held-out accuracies, beside the adapter of a seed."""
BASE = "base-seed-{}.json"
"""Held-out accuracies of `base` by seed."""


@dataclass(frozen=True)
class Args:
    """Trains `tiny` by TRL's loop and compares it with `base`."""

    through: tuple[Literal["reward-funcs", "openenv"], ...] = ("reward-funcs", "openenv")
    """How the trainer gets its rewards."""
    seeds: int = 3
    """Seeds, from 0: of TRL, of the adapter, and of which people are trained on."""
    rounds: int = 10
    """Batches of self-edits; each gives four optimizer steps."""
    problems: int = 4
    """People per batch."""
    samples: int = 8
    """Self-edits per person."""
    learning_rate: float = 1e-3
    """Learning rate of AdamW, constant."""
    test_problems: int = 60
    """Held-out people, one self-edit each."""
    out: Path = Path("runs/trl-loop")
    """Folder of the adapters and the figures."""
    json: Path | None = None
    """File of the figures."""


def train(args: Args, reward: Any, data: Any, seed: int, folder: Path) -> list[float]:
    """Trains an adapter by TRL's loop into a folder; returns the mean reward of each batch."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    batch = args.problems * args.samples
    settings = GRPOConfig(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=batch // 2,
        steps_per_generation=2,
        num_iterations=2,
        num_generations=args.samples,
        max_steps=4 * args.rounds,
        max_completion_length=256,
        learning_rate=args.learning_rate,
        lr_scheduler_type="constant",
        seed=seed,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    policy = AutoModelForCausalLM.from_pretrained(EMBEDDED["tiny"])
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["tiny"], padding_side="left")
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = GRPOTrainer(policy, reward, settings, data, None, tokenizer, peft_config=lora)
    trainer.train()
    trainer.save_model(str(folder / ADAPTER))
    logged = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    return [fmean(logged[i : i + 4]) for i in range(0, len(logged), 4)]


def held_out(args: Args, seed: int, folder: Path | None) -> list[float]:
    """Accuracy on each held-out person after one self-edit, on the base learner.

    Args:
        args: The settings.
        seed: Seed of what is written and of the inner loops.
        folder: Folder with the adapter of the policy; None for `base`.
    """
    agent = make("base", EnvConfig(), seed, lambda stage, done, total: None)
    if folder is not None:
        agent.load(folder)
    accuracies: list[float] = []
    for first in range(0, args.test_problems, 50):
        people = list(range(first, min(first + 50, args.test_problems)))
        envs = SelfEditVectorEnv(len(people), observe_final=False, split="test")
        contexts = envs.reset(seed=seed, options={"problems": people})[0]["context"]
        seeds = [stable_hash("held out", seed, person) for person in people]
        written = agent.act([{"context": context} for context in contexts], seeds)
        infos = envs.step([str(getattr(one, "text", one)) for one in written])[4]
        accuracies += [float(value) for value in infos["final_info"]["accuracy"]]
    return accuracies


def measure(args: Args, console: Console) -> list[dict[str, Any]]:
    """Runs what is missing; returns the figures of each seed and way."""
    from seal_env.integrations.trl import SelfEditReward, ServerReward

    if min(args.seeds, args.rounds, args.problems, args.test_problems) < 1 or args.samples < 2:
        raise UserError("--seeds, --rounds and the problems start at 1, --samples at 2")
    here = SelfEditReward(EnvConfig(reward=REWARD))
    count = args.rounds * args.problems
    rows = []
    with ExitStack() as stack:
        for way in args.through:
            reward: Any = here
            for seed in range(args.seeds):
                folder = args.out / way / f"seed-{seed}"
                if not (folder / REWARDS).is_file():
                    if way == "openenv" and reward is here:
                        address, _ = stack.enter_context(served("--reward", REWARD))
                        reward = ServerReward(address)
                    shutil.rmtree(folder, ignore_errors=True)
                    people = range(seed * count, (seed + 1) * count)
                    means = train(args, reward, here.dataset(people), seed, folder)
                    write_json(folder / REWARDS, means)
                if not (folder / TRAINED).is_file():
                    write_json(folder / TRAINED, held_out(args, seed, folder))
                base = args.out / BASE.format(seed)
                if not base.is_file():
                    write_json(base, held_out(args, seed, None))
                known = {
                    name: json.loads(file.read_text())
                    for name, file in (
                        ("rewards", folder / REWARDS),
                        ("trained", folder / TRAINED),
                        ("base", base),
                    )
                }
                rows.append({"through": way, "seed": seed, **known})
                console.print(line(rows[-1]), markup=False, highlight=False, soft_wrap=True)
    here.sessions.close()
    return rows


def write_json(file: Path, value: Any) -> None:
    """Writes a file of figures, whole or not at all."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(value) + "\n")
    beside.replace(file)


def line(row: dict[str, Any]) -> str:
    """One seed in words, with intervals over people, the difference paired by person."""
    base, trained = (bootstrap_mean(row[name]) for name in ("base", "trained"))
    pairs: Sequence[tuple[float, float]] = list(zip(row["base"], row["trained"], strict=True))
    gain = bootstrap_mean([after - before for before, after in pairs])
    return (
        f"{row['through']}, seed {row['seed']}: base {base.mean:.3f} [{base.low:.3f}, "
        f"{base.high:.3f}], trained {trained.mean:.3f} [{trained.low:.3f}, {trained.high:.3f}], "
        f"gain {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]; reward of the batches "
        f"{' '.join(f'{mean:.2f}' for mean in row['rewards'])}"
    )


def _work(args: Args, console: Console) -> int:
    rows = measure(args, console)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "trl_loop", __doc__, _work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
