"""Settings of a training run that suit a model and an agent, where the usual ones do not.

They are the command line's defaults; whatever is given there counts. What an agent's own options
are is its own affair (`AgentOptions.suited`), and so is the inner loop (`seal_env.presets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A clipped policy moves a little a round, so it needs many (docs/lab-log.md).
_MANY_ROUNDS = {"rounds": 12, "problems": 8, "samples": 4}
RUNS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "tiny": {"ppo-choices": _MANY_ROUNDS},
    "tiny-grids": {
        # Test-time training takes several times as long as finetuning on a few lines, and a
        # learner that follows a writer of directives forgets how to read grids (docs/lab-log.md).
        "": {"problems": 16, "test_problems": 40, "learner": "fixed"},
        "ppo-choices": _MANY_ROUNDS,
    },
}
"""Model, then agent ("" for all) to fields of `TrainConfig`."""
REWARDS: Mapping[str, str] = {
    # Few grids a problem: accuracy alone has few values.
    "tiny-grids": "accuracy + 0.3 * log_likelihood",
}
"""Model to the reward of training."""


def run_settings(agent: str, model: str) -> dict[str, Any]:
    """Fields of `TrainConfig` for an agent on a model; the others keep their defaults."""
    known = RUNS.get(model, {})
    return {**known.get("", {}), **known.get(agent, {})}
