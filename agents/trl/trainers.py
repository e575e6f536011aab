"""TRL's trainers, and a round of self-edits as they take it. Imports TRL, which takes seconds.

Each trainer is TRL's own, with one or two methods overridden where no hook serves; what they are
and why is in docs/trl-agents.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from seal_agents.base import Experience
from seal_agents.policies.language_model import Policy
from seal_agents.trl.bridge import groups
from seal_env.errors import UserError

_ROWS = 8
"""Maximum number of self-edits per forward pass."""


class _NoTelemetry:
    """TRL reports the use of its trainers to its makers' server; a training run must not."""

    def _send_telemetry(self) -> None:
        return


class _Trimmed(_NoTelemetry):
    """Forward passes over self-edits of similar length, without columns that are padding alone.

    TRL pads a whole round to its longest prompt on the left and to its longest self-edit on the
    right, and gives the model no positions. On a CPU that is half of the work for nothing, and a
    model that counts positions from the left (GPT-2) reads every prompt but the longest at wrong
    ones. Here a pass holds prompts of one length, so nothing is left to pad on the left.
    """

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **settings: Any,
    ) -> tuple[Tensor | None, ...]:
        """As the overridden method: log-probabilities, entropies, auxiliary loss."""
        before: Any = super()
        rows = min(batch_size or _ROWS, _ROWS)
        prompt = input_ids.shape[1] - logits_to_keep
        prompts = attention_mask[:, :prompt].sum(dim=1)
        order = (attention_mask.sum(dim=1) + prompts * input_ids.shape[1]).argsort(stable=True)
        alike = prompts[order].unique_consecutive(return_counts=True)[1].tolist()
        parts = []
        for some in chain.from_iterable(run.split(rows) for run in order.split(alike)):
            used = attention_mask[some].any(dim=0).nonzero()
            first, last = int(used[0]), int(used[-1]) + 1
            columns = slice(first, last)
            found = before._get_per_token_logps_and_entropies(
                model,
                input_ids[some, columns],
                attention_mask[some, columns],
                last - prompt,
                **settings,
            )
            missing = (0, input_ids.shape[1] - last)
            padded = [None if x is None else F.pad(x, missing) for x in found[:2]]
            parts.append((*padded, found[2]))
        back = order.argsort()
        values, entropies, losses = zip(*parts, strict=True)
        return (
            torch.cat(values)[back],
            None if entropies[0] is None else torch.cat(entropies)[back],
            None if losses[0] is None else torch.stack(losses).mean(),
        )


class RoundGRPO(_Trimmed, GRPOTrainer):
    """TRL's GRPO; completions come through its own `rollout_func`."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """As the overridden method, but probability ratios are to what the sampler said.

        TRL itself uses log-probabilities of a rollout for vLLM alone.
        """
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if "sampling_per_token_logps" in output:
            output["old_per_token_logps"] = output["sampling_per_token_logps"]
        return output


class RoundRLOO(_Trimmed, RLOOTrainer):
    """TRL's RLOO, which has no `rollout_func`: `_generate`, its counterpart, is overridden.

    Nor does it take log-probabilities: it computes those of the sampled tokens from its own model.
    """

    rollout: Callable[..., dict[str, Any]]
    """The counterpart of GRPO's `rollout_func`; set before training."""

    def _generate(self, prompts: list[str]) -> tuple[list[Any], list[Any], list[str]]:
        """Prompt ids, completion ids and completions, as the overridden method returns them."""
        given = self.rollout(prompts, self)
        tokenizer: Any = self.processing_class
        texts = tokenizer.batch_decode(given["completion_ids"])
        return given["prompt_ids"], given["completion_ids"], texts


class RoundDPO(_NoTelemetry, DPOTrainer):
    """TRL's DPO on pairs that are tokens already, as its data collator documents them."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """Joins no texts and tokenizes nothing: the policy's own tokens are what is learned."""
        return dataset


class Round:
    """A round of self-edits that are written and rewarded, as TRL's online trainers ask for them.

    Args:
        agent: The agent's name, for messages.
        policy: The policy that sampled them.
        experiences: Groups of equal size, one per problem.

    Raises:
        UserError: The groups are too small, or differ in size.
    """

    def __init__(self, agent: str, policy: Policy, experiences: Sequence[Experience]) -> None:
        self.policy, self.groups = policy, groups(experiences)
        self.size = len(self.groups[0])
        sizes = sorted({len(group) for group in self.groups})
        if sizes[0] < 2 or len(sizes) > 1:
            raise UserError(
                f"agent {agent}: needs 2 or more self-edits per problem, the same number for each, "
                f"and got {' and '.join(map(str, sizes))}: give --samples 2 or more"
            )
        if not all(math.isfinite(experience.reward) for experience in experiences):
            raise UserError(
                f"agent {agent}: a reward is infinite or NaN, and all others are compared with it; "
                f"mend the reward term or the wrapper that it comes from"
            )
        self.flat = [experience for group in self.groups for experience in group]
        self.count = len(self.flat)

    def dataset(self) -> Any:
        """One row per problem; the trainer repeats it for each self-edit of the group."""
        return dataset([{"prompt": str(g[0].observation["context"])} for g in self.groups])

    def batches(self, num_mini_batches: int, n_epochs: int, most_in_memory: int) -> dict[str, int]:
        """Arguments that make the trainer pass over exactly this round, `n_epochs` times."""
        steps = largest_divisor(self.count, num_mini_batches)
        micro = largest_divisor(self.count // steps, most_in_memory)
        return {
            "num_generations": self.size,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": self.count // steps // micro,
            "generation_batch_size": self.count,
            "num_iterations": n_epochs,
            "max_steps": steps * n_epochs,
            "max_completion_length": self.policy.options.max_new_tokens,
        }

    def rollout(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """The self-edits, where a trainer asks for samples: the tokens that were sampled.

        With their log-probabilities if those of all are known; else the trainer computes them
        from its own model.
        """
        assert len(prompts) == self.count, "a round is one batch of generations"
        tokenized = [self.policy.tokenize(experience) for experience in self.flat]
        log_probs = [one.log_probs for one in tokenized]
        return {
            "prompt_ids": [one.prompt_ids for one in tokenized],
            "completion_ids": [one.completion_ids for one in tokenized],
            "logprobs": None if None in log_probs else log_probs,
        }

    def reward(self, prompts: Sequence[str], **_: Any) -> list[float | None]:
        """Their rewards, as a reward function of the trainer."""
        assert len(prompts) == self.count, "a round is one batch of generations"
        return [experience.reward for experience in self.flat]


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`."""
    return next(d for d in range(max(1, min(number, most)), 0, -1) if number % d == 0)


def dataset(rows: list[dict[str, Any]]) -> Any:
    """A data set as TRL takes them."""
    return datasets.Dataset.from_list(rows)
