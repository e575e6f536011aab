"""Agent `self-rewarding`: the policy judges its own self-edits, and learns from its judgement.

Self-Rewarding Language Models (Yuan et al. 2024, arXiv 2401.10020), as the SEAL paper suggests for
where rewards are dear (arXiv 2506.10943, section 5): in each problem's group the self-edit that
the policy judges best is preferred to the one that it judges worst, and the pairs train it by DPO
(Rafailov et al. 2023, arXiv 2305.18290) through TRL's `DPOTrainer`. The true reward is not used to
learn; `learn` reports how well the judgement agrees with it.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import AgentContext, Experience
from seal_agents.policies.options import PolicyOptions
from seal_env.config import make_task
from seal_env.engine.rendering import Content
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

    from seal_agents.policies.language_model import Policy

RUBRIC = """\
Below are a passage and study notes that somebody wrote about it. The notes are good if a student \
who reads them again and again, and never sees the passage, can answer any question about it.

Passage:
{passage}

Notes:
{notes}

Check: do the notes say every fact of the passage, correctly, in sentences that can be understood \
on their own, and in more than one wording? Are they free of empty remarks?

Question: Are these good notes?
Answer (yes or no):"""
"""Prompt of the judge `rubric`."""
VERDICTS = (" yes", " no")
"""Its two answers, best first."""
TOKENS_PER_PASS = 16384
"""Approximate number of tokens per pass in judging; bounds memory."""


@dataclass(frozen=True)
class SelfRewardingOptions(PolicyOptions):
    """Options of self-rewarding."""

    judge: Literal["auto", "rubric", "open-book", "likelihood"] = "auto"
    """The policy's score of a self-edit. rubric: the log-odds of "yes" as answer to a rubric.
    open-book: the log-probability of the answers to training questions, given the self-edit.
    likelihood: the log-probability of the passage, given the self-edit. auto: rubric if the model
    has a chat template, else open-book if the task has training questions, else likelihood."""
    learning_rate: float = 5e-4
    """AdamW's learning rate, constant over the run."""
    n_epochs: int = 2
    """Passes over the preference pairs of a round."""
    batch_size: int = 4
    """Pairs per optimizer step."""
    beta: float = 0.1
    """DPO's beta: higher values hold the policy closer to the policy at the start of the round."""
    max_grad_norm: float = 1.0
    """Maximum norm of the gradient; longer gradients are scaled down to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rate", "beta", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} {getattr(self, name)}: must be positive and finite")
        if min(self.n_epochs, self.batch_size) < 1:
            raise UserError("n_epochs and batch_size must be at least 1")
        if self.temperature == 0:
            raise UserError("temperature 0: equal self-edits make no pair; give 1.0")


class SelfRewarding(Prompted[SelfRewardingOptions]):
    """DPO on preference pairs of the policy's own judgement."""

    Options = SelfRewardingOptions
    trainable = True

    def __init__(self, context: AgentContext) -> None:
        from seal_agents.trl.bridge import AdapterTraining

        super().__init__(context)
        env = context.env
        self.task = make_task(env.task, env.data, env.task_options)
        if self.options.judge == "open-book" and not self.task.has_training_questions:
            raise UserError(
                f"judge open-book: task {env.task!r} makes no training questions; give it a method "
                f"training_problem, or choose another judge"
            )
        self.training = AdapterTraining("self-rewarding", self.policy)

    def judge(self, experiences: Sequence[Experience]) -> list[float]:
        """The policy's judgement of self-edits, higher is better. It sees no reward."""
        kind = self.options.judge
        if kind == "auto":
            chat = self.policy.model.renderer.uses_chat()
            questions = self.task.has_training_questions
            kind = "rubric" if chat else "open-book" if questions else "likelihood"
        if kind == "open-book":
            return by_open_book(self.policy, self.task, experiences)
        return (by_rubric if kind == "rubric" else by_likelihood)(self.policy, experiences)

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Judges a round's self-edits, trains on pairs by DPO, reports agreement with rewards."""
        from seal_agents.trl.bridge import groups

        if not experiences:
            return {}
        judged = {id(e): j for e, j in zip(experiences, self.judge(experiences), strict=True)}
        grouped = groups(experiences)
        if max(map(len, grouped)) < 2:
            raise UserError(
                "agent self-rewarding: a pair needs 2 or more self-edits per problem: give "
                "--samples 2 or more"
            )
        pairs = _pairs(grouped, judged)
        numbers = _agreement(grouped, judged) | {"pairs": float(len(pairs))}
        if pairs:
            compared = sorted({e.group for e in experiences})
            numbers |= self._train(pairs, stable_hash(self.context.seed, *compared))
            right = [best.reward - worst.reward for best, worst in pairs]
            numbers["pair_reward_difference"] = sum(right) / len(right)
        return numbers

    def _train(self, pairs: Sequence[tuple[Experience, Experience]], seed: int) -> dict[str, float]:
        from trl.trainer.dpo_config import DPOConfig

        from seal_agents.trl.bridge import arguments, with_adapter
        from seal_agents.trl.trainers import RoundDPO, dataset

        options = self.options
        rows = []
        for best, worst in pairs:
            chosen, rejected = self.policy.tokenize(best), self.policy.tokenize(worst)
            rows.append(
                {
                    "prompt_ids": chosen.prompt_ids,
                    "chosen_ids": chosen.completion_ids,
                    "rejected_ids": rejected.completion_ids,
                }
            )

        def make(model: PreTrainedModel, lora: Any, folder: Path) -> Trainer:
            return RoundDPO(
                # An adapter that is there already is TRL's reference: the policy that wrote.
                model=with_adapter(model, lora, self.policy),
                args=DPOConfig(
                    **arguments(self.policy, folder, seed),
                    learning_rate=options.learning_rate,
                    num_train_epochs=options.n_epochs,
                    per_device_train_batch_size=options.batch_size,
                    beta=options.beta,
                    max_grad_norm=options.max_grad_norm,
                    max_length=None,
                ),
                train_dataset=dataset(rows),
                processing_class=copy.deepcopy(self.policy.model.tokenizer),
            )

        logged = self.training.run(make, seed)
        return {name: logged[key] for key, name in _LOGGED.items() if key in logged}

    def save(self, folder: Path) -> None:
        """Writes the adapter and the optimizer's state."""
        super().save(folder)
        self.training.save(folder)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        super().load(folder)
        self.training.load(folder)


