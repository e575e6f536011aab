"""Interface of tasks: problems with held-out questions, and a grader.

A *problem* is the unit of experience: a context that the policy may read and questions that
it may not. A *task* produces problems, says how a question is put to the learner, and
decides whether an answer is right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_env.errors import UserError, printable

SPLITS = ("train", "validation", "test")
"""The splits that every task has."""


@dataclass(frozen=True)
class Question:
    """One held-out question.

    Raises:
        UserError: A field has another type, or a right answer is empty; the message names the
            field. Lists become tuples.
    """

    text: str
    """Text of the question."""
    answer: str
    """Gold answer, whose log-likelihood is measured."""
    subject: str = ""
    """Subject of the question (an attribute, a topic), for tables; may be empty."""
    choices: tuple[str, ...] = ()
    """Possible answers, the gold one among them; the learner's answer is the most likely one. Empty
    for free-form answers."""
    aliases: tuple[str, ...] = ()
    """Further correct answers, such as other annotators'."""

    @property
    def answers(self) -> tuple[str, ...]:
        """All correct answers, the gold one first."""
        return (self.answer, *self.aliases)

    def __post_init__(self) -> None:
        for name in ("text", "answer", "subject"):
            _require(self, name, getattr(self, name), str)
        for name in ("choices", "aliases"):
            _require_each(self, name, str)
        if not self.answer.strip():
            raise UserError("Question.answer: is empty; give the right answer, or no question")
        if not all(map(str.strip, self.aliases)):
            raise UserError("Question.aliases: one is empty; leave it out")
        if self.choices and not set(self.answers) <= set(self.choices):
            raise UserError("Question.choices: every right answer must be among them")


@dataclass(frozen=True)
class Problem:
    """Context to learn from, and the questions that measure the learning.

    Raises:
        UserError: A field has another type; the message names it. Lists become tuples.
    """

    id: str
    """Identifier, unique within the task and independent of process and order of the data."""
    title: str
    """Short name of the subject; self-edit languages prefix training sequences with it."""
    context: str
    """Text that the policy reads and the learner may be trained on."""
    questions: tuple[Question, ...]
    """Held-out questions, never part of an observation or of a policy's prompt. May be empty; see
    `Task.has_questions`."""
    edits: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Self-edits that came with the data, by the name of their author; usually empty."""
    examples: tuple[Any, ...] = field(default=(), compare=False)
    """Solved examples of the context, in the form of the task's own tools; usually empty."""

    def __post_init__(self) -> None:
        for name in ("id", "title", "context"):
            _require(self, name, getattr(self, name), str)
        _require_each(self, "questions", Question)
        _require_each(self, "examples", object)
        _require(self, "edits", self.edits, Mapping)
        for writer, text in self.edits.items():
            _require(self, "edits: a key", writer, str)
            _require(self, f"edits[{writer!r}]", text, str)


def _require(owner: object, name: str, value: object, wanted: type) -> None:
    """Checks the type of a value; the error names the field."""
    if not isinstance(value, wanted):
        raise UserError(
            f"{type(owner).__name__}.{name}: must be {wanted.__name__}, not {type(value).__name__}"
        )


def _require_each(owner: object, name: str, wanted: type) -> None:
    """Checks the types of a sequence, and returns it as a tuple."""
    values = getattr(owner, name)
    if type(values) is not tuple:
        if not isinstance(values, list | tuple):
            raise UserError(
                f"{type(owner).__name__}.{name}: must be a tuple of {wanted.__name__}, "
                f"not {type(values).__name__}"
            )
        object.__setattr__(owner, name, tuple(values))
    for place, value in enumerate(values):
        if not isinstance(value, wanted):
            _require(owner, f"{name}[{place}]", value, wanted)


@dataclass(frozen=True)
class Generated:
    """Training example that a task's tools generate, or that a self-edit's question makes."""

    prompt: str
    """Text that is read first, put to the learner as a question is."""
    answer: str
    """Text that is learned; prompt and answer are tokenized one after the other."""


