"""Notes on a task and a model together, printed before a run."""

from __future__ import annotations

from collections.abc import Sequence

from seal_env.engine.learner import Learner
from seal_env.tasks.base import Problem, Task


def unknown_words(task: Task, problems: Sequence[Problem], learner: Learner) -> tuple[str, ...]:
    """Note on gold answers with words that a learner's tokenizer has no token for.

    A tokenizer of whole words, such as those of the embedded models, has one token for all words
    that it does not know, and this token is never an answer. Other tokenizers spell any word.

    Returns:
        One line; none if less than half a percent is unknown.
    """
    renderer = learner.renderer
    unknown = renderer.tokenizer.unk_token_id
    answers = (q.answer for problem in problems for q in problem.questions)
    ids = [i for answer in answers for i in renderer.answer(task.answer_prefix + answer)]
    percent = round(100 * ids.count(unknown) / max(len(ids), 1)) if unknown is not None else 0
    if not percent:
        return ()
    return (
        f"{percent}% of the words of the gold answers are unknown to the model {renderer.name}, so "
        f"it cannot answer them; take a model whose tokenizer spells any word, or words that "
        f"{renderer.name} knows",
    )
