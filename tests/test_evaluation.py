"""What all questions of a problem begin with is read once, and changes nothing that is said."""

import pytest
import torch
from helpers import scrambled_bank

from seal_env.engine.loading import load_learner
from seal_env.engine.packing import SHORTEST_SHARED
from seal_env.evaluation import Evaluator
from seal_env.tasks.grids.tiny_grids import TinyGrids

TASK = TinyGrids()
PROBLEMS = [TASK.problem("test", i) for i in range(3)]


@pytest.fixture(scope="module")
def learner():
    return load_learner("tiny-grids", device="cpu")


@pytest.fixture(scope="module")
def evaluator(learner):
    return Evaluator(learner, TASK, None, 4096)


def test_what_is_shared_is_what_all_prompts_begin_with(evaluator):
    asked = evaluator.problem_tokens(PROBLEMS[0], 0)
    shared = asked[0].shared
    assert shared > SHORTEST_SHARED and {a.shared for a in asked} == {shared}
    assert len({tuple(a.prompt[:shared]) for a in asked}) == 1
    assert len({tuple(a.prompt[: shared + 1]) for a in asked}) > 1


@pytest.mark.slow
def test_answers_are_the_same_to_the_bit_however_the_questions_are_dealt_out(learner, evaluator):
    bank = scrambled_bank(learner, 3)
    before = torch.get_num_threads()
    found = []
    try:
        for threads, tokens in ((1, 4096), (3, 4096), (5, 4096), (2, 150)):
            torch.set_num_threads(threads)
            found.append(Evaluator(learner, TASK, None, tokens).evaluate(PROBLEMS, [0, 1, 2], bank))
    finally:
        torch.set_num_threads(before)
    assert all(scores == found[0] for scores in found)
    alone = [evaluator.evaluate([problem], [i], bank)[0] for i, problem in enumerate(PROBLEMS)]
    assert alone == found[0]


def test_sharing_reads_less_and_changes_likelihoods_by_rounding_alone(
    learner, evaluator, monkeypatch
):
    read: list[int] = []
    embed = learner.model.get_input_embeddings()
    hook = embed.register_forward_hook(lambda _module, _inputs, out: read.append(out.shape[-2]))
    try:
        shared = evaluator.evaluate(PROBLEMS, [0, 0, 0], None)
        less, read[:] = sum(read), []
        monkeypatch.setattr("seal_env.engine.packing.SHORTEST_SHARED", 1 << 20)
        plain = evaluator.evaluate(PROBLEMS, [0, 0, 0], None)
    finally:
        hook.remove()
    assert less < 0.8 * sum(read)
    for one, other in zip(shared, plain, strict=True):
        assert one.answers == other.answers
        assert one.log_likelihoods == pytest.approx(other.log_likelihoods, abs=1e-4)