def by_rubric(policy: Policy, experiences: Sequence[Experience]) -> list[float]:
    """Log-odds (nats) of "yes" as the policy's answer to the rubric.

    A model too small to follow an instruction, or whose vocabulary lacks the words, says nothing
    of use here.
    """
    renderer = policy.model.renderer
    yes, no = (renderer.answer(verdict) for verdict in VERDICTS)
    room = renderer.max_length - max(len(yes), len(no))
    prompts = []
    for experience in experiences:
        given = {"passage": experience.observation["context"], "notes": experience.text}
        pieces = re.split(r"\{(\w+)\}", RUBRIC)
        parts = [Content(given[part]) if part in given else part for part in pieces]
        prompts.append(renderer.prompt(parts, room).ids)
    if yes == no:  # both are unknown words
        return [0.0] * len(prompts)
    # Scores are means per token; the odds are those of the whole words.
    for_yes = _score(policy, prompts, [yes] * len(prompts))
    for_no = _score(policy, prompts, [no] * len(prompts))
    return [a * len(yes) - b * len(no) for a, b in zip(for_yes, for_no, strict=True)]


def by_open_book(policy: Policy, task: Task, experiences: Sequence[Experience]) -> list[float]:
    """Mean log-probability (nats per token) of the gold answers, given the self-edit.

    The questions are the task's training questions (`Task.training_problem`), not the held-out
    ones. Tells whether a self-edit says what there is to know, but not how well it teaches it.
    A self-edit about whose passage nothing can be asked is judged 0.
    """
    from seal_env.engine.rendering import DoesNotFit

    renderer = policy.model.renderer
    prompts, answers, owners = [], [], []
    for owner, experience in enumerate(experiences):
        problem = task.training_problem(str(experience.observation["context"]))
        for question in problem.questions if problem else ():
            gold = renderer.scored(task.answer_prefix + question.answer, chat=False)
            asked = task.prompt_parts(task.question_prompt(question))
            parts = (Content(experience.text), "\n", *asked)
            try:
                prompt = renderer.prompt(parts, renderer.max_length - len(gold), chat=False)
            except DoesNotFit:  # nor could it be asked without the self-edit
                continue
            prompts.append(prompt.ids)
            answers.append(gold)
            owners.append(owner)
    judged: list[list[float]] = [[] for _ in experiences]
    for owner, value in zip(owners, _score(policy, prompts, answers), strict=True):
        judged[owner].append(value)
    return [sum(values) / len(values) if values else 0.0 for values in judged]


