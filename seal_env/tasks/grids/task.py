"""Common parts of tasks about grids: prompts, generated training examples, votes, grades.

Such a task is a subclass of `GridTasks` that provides solved grid tasks::

    class Mirrors(GridTasks):
        tools = ("colors", "positions")  # names from seal_env.tasks.grids.tools.TOOLS
        answer_tokens = 16               # enough for the largest output, in tokens
        views = (IDENTITY, Flip(1))      # of each test grid; IDENTITY alone by default
        permuted_copies = False          # see `GridTasks`
        max_examples = 32

        def size(self, split): return None
        def solved(self, split, index): return GridTask(id, demonstrations, tests, family)

The rest is inherited: `problem` asks for each test grid once per view, `generate` makes the tools'
examples, `grade` counts votes. A subclass with other tools overrides `transforms`. ARC's files are
such a subclass: `seal_env.tasks.grids.few_shot`.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random

from seal_env.engine.rendering import Content
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Generated, Problem, Question, Task
from seal_env.tasks.grids.grid import (
    ANSWER_PREFIX,
    INPUT,
    Grid,
    GridTask,
    Pair,
    fits,
    format_demonstrations,
    format_grid,
    format_prompt,
    parse_demonstrations,
    parse_grid,
)
from seal_env.tasks.grids.tools import transforms
from seal_env.tasks.grids.transforms import IDENTITY, Chain, Recolor, Reorder, Transform

LONGEST_STYLE = 80
"""Length of the longest name of a style, in characters."""
LeftOut = tuple[tuple[Pair, ...], Pair]
"""Training example: demonstrations, and another one whose output is the answer."""


class GridTasks(Task):
    """Tasks that are shown by demonstrations and evaluated on held-out grids."""

    default_prompt = "directives"
    answer_prefix = ANSWER_PREFIX
    tools: tuple[str, ...] = ("basic", "size", "chain", "repeat")
    views: tuple[Transform, ...] = (IDENTITY,)
    """Transformations under which each test grid is asked: all grids of the question are
    transformed, and the answer is transformed back before it counts as a vote."""
    attempts: int = 2
    """Number of outputs with the most votes among which the correct one has to be."""
    permuted_copies: bool = True
    """Whether each generated example is repeated with its demonstrations in another order and, if
    any tool is used, in other colors, as in SEAL's few-shot experiment."""
    max_examples: int = 250
    """Number of examples of `generate`, at most (SEAL: 250)."""
    max_words: int = 4096
    """Length of the longest example, in words: cells, row separators, labels."""

    @abstractmethod
    def solved(self, split: str, index: int) -> GridTask:
        """Grid task at an index of a split; the same one every time.

        Raises:
            UserError: The split is unknown or the index is beyond a finite split.
        """

    def problem(self, split: str, index: int) -> Problem:
        """Problem of a grid task; its questions are ordered by test grid, then by view."""
        return grid_problem(self.solved(split, index), self.views)

    def reads(self, problem: Problem) -> str:
        """The demonstrations."""
        return problem.context

    def question_prompt(self, question: Question) -> str:
        """Demonstrations and a grid: the text of the question."""
        return question.text

    def asked(self, question: str, answer: str) -> None:
        """None: what is asked are grids, and no texts."""

    def prompt_parts(self, prompt: str) -> tuple[str, ...]:
        """Demonstrations, which may be cut, and the grid whose output is asked."""
        place = max(prompt.rfind(f"\n{INPUT}") + 1, 0)
        return Content(prompt[:place]), prompt[place:]

    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """Whether each question's test grid was solved.

        The answers to all views of a test grid have one common verdict, so that the fraction of
        correct answers is the fraction of solved test grids.
        """
        asked = list(zip(problem.questions, answers, strict=True))
        verdicts: list[bool] = []
        for start in range(0, len(asked), len(self.views)):
            part = asked[start : start + len(self.views)]
            given = [read_back(v, a) for v, (_, a) in zip(self.views, part, strict=False)]
            gold = read_back(self.views[0], part[0][0].answer)
            right = gold is not None and gold in most_voted(given, self.attempts)
            verdicts += [right] * len(part)
        return verdicts

    def transforms(self, tool: str, pairs: Sequence[Pair], random: Random) -> Sequence[Transform]:
        """Transformations of a tool for a set of pairs; see `seal_env.tasks.grids.tools`."""
        return transforms(tool, pairs, random)

    def generate(self, problem: Problem, tools: Sequence[str], seed: int) -> list[Generated]:
        """Leave-one-out and leave-two-out examples from the demonstrations (Akyürek et al. 2024).

        One demonstration is held out, and one other or none is left out: the rest is the prompt,
        the held-out output is the answer. The same is repeated for every transformation of every
        tool. The untransformed leave-one-out examples come first, all others in random order, so
        that a limit on examples or tokens leaves an unbiased sample.

        Raises:
            UserError: The task has no such tool.
        """
        for tool in tools:
            if tool not in self.tools:
                known = ", ".join(self.tools)
                raise UserError(f"unknown data-generation tool {tool!r}: known: {known}")
        chosen = tuple(tool for tool in self.tools if tool in tools)
        made: dict[Generated, None] = {}
        for (shown, held_out), transform in self._plans(
            problem.examples, chosen, Random(stable_hash(seed))
        ):
            if len(made) == self.max_examples:
                break
            example = _example(shown, held_out, transform)
            if example is not None and _words(example) <= self.max_words:
                made.setdefault(example)
        return list(made)

    def training_problem(self, reading: str) -> Problem | None:
        """Problem of the last third of the demonstrations (at least one), given the others.

        Only the others are its context and are trained on: an answer that is in the training
        examples says nothing about a self-edit.
        """
        pairs = parse_demonstrations(reading)
        held_out = max(1, len(pairs) // 3)
        if len(pairs) <= held_out:
            return None
        identity = f"training-{stable_hash(reading):016x}"
        task = GridTask(identity, pairs[:-held_out], pairs[-held_out:])
        return grid_problem(task, self.views)

    def style(self, text: str) -> str:
        """Tools and settings of a directive, such as ``basic+size outputs 0.0001 x2``.

        Omitted fields are omitted; "other" for a text without a directive.
        """
        try:
            directive, _ = json.JSONDecoder().raw_decode(text, max(0, text.find("{")))
            data, training = directive.get("data_generation"), directive.get("training")
            chosen = [t for t in self.tools if data and data[f"use_{t}_augmentations"] is True]
            words = ["+".join(chosen) or "plain"] if data else []
            if training:
                words.append("outputs" if "output" in training["strategy"] else "all")
                words.append(f"{float(training['learning_rate']):g}")
                words.append(f"x{int(training['num_train_epochs'])}")
            return " ".join(words)[:LONGEST_STYLE] or "other"
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return "other"

    def _plans(
        self, demonstrations: Sequence[Pair], tools: Sequence[str], random: Random
    ) -> list[tuple[LeftOut, Transform]]:
        """Examples to make, in order, not yet transformed: most may be above the limit."""
        plans: list[tuple[LeftOut, Transform]] = [(s, IDENTITY) for s in leave_out(demonstrations)]
        for some, _ in list(plans):
            for tool in tools:
                changes = self.transforms(tool, (*some[0], some[1]), random)
                plans += [(some, transform) for transform in changes]
        if self.permuted_copies:
            for (shown, held_out), transform in list(plans):
                order = Reorder.draw(len(shown), random)
                last = (Recolor.draw(random),) if tools else ()
                plans.append(((order.apply(shown), held_out), Chain((transform, *last))))
        first = len(set(demonstrations))  # leave-one-out
        rest = plans[first:]
        random.shuffle(rest)
        return plans[:first] + rest


def leave_out(demonstrations: Sequence[Pair]) -> Iterator[LeftOut]:
    """Every demonstration after all others, then every one after all others but one.

    Every prompt has at least one demonstration, unless there is only one. Repeated demonstrations
    count once: the held-out one is never in its own prompt.
    """
    pairs = tuple(dict.fromkeys(demonstrations))
    for held_out in pairs:
        yield tuple(pair for pair in pairs if pair != held_out), held_out
    if len(pairs) > 2:
        for held_out in pairs:
            for left in pairs:
                if left != held_out:
                    yield tuple(p for p in pairs if p not in (held_out, left)), held_out


def most_voted(votes: Sequence[Grid | None], attempts: int) -> list[Grid]:
    """Grids with the most votes, at most `count`; the first ones in a tie."""
    counted = Counter(vote for vote in votes if vote is not None)
    return [grid for grid, _ in counted.most_common(attempts)]


def read_back(view: Transform, answer: str) -> Grid | None:
    """Grid of an answer to a view, transformed back; None if the answer is no grid."""
    grid = parse_grid(answer)
    return None if grid is None else view.inverse(grid)


@lru_cache(maxsize=1024)
def grid_problem(task: GridTask, views: tuple[Transform, ...]) -> Problem:
    """Problem of a grid task, with its content and views in the id."""
    questions = []
    shown = [view.apply_to_pairs(task.demonstrations) for view in views]
    for test in task.tests:
        for view, pairs in zip(views, shown, strict=True):
            text = format_prompt(pairs, view.apply(test.input))
            questions.append(Question(text, format_grid(view.apply(test.output)), task.family))
    content = stable_hash(*(part for q in questions for part in (q.text, q.answer)))
    return Problem(
        id=f"{task.id}-{content:016x}",
        title="",
        context=format_demonstrations(task.demonstrations),
        questions=tuple(questions),
        examples=task.demonstrations,
    )


def _example(shown: Sequence[Pair], held_out: Pair, transform: Transform) -> Generated | None:
    """Training example; None if a transformed grid is too large."""
    *pairs, last = transform.apply_to_pairs((*shown, held_out))
    if not all(fits(grid) for pair in (*pairs, last) for grid in pair):
        return None
    prompt = format_prompt(pairs, last.input)
    return Generated(prompt, ANSWER_PREFIX + format_grid(last.output))


def _words(example: Generated) -> int:
    return len(example.prompt.split()) + len(example.answer.split())
