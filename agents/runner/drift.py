"""Drift of a policy over the rounds of training: what its model has forgotten on the way.

Policy and learner are one model in SEAL, so what training does to the writer it does to what the
learner knows. Both numbers are of the policy's model as it is, before any self-edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from seal_agents.policies.options import ADAPTER
from seal_agents.run_folder import RunFolder
from seal_env.engine.divergence import divergences
from seal_env.engine.lora import AdapterState
from seal_env.engine.peft_io import load_peft
from seal_env.inner_loop import InnerLoop
from seal_env.probes.texts import suited_texts
from seal_env.tasks.base import first_problems

KNOWN = 32
"""Problems of the task's `known_split` that are asked about."""


def drifts(run: RunFolder, loop: InnerLoop, rounds: Sequence[int]) -> list[dict[str, float]]:
    """Drift of the policy's model after each of some rounds, all measured side by side.

    Args:
        run: Run folder with the rounds' checkpoints.
        loop: Inner loop on the model that training started from.
        rounds: Numbers of rounds; 0 is the start.

    Returns:
        Per round ``kl_to_start``, KL(policy ‖ start) in nats per token on texts that suit the model
        (`seal_env.probes.texts`), and ``old_knowledge``, the accuracy on questions about problems
        of the task's `known_split`. Empty where the policy has no adapter.
    """
    learner = loop.learner
    states = [_state(run, loop, round_) for round_ in rounds]
    if not any(states):
        return [{} for _ in rounds]
    bank = loop.bank_of(states)
    read = [learner.renderer.reading(text) for text in suited_texts(learner.name)]
    ids = [text for text in read if len(text) > 1]
    moved = divergences(learner, ids, len(states), bank, None, loop.evaluator.tokens)
    found = [{"kl_to_start": one.kl} for one in moved]
    if loop.task.has_questions:
        known = first_problems(loop.task, loop.task.known_split, KNOWN)
        owners = [owner for owner in range(len(states)) for _ in known]
        scores = iter(loop.evaluator.evaluate([*known] * len(states), owners, bank))
        for own in found:
            own["old_knowledge"] = fmean(next(scores).accuracy for _ in known)
    return found


def _state(run: RunFolder, loop: InnerLoop, round_: int) -> AdapterState | None:
    """The policy's adapter after a round; None for the start, and for a policy without one."""
    folder = run.checkpoint(round_) / ADAPTER
    if round_ == 0 or not folder.is_dir():
        return None
    state = load_peft(folder, loop.learner.model, loop.learner.device).state_of(0)
    assert isinstance(state, AdapterState)
    return state