def by_likelihood(policy: Policy, experiences: Sequence[Experience]) -> list[float]:
    """Mean log-probability (nats per token) of the passage, given the self-edit.

    How much of the passage can be told from the self-edit. Needs neither instructions nor
    questions, but knows nothing of what makes a learner learn: a copy of the passage is best.
    """
    renderer = policy.model.renderer
    prompts, passages = [], []
    for experience in experiences:
        context = str(experience.observation["context"])
        passage = renderer.scored(context, renderer.max_length // 2, chat=False)
        room = renderer.max_length - len(passage)
        prompts.append(renderer.prompt((Content(experience.text), "\n"), room, chat=False).ids)
        passages.append(passage)
    return _score(policy, prompts, passages)


def _score(
    policy: Policy, prompts: Sequence[list[int]], completions: Sequence[list[int]]
) -> list[float]:
    """`Learner.score` under the policy's adapter, `TOKENS_PER_PASS` tokens at a time."""
    scores: list[float] = []
    start, used = 0, 0
    for stop, (prompt, completion) in enumerate(zip(prompts, completions, strict=True), 1):
        used += len(prompt) + len(completion)
        if used >= TOKENS_PER_PASS or stop == len(prompts):
            part = slice(start, stop)
            owners = [0] * (stop - start)
            scores += policy.model.score(prompts[part], completions[part], owners, policy.adapter)
            start, used = stop, 0
    return scores


def _pairs(
    grouped: Sequence[Sequence[Experience]], judged: Mapping[int, float]
) -> list[tuple[Experience, Experience]]:
    """The best and the worst of each group by the judgement, where they differ."""
    pairs = []
    for group in grouped:
        best = max(group, key=lambda e: judged[id(e)])
        worst = min(group, key=lambda e: judged[id(e)])
        if judged[id(best)] > judged[id(worst)] and best.text != worst.text:
            pairs.append((best, worst))
    return pairs


def _agreement(
    grouped: Sequence[Sequence[Experience]], judged: Mapping[int, float]
) -> dict[str, float]:
    """Spearman's correlation of judgement and true reward: over the round, and within groups."""
    flat = [e for group in grouped for e in group]
    within = [spearman([judged[id(e)] for e in g], [e.reward for e in g]) for g in grouped]
    known = [value for value in within if value is not None]
    overall = spearman([judged[id(e)] for e in flat], [e.reward for e in flat])
    numbers = {} if overall is None else {"spearman_round": overall}
    return numbers | ({"spearman": sum(known) / len(known)} if known else {})


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None if one of both is constant."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    centered = [r - r.mean() for r in ranks]
    size = float(np.sqrt((centered[0] ** 2).sum() * (centered[1] ** 2).sum()))
    return float((centered[0] * centered[1]).sum()) / size if size > 0 else None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties at the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2.0)[inverse]


_LOGGED = {
    "train_loss": "dpo_loss",
    "rewards/accuracies": "dpo_accuracy",
    "rewards/margins": "margin",
}
"""TRL's metrics that are reported, and their names here."""
