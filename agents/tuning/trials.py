"""Inner loops of a search: settings on problems, several settings side by side.

Learners side by side share the shape of their adapters and the form of their questions; rate,
epochs and batch size may differ. What is known is in the run folder and not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from seal_agents.base import Action, Agent
from seal_agents.run_folder import Record, RunFolder
from seal_agents.tuning.config import TuneConfig
from seal_agents.tuning.space import Candidate
from seal_env.config import EnvConfig, make_language
from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.engine.sampling import Completion
from seal_env.episodes import Episodes, reward_inputs
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.inner_loop import EditResult, InnerLoop, Request
from seal_env.score import Score
from seal_env.tasks.base import Problem
from seal_env.updates.finetuning import Finetuning, Training

PHASE, TEXTS = "tune", "self-edits"
"""Phase of a search's records; their policy is a setting's name, or this for the texts."""


class Trials:
    """Evaluates settings on the problems of a search.

    Args:
        config: The search, with the inner loop whose other settings are kept.
        episodes: The environment's parts.
        problems: Problems, in their order.
        run: Folder of the records.
        tell: Called with the number of inner loops that became known.
    """

    def __init__(
        self,
        config: TuneConfig,
        episodes: Episodes,
        problems: Sequence[Problem],
        run: RunFolder,
        tell: Callable[[int], None],
    ) -> None:
        self.config, self.episodes, self.problems = config, episodes, problems
        self.run, self.tell = run, tell
        self._baselines: dict[bool | None, dict[Hashable, Score]] = {}
        self._languages: dict[str, EditLanguage] = {}

    def write(self, agent: Agent) -> None:
        """Lets the policy write one self-edit per problem, as far as they are not known."""
        known = self.run.records(PHASE, TEXTS, 0)
        missing = [index for index in range(len(self.problems)) if index not in known]
        slots = len(self.episodes.running)
        for start in range(0, len(missing), slots):
            some = missing[start : start + slots]
            problems = [self.problems[index] for index in some]
            for slot, problem in enumerate(problems):
                self.episodes.begin(slot, (problem,), self.config.seed)
            seeds = [stable_hash(self.config.seed, PHASE, problem.id) for problem in problems]
            written = agent.act(self.episodes.observe(range(len(some))), seeds)
            self.run.append(
                [
                    _record(TEXTS, index, problem=problem.id, text=self._text(action))
                    for index, problem, action in zip(some, problems, written, strict=True)
                ]
            )

        self._check()

    def _check(self) -> None:
        """Checks that there is something to train on.

        Raises:
            UserError: No self-edit can be carried out.
        """
        texts = self.run.records(PHASE, TEXTS, 0)
        language = make_language(self.config.env)
        language.bind(self.episodes.loop.learner, self.episodes.task)
        edits = [language.parse(texts[i]["text"], p) for i, p in enumerate(self.problems)]
        if all(edit.update is None for edit in edits):
            raise UserError(
                f"--policy {self.config.policy}: no self-edit is valid: {edits[0].error}"
            )

    def _text(self, action: Action) -> str:
        """Text of an agent's action."""
        text = action.text if isinstance(action, Completion) else action
        if text is None:
            raise UserError(f"--policy {self.config.policy}: writes nothing to train on")
        return text

    def measure(self, candidates: Sequence[Candidate], count: int) -> list[float]:
        """Mean rewards of settings on the first `count` problems."""
        groups: dict[Hashable, list[Candidate]] = {}
        for candidate in candidates:
            shape = (candidate.targets, candidate.rank, candidate.alpha, candidate.chat)
            groups.setdefault(shape, []).append(candidate)
        for group in groups.values():
            self._run_group(group, count)
        means = []
        for candidate in candidates:
            records = self.records(candidate, count)
            means.append(sum(record["reward"] for record in records) / count)
        return means

    def records(self, candidate: Candidate, count: int) -> list[Record]:
        """Records of a setting on the first problems."""
        known = self.run.records(PHASE, candidate.name, 0)
        return [known[index] for index in range(count)]

    def _run_group(self, group: Sequence[Candidate], count: int) -> None:
        """Runs what is missing of settings that share the shape of their adapters."""
        missing = [
            (candidate, index)
            for index in range(count)
            for candidate in group
            if index not in self.run.records(PHASE, candidate.name, 0)
        ]
        if not missing:
            return
        first = group[0]
        loop = InnerLoop(
            self.episodes.loop.learner,
            self.episodes.task,
            first.inner(self.episodes.loop.config),
            self._baselines.setdefault(first.chat, {}),
            self.episodes.reward.probes,
        )
        for start in range(0, len(missing), self.config.num_envs):
            some = missing[start : start + self.config.num_envs]
            requests = [self._request(*pair) for pair in some]
            results = loop.run(requests)
            self.run.append(
                [self._result(*of_one) for of_one in zip(some, requests, results, strict=True)]
            )
            self.tell(len(some))

    def _request(self, candidate: Candidate, index: int) -> Request:
        problem = self.problems[index]
        text = self.run.records(PHASE, TEXTS, 0)[index]["text"]
        edit = self._language(candidate).parse(text, problem)
        return Request(problem, with_training(edit, candidate), self.config.seed, text=text)

    def _language(self, candidate: Candidate) -> EditLanguage:
        """The self-edit language with a setting's place of the passage."""
        if candidate.passage not in self._languages:
            language = make_language(_with_passage(self.config.env, candidate.passage))
            language.bind(self.episodes.loop.learner, self.episodes.task)
            self._languages[candidate.passage] = language
        return self._languages[candidate.passage]

    def _result(self, pair: tuple[Candidate, int], request: Request, result: EditResult) -> Record:
        (candidate, index), problem = pair, request.problem
        context = self.episodes.task.reads(problem)
        reward = self.episodes.reward(reward_inputs(context, request, result)).reward
        if result.error is not None:
            reward -= self.config.env.invalid_penalty
        return _record(
            candidate.name,
            index,
            problem=problem.id,
            reward=reward,
            accuracy=result.after.accuracy,
            log_likelihood=result.after.log_likelihood,
            accuracy_before=result.before.accuracy,
            log_likelihood_before=result.before.log_likelihood,
            tokens=result.trained.tokens if result.trained else 0,
            error=result.error or "",
        )


def with_training(edit: SelfEdit, candidate: Candidate) -> SelfEdit:
    """A self-edit that is trained with a setting.

    Raises:
        UserError: It is no finetuning.
    """
    if edit.update is None:
        return edit
    if not isinstance(edit.update, Finetuning):
        raise UserError("tune: searches settings of finetuning; use --edit training-data")
    training = Training(candidate.learning_rate, candidate.epochs, batch_size=candidate.batch_size)
    return replace(edit, update=replace(edit.update, training=training))


def _with_passage(env: EnvConfig, passage: str) -> EnvConfig:
    if env.edit != EnvConfig.edit:
        return env
    config: Any = env.edit_options.get("config")
    options = {"config": {**(vars(config) if config else {}), "passage": passage}}
    return replace(env, edit_options=options)


def _record(policy: str, index: int, **values: Any) -> Record:
    return {"phase": PHASE, "policy": policy, "round": 0, "index": index, **values}
