"""Behavioral cloning of choices (Pomerleau 1991)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seal_agents.algorithms.choice_options import Imitation
from seal_agents.algorithms.ppo_choices import PPOChoices
from seal_agents.base import Observation
from seal_env.hashing import stable_hash
from seal_env.menus.base import Chosen


def imitate(
    student: PPOChoices,
    observations: Sequence[Observation],
    chosen: Sequence[Chosen],
    problems: Sequence[str],
    how: Imitation,
    seed: int,
) -> dict[str, float]:
    """Maximizes the log-probability of choices by Adam; see `Imitation`.

    Args:
        student: Agent whose policy is trained.
        observations: Observations, one per choice.
        chosen: Choices to imitate.
        problems: Problem ids, one per choice; a problem is held back as a whole.
        how: Options.
        seed: Seed of the choice of held-back problems.

    Returns:
        Training and validation loss (nats per self-edit) of the kept policy.
    """
    policy = student.model.policy
    backs = [stable_hash(seed, "held back", p) % how.held_back == 0 for p in problems]
    learned, back = (
        [i for i, b in enumerate(backs) if b == wanted] or list(range(len(backs)))
        for wanted in (False, True)
    )
    read, actions = student.read(observations), [student.view.action(one) for one in chosen]
    targets = torch.as_tensor(np.stack(actions))

    def loss_on(rows: Sequence[int]) -> torch.Tensor:
        some = {name: tensor[list(rows)] for name, tensor in read.items()}
        return -policy.evaluate_actions(some, targets[list(rows)])[1].mean()

    optimizer = torch.optim.Adam(policy.parameters(), lr=how.learning_rate)
    kept, lowest = {k: v.clone() for k, v in policy.state_dict().items()}, float("inf")
    for _ in range(how.n_epochs):
        optimizer.zero_grad()
        loss_on(learned).backward()
        optimizer.step()
        with torch.no_grad():
            loss = loss_on(back).item()
        if loss < lowest:
            lowest, kept = loss, {k: v.clone() for k, v in policy.state_dict().items()}
    policy.load_state_dict(kept)
    with torch.no_grad():
        return {"loss": loss_on(learned).item(), "loss_held_back": lowest}
