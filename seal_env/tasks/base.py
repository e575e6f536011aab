"""What a task is: problems with held-out questions, and a grader.

A *problem* is the unit of experience: a context that the policy may read and questions that
it may not. A *task* produces problems, says how a question is put to the learner, and
decides whether an answer is right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_env.errors import UserError

SPLITS = ("train", "validation", "test")
"""The splits that every task has."""


@dataclass(frozen=True)
class Question:
    """One held-out question.

    Raises:
        UserError: A field has another type; says which. Lists become tuples.
    """

    text: str
    """The question as a person would ask it."""
    answer: str
    """The gold answer, as it should be written; its log-likelihood is measured."""
    subject: str = ""
    """What the question is about (an attribute, a topic), for tables; may be empty."""
    choices: tuple[str, ...] = ()
    """What can be answered, the gold answer among it; the learner's answer is the likeliest of
    these. Empty if it may write what it likes."""
    aliases: tuple[str, ...] = ()
    """Further answers that are as right as the gold one, such as other annotators'."""

    @property
    def answers(self) -> tuple[str, ...]:
        """All right answers, the gold one first."""
        return (self.answer, *self.aliases)

    def __post_init__(self) -> None:
        for name in ("text", "answer", "subject"):
            _require(self, name, getattr(self, name), str)
        for name in ("choices", "aliases"):
            _require_each(self, name, str)
        if self.choices and not set(self.answers) <= set(self.choices):
            raise UserError("Question.choices: every right answer must be among them")


@dataclass(frozen=True)
class Problem:
    """A context to learn from and the questions that measure what was learned.

    Raises:
        UserError: A field has another type; says which. Lists become tuples.
    """

    id: str
    """Unique within the task; stable across processes and versions of the data's order."""
    title: str
    """A short name of the subject; the self-edit language prefixes each sequence with it."""
    context: str
    """What the policy reads and what the learner may be trained on."""
    questions: tuple[Question, ...]
    """Held out: never part of an observation or of a policy's prompt."""
    edits: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Self-edits that came with the data, by the name of who wrote them; usually empty."""
    examples: tuple[Any, ...] = field(default=(), compare=False)
    """Solved examples of the context, as the task's own tools read them; usually empty."""

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
    """Refuses a value of another type, in a line that names the field."""
    if not isinstance(value, wanted):
        raise UserError(
            f"{type(owner).__name__}.{name}: must be {wanted.__name__}, not {type(value).__name__}"
        )


def _require_each(owner: object, name: str, wanted: type) -> None:
    """The same for a sequence, which becomes a tuple."""
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
    """A training example that a task's tools made."""

    prompt: str
    """What is read."""
    answer: str
    """What is to be learned; the tokenizer sees prompt and answer one after the other."""


class Task(ABC):
    """Where problems come from and how answers are graded."""

    default_prompt: str = "implications"
    """Name of the prompt (see `seal_env.prompts`) that a policy uses unless told otherwise."""
    answer_tokens: int = 32
    """Longest answer that the learner may give, in its own tokens."""
    answer_prefix: str = ""
    """What stands between `question_prompt` and an answer when a gold answer is scored."""
    tools: tuple[str, ...] = ()
    """Names of the data-generation tools that a self-edit can ask for; see `generate`."""
    menu: object = None
    """Menu of a policy that chooses instead of writing, where the language declares none: a
    `seal_env.menus.base.Menu`, its name in `MENUS` or "package.module:Name"."""
    notes: tuple[str, ...] = ()
    """What a user should know of how the data were read, one line each; printed before a run."""

    @abstractmethod
    def size(self, split: str) -> int | None:
        """Number of problems in a split; None where the split is endless.

        A finite task has one more split, ``"all"``: every problem, in the order of the data.
        """

    @abstractmethod
    def problem(self, split: str, index: int) -> Problem:
        """The problem at a position of a split; the same one every time.

        Raises:
            UserError: The split is unknown or the index is beyond a finite split.
        """

    @abstractmethod
    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """Whether each answer is right; `answers` is aligned with `problem.questions`."""

    def reads(self, problem: Problem) -> str:
        """What a policy is shown of a problem: by default its title and its context."""
        return f"{problem.title}\n{problem.context}" if problem.title else problem.context

    def style(self, text: str) -> str | None:
        """What kind of self-edit a text is, for tables and plots; None if the task has no kinds."""
        return None

    @property
    def has_training_questions(self) -> bool:
        """Whether `training_problem` makes questions: by default, whether it is defined."""
        return type(self).training_problem is not Task.training_problem

    def training_problem(self, reading: str) -> Problem | None:
        """The same context with questions that are made from it, to try self-edits out on.

        Whoever chooses among self-edits, or checks them, needs questions that are not the
        held-out ones. These come from what a policy reads and from nothing else, so they tell
        nothing that an observation does not.

        Args:
            reading: What `reads` returned: an observation's ``context``.

        Returns:
            A problem whose questions `grade` can grade; None if no question can be made.
        """
        return None

    def generate(self, problem: Problem, tools: Sequence[str], seed: int) -> list[Generated]:
        """Training examples made from what the context shows, with some of `tools`.

        Args:
            problem: Its held-out questions are not looked at.
            tools: Names from `tools`; none of them for the plain examples.
            seed: Fixes whatever is drawn.

        Returns:
            Nothing, for a task that has no tools.
        """
        return []

    def question_prompt(self, question: Question) -> str:
        """The closed-book prompt that puts a question to the learner.

        The default is SEAL's question-answer prompt (arXiv 2506.10943, appendix B).
        """
        return (
            f"Let's answer a question directly and concisely.\nQuestion: {question.text}\nAnswer:\n"
        )

    def prompt_parts(self, prompt: str) -> tuple[str, ...]:
        """A prompt of this task, taken apart into what may be cut and what may not.

        Where a prompt is too long for the model, the parts that are `seal_env.prompts.Content` lose
        their middles. By default there is no such part: a question is put as a whole or not at all.

        Args:
            prompt: What `question_prompt` returned, or the prompt of an example of `generate`.

        Returns:
            Parts that make the prompt when they are joined.
        """
        return (prompt,)

    def longest_answer(self, problem: Problem) -> str | None:
        """A text that is as long as an answer to a problem's questions may be.

        For tasks whose answers differ in length from problem to problem.

        Returns:
            By default None: an answer to any problem has up to `answer_tokens` tokens.
        """
        return None