class Task(ABC):
    """Source of problems, and grader of answers."""

    default_prompt: str = "implications"
    """Name of a policy's default prompt (see `seal_env.prompts`)."""
    default_reward: str | None = None
    """Default reward of ``seal-env train`` for the task; None for that of the model's preset."""
    questions_prompt: str = "short-qa"
    """Name of the prompt by which a learner writes questions of its own about a context (reward
    term `self_questions`)."""
    answer_tokens: int = 32
    """Length of the longest answer, in tokens of the learner."""
    answer_prefix: str = ""
    """Text between `question_prompt` and a gold answer that is scored."""
    tools: tuple[str, ...] = ()
    """Names of the data-generation tools for self-edits; see `generate`."""
    menu: object = None
    """Menu of a policy that chooses instead of writing, where the language declares none: a
    `seal_env.menus.base.Menu`, its name in `MENUS` or "package.module:Name"."""
    known_split: str = "train"
    """The split whose problems' questions show what the untouched learner knows (reward term
    `old_knowledge`)."""
    has_questions: bool = True
    """Whether the problems have questions. Without, there is no accuracy, and a reward consists of
    terms that need no questions."""
    notes: tuple[str, ...] = ()
    """Remarks on the reading of the data, one line each, printed before a run."""

    @abstractmethod
    def size(self, split: str) -> int | None:
        """Number of problems in a split; None for an endless one.

        A finite task has one more split, ``"all"``: every problem, in the order of the data.
        """

    @abstractmethod
    def problem(self, split: str, index: int) -> Problem:
        """Problem at an index of a split; the same one every time.

        Raises:
            UserError: The split is unknown or the index is beyond a finite split.
        """

    @abstractmethod
    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """Whether each answer is right; `answers` is aligned with `problem.questions`."""

    def reads(self, problem: Problem) -> str:
        """Text of a problem that a policy reads: by default its title and its context."""
        return f"{problem.title}\n{problem.context}" if problem.title else problem.context

    def style(self, text: str) -> str | None:
        """Kind of a self-edit, for tables and plots; None for a task without kinds."""
        return None

    @property
    def has_training_questions(self) -> bool:
        """Whether `training_problem` makes questions: by default, whether it is defined."""
        return type(self).training_problem is not Task.training_problem

    def training_problem(self, reading: str) -> Problem | None:
        """Problem of the same context with questions made from it, for choosing self-edits.

        An agent that compares self-edits needs questions other than the held-out ones. These are
        made from the text that a policy reads, and contain no further information.

        Args:
            reading: Result of `reads`, an observation's ``context``.

        Returns:
            A problem whose questions `grade` can grade; None if no question can be made.
        """
        return None

    def generate(self, problem: Problem, tools: Sequence[str], seed: int) -> list[Generated]:
        """Training examples made from the context, with some of `tools`.

        Args:
            problem: The problem; its held-out questions are not used.
            tools: Names from `tools`; empty for the plain examples.
            seed: Seed of all random choices.

        Returns:
            The examples; empty for a task without tools.
        """
        return []

    def question_prompt(self, question: Question) -> str:
        """Closed-book prompt for a question to the learner; `closed_book` by default."""
        return closed_book(question.text)

    def asked(self, question: str, answer: str) -> Generated | None:
        """A question that a policy wrote, with its answer, as the learner will be asked.

        By default in the form of `question_prompt`; to be overridden where that needs more than the
        text of a question.

        Args:
            question: Text of the question, not empty.
            answer: Its answer, not empty.

        Returns:
            The training example; None if the task's questions are no such texts.
        """
        return Generated(
            self.question_prompt(Question(question, answer)), self.answer_prefix + answer
        )

    def prompt_parts(self, prompt: str) -> tuple[str, ...]:
        """Parts of a prompt of this task that may be cut, and those that may not.

        If a prompt is too long for the model, the parts that are `seal_env.prompts.Content` lose
        their middles. By default there is no such part: a question is asked as a whole or not at
        all.

        Args:
            prompt: Result of `question_prompt`, or the prompt of an example of `generate`.

        Returns:
            Parts whose concatenation is the prompt.
        """
        return (prompt,)

    def longest_answer(self, problem: Problem) -> str | None:
        """Text of the length of the longest answer to a problem's questions.

        For tasks whose answers differ in length from problem to problem.

        Returns:
            By default None: an answer to any problem has up to `answer_tokens` tokens.
        """
        return None


def closed_book(question: str) -> str:
    """SEAL's question-answer prompt (arXiv 2506.10943, appendix B)."""
    return f"Let's answer a question directly and concisely.\nQuestion: {question}\nAnswer:\n"


def problem_at(task: Task, split: str, index: int) -> Problem:
    """Problem of a task at an index of a split, with questions if the task has questions.

    Raises:
        UserError: As `Task.problem`; or the task returns something else.
    """
    problem: object = task.problem(split, index)
    name = type(task).__name__
    if not isinstance(problem, Problem):
        raise UserError(
            f"task {name}: problem must return a Problem; for {index} of split {split!r} it "
            f"returned {printable(repr(problem))}"
        )
    if task.has_questions and not problem.questions:
        raise UserError(
            f"task {name}: problem {problem.id!r} has no questions; give it at least one, "
            f"or set has_questions = False in the task"
        )
    return problem


def first_problems(task: Task, split: str, count: int) -> list[Problem]:
    """The first problems of a split, all of them if it has no more.

    Raises:
        UserError: See `problem_at`.
    """
    size = task.size(split)
    number = count if size is None else min(size, count)
    return [problem_at(task, split, i) for i in range(number)]
