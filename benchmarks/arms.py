"""Arms of `benchmarks.agents`: agents and their variants."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from seal_agents.runner.build import agent_class, restored
from seal_agents.runner.configs import TrainConfig
from seal_env.config import EnvConfig
from seal_env.errors import UserError

BASE, REFERENCE = "base", "rest-em"
"""Arms that every other arm is compared with."""
VAST = 1e6
"""A limit that is never reached."""


@dataclass(frozen=True)
class Arm:
    """An agent, how it spends its budget, and what is changed about it."""

    agent: str
    """A name in `seal_agents.AGENTS`, or "package.module:Name"."""
    problems: int = 25
    """Problems in a round."""
    samples: int = 8
    """Self-edits tried for each."""
    learns: bool = True
    """Whether it is trained; if not, it is evaluated as it is."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the agent that are not its defaults."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `TrainConfig` that are not its defaults."""
    reward: str | None = None
    """The reward of training; None for the benchmark's."""

    def config(self, env: EnvConfig, budget: int, seed: int, **settings: Any) -> TrainConfig:
        """The run of train that spends the budget, or as much of it as whole rounds can.

        Args:
            env: The environment.
            budget: Most inner-loop evaluations in training.
            seed: The run's seed.
            **settings: Further fields of `TrainConfig`.
        """
        samples = min(self.samples, budget)
        problems = min(self.problems, budget // samples)
        rounds = budget // (samples * problems)
        checks = min(settings.pop("checks"), rounds)
        default = agent_class(self.agent).Options()
        options = restored(type(default), _merged(asdict(default), self.options))
        return TrainConfig(
            env=env if self.reward is None else replace(env, reward=self.reward),
            agent=self.agent,
            options=options,
            rounds=rounds,
            problems=problems,
            samples=samples,
            checks=checks,
            references=(),
            fresh_test_seeds=True,
            seed=seed,
            **settings | dict(self.settings),
        )


def _merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some of them changed."""
    known = dict(values)
    for name, value in changes.items():
        inner = known.get(name)
        known[name] = _merged(inner, value) if isinstance(inner, dict) else value
    return known


AGENTS = {
    "none": Arm("none", learns=False),
    "passage": Arm("passage", learns=False),
    BASE: Arm("base", learns=False),
    "pooled": Arm("pooled", learns=False),
    "best-of-n": Arm("best-of-n", learns=False),
    REFERENCE: Arm("rest-em"),
    "self-rewarding": Arm("self-rewarding"),
    "ppo": Arm("ppo", problems=10, samples=10),
    "grpo": Arm("grpo", problems=10, samples=10),
    "rloo": Arm("rloo", problems=10, samples=10),
    "ppo-choices": Arm("ppo-choices", problems=8, samples=4),
}
"""Name to arm; the round sizes are those that suit each agent."""


def _settings(**settings: Any) -> Callable[[Arm], Arm]:
    return lambda arm: replace(arm, settings={**arm.settings, **settings})


def _reward(reward: str) -> Callable[[Arm], Arm]:
    return lambda arm: replace(arm, reward=reward)


def _options(by_agent: Mapping[str, Mapping[str, Any]]) -> Callable[[Arm], Arm]:
    def change(arm: Arm) -> Arm:
        if arm.agent not in by_agent:
            raise UserError(f"is for {', '.join(by_agent)}, not for {arm.agent}")
        return replace(arm, options=_merged(dict(arm.options), by_agent[arm.agent]))

    return change


def _rate(factor: float) -> Callable[[Arm], Arm]:
    def change(arm: Arm) -> Arm:
        options = asdict(agent_class(arm.agent).Options()) | dict(arm.options)
        if "learning_rate" in options:
            changed: dict[str, Any] = {"learning_rate": options["learning_rate"] * factor}
        elif "learning_rate" in options.get("finetune", {}):
            rate = options["finetune"]["learning_rate"]
            changed = {"finetune": {"learning_rate": rate * factor}}
        else:
            raise UserError(f"is for agents with a learning rate, not for {arm.agent}")
        return replace(arm, options=_merged(dict(arm.options), changed))

    return change


VARIANTS: dict[str, tuple[Callable[[Arm], Arm], ...]] = {
    "noise": (_settings(common_random_numbers=False), _reward("accuracy")),
    "random-seeds": (_settings(common_random_numbers=False),),
    "sparse": (_reward("accuracy"),),
    "cloze": (_reward("cloze"),),
    "self-questions": (_reward("self_questions"),),
    "reset": (_settings(reset_to_best=2),),
    "curriculum": (_settings(curriculum=True),),
    "follow": (_settings(learner="follow"),),
    "high-rate": (_rate(3.0),),
    "low-rate": (_rate(1 / 3),),
    "no-trust-region": (
        _options(
            {
                "ppo": {"clip_range": VAST, "target_kl": None},
                "ppo-choices": {"clip_range": VAST, "target_kl": None},
                "grpo": {"clip_range": VAST, "kl_coef": 0.0},
                "rloo": {"clip_range": VAST, "kl_coef": 0.0},
            }
        ),
    ),
    "no-gradient-clipping": (
        _options(
            {
                "ppo": {"max_grad_norm": VAST},
                "ppo-choices": {"max_grad_norm": VAST},
                "grpo": {"max_grad_norm": VAST},
                "rloo": {"max_grad_norm": VAST},
                "rest-em": {"finetune": {"max_grad_norm": VAST}},
            }
        ),
    ),
}
"""Name of a change to what it does to an arm; `noise`, SEAL's, is the two after it in one."""


def arm(name: str) -> Arm:
    """The arm behind a name such as ``grpo``, ``grpo+noise`` or ``my_agent:Mine+reset+low-rate``.

    Raises:
        UserError: There is no such agent or change, or they do not go together.
    """
    agent, *changes = name.split("+")
    if agent not in AGENTS and ":" not in agent:
        raise _unknown("agent", agent, AGENTS)
    agent_class(agent)  # one that is not installed is told here
    found = AGENTS.get(agent, Arm(agent))
    for change in changes:
        if change not in VARIANTS:
            raise _unknown("variant", change, VARIANTS)
        if not found.learns:
            raise UserError(f"{name}: {agent} does not learn, so there is nothing to vary")
        for part in VARIANTS[change]:
            try:
                found = part(found)
            except UserError as error:
                raise UserError(f"{name}: the variant {change} {error}") from None
    return found


def _unknown(kind: str, name: str, known: Mapping[str, Any]) -> UserError:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UserError(f"unknown {kind} {name!r}: {hint}known: {', '.join(known)}")
