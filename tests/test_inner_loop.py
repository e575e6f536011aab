"""The inner loop: outcomes that depend on problem, self-edit and seed alone."""

import dataclasses
import gc
import math
import os
import subprocess
import sys
import weakref

import pytest
import torch
from helpers import INNER, MAX_LENGTH, Failing, new_bank, weights_hash

from seal_env.edits.base import SelfEdit
from seal_env.engine import capacity as budget
from seal_env.engine.changes import Change
from seal_env.engine.loading import load_learner, merged_learner
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.errors import UserError
from seal_env.inner_loop import InnerLoop, InnerLoopConfig, Request
from seal_env.tasks.base import Generated
from seal_env.tasks.biographies.task import Biographies
from seal_env.updates import Finetuning, Training, UpdateContext
from seal_env.updates import finetuning as finetuning_module
from seal_env.updates.weight_changes import WeightChanges

TASK = Biographies()
TEXTS = (
    ("Ada Cho was born in Oslo.",),
    ("Ada Cho plays the flute.", "The pet of Ada Cho is a goat.", "Ada Cho likes to eat pasta."),
    ("Question: What is the job of Ada Cho?\nAnswer: baker",) * 5,
    ("x",),
    ("Everyone should know Ada Cho. " * 30, "Ada Cho has many friends."),
    ("\u00e9 \x00 unknown words",),
    ("Ada Cho was born in Lima.",),
    ("Ada Cho dresses in red.", "Ada Cho dresses in blue."),
)


def finetuning(*parts, **others):
    return SelfEdit(Finetuning(*parts, **others))


def request(i, **other):
    return Request(TASK.problem("train", i % 3), finetuning(TEXTS[i % len(TEXTS)]), 5, **other)


REQUESTS = [request(i) for i in range(8)]


@pytest.fixture
def loop(llama):
    return InnerLoop(llama, TASK, INNER)


@pytest.fixture(scope="module")
def outcomes(llama):
    return InnerLoop(llama, TASK, INNER).run(REQUESTS)


def same(one, other):
    """Whether two outcomes are the same to the bit."""
    parts = ("before", "after", "earlier", "truncated", "error")
    assert all(getattr(one, part) == getattr(other, part) for part in parts)
    assert repr(one.trained) == repr(other.trained)
    assert (one.state is None) == (other.state is None)
    return one.state is None or torch.equal(one.state.weights, other.state.weights)


def test_training_changes_answers_and_likelihoods(outcomes):
    for outcome in outcomes:
        assert outcome.error is None
        assert outcome.after.log_likelihood != outcome.before.log_likelihood
        assert len(outcome.after.answers) == len(outcome.after.verdicts) == 14
    assert len({outcome.after.log_likelihood for outcome in outcomes}) == 8
    assert any(outcome.after.answers != outcome.before.answers for outcome in outcomes)


def test_alone_after_others_and_in_any_order_it_is_the_same_to_the_bit(loop, outcomes):
    for i in (4, 0, 7):
        assert same(loop.run([REQUESTS[i]])[0], outcomes[i])
    order = [3, 1, 7, 0, 6, 2, 5, 4]
    for i, outcome in zip(order, loop.run([REQUESTS[i] for i in order]), strict=True):
        assert same(outcome, outcomes[i])


def test_a_group_on_one_problem_shares_its_seed(loop):
    first, second, other = loop.run(
        [request(0), request(0), dataclasses.replace(request(0), seed=6)]
    )
    assert same(first, second)
    assert other.after != first.after


def test_many_passes_give_what_one_gives(llama, outcomes):
    longest = MAX_LENGTH  # of one self-edit, and so the smallest budget there may be
    small = InnerLoop(llama, TASK, dataclasses.replace(INNER, tokens_per_pass=longest))
    assert sum(o.trained.tokens for o in outcomes if o.trained) > longest
    for outcome, expected in zip(small.run(REQUESTS), outcomes, strict=True):
        assert same(outcome, expected)


def test_adapters_that_do_not_fit_into_memory_take_turns(llama, outcomes, monkeypatch):
    size = InnerLoop(llama, TASK, INNER).context.new_bank(0).size
    rooms = []

    def room(device):
        rooms.append(3 * 4 * budget.STATES * size / budget.SHARE)
        return int(rooms[-1])

    loop = InnerLoop(llama, TASK, INNER)
    monkeypatch.setattr(budget, "available_memory", room)
    counts = []
    real = UpdateContext.new_bank
    monkeypatch.setattr(
        UpdateContext, "new_bank", lambda self, n: counts.append(n) or real(self, n)
    )
    for outcome, expected in zip(loop.run(REQUESTS), outcomes, strict=True):
        assert same(outcome, expected)
    assert rooms
    assert max(counts) == 3


def test_where_memory_runs_out_fewer_are_carried_out_side_by_side(loop, outcomes, monkeypatch):
    """What is free when a run begins, somebody else may take."""
    tried, enough = [], InnerLoop._run_together

    def scarce(self, prepared, progress):
        tried.append(len(prepared))
        if len(prepared) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return enough(self, prepared, progress)

    monkeypatch.setattr(InnerLoop, "_run_together", scarce)
    with pytest.warns(UserWarning, match="out of memory with . self-edits side by side"):
        found = loop.run(REQUESTS[:7] + REQUESTS[:1])
    assert tried == [8, 4, 2, 2, 2, 2]
    for outcome, expected in zip(found, (*outcomes[:7], outcomes[0]), strict=True):
        assert same(outcome, expected)
    loop.run(REQUESTS[:4])  # and stays at what does
    assert tried[6:] == [2, 2]


def test_memory_that_does_not_do_for_one_self_edit_ends_the_run(loop, monkeypatch):
    def scarce(self, prepared, progress):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(InnerLoop, "_run_together", scarce)
    with pytest.warns(UserWarning, match="going on with 1"), pytest.raises(torch.OutOfMemoryError):
        loop.run(REQUESTS[:2])


def test_a_budget_too_small_for_one_sequence_is_refused_before_anything_runs(llama):
    wrong = dataclasses.replace(INNER, tokens_per_pass=MAX_LENGTH - 1)
    with pytest.raises(UserError, match=f"too small for one sequence, which may have {MAX_LENGTH}"):
        InnerLoop(llama, TASK, wrong)
    InnerLoop(llama, TASK, dataclasses.replace(wrong, max_tokens=MAX_LENGTH - 1))


def test_changed_matrices_that_do_not_fit_into_memory_take_turns(llama, monkeypatch):
    loop = InnerLoop(llama, TASK, INNER)
    layer = "model.layers.0.mlp"
    changes = [Change(f"{layer}.{part}_proj", None, None, "scale", 3.0) for part in ("up", "down")]
    requests = [
        Request(TASK.problem("train", i), SelfEdit(WeightChanges(tuple(changes))), 0)
        for i in range(4)
    ]
    expected = loop.run(requests)
    one = 2 * sum(llama.model.get_submodule(c.name).weight.numel() for c in changes)
    assert one > budget.STATES * loop.context.new_bank(0).size
    together = []
    real = InnerLoop._run_together
    monkeypatch.setattr(
        InnerLoop,
        "_run_together",
        lambda s, jobs, p: together.append(len(jobs)) or real(s, jobs, p),
    )
    room = int(3.5 * 4 * one / budget.SHARE)
    monkeypatch.setattr(budget, "available_memory", lambda device: room)
    found = loop.run(requests)
    assert together == [3, 1]
    assert [outcome.after for outcome in found] == [outcome.after for outcome in expected]
    assert any(outcome.after != outcome.before for outcome in found)


def test_little_memory_makes_small_passes_and_refuses_what_cannot_fit(llama, monkeypatch):
    task = TASK.problem("train", 0)
    long = Request(task, finetuning(("goat " * 300,)), 0)
    ample = InnerLoop(llama, TASK, INNER)
    (expected,) = ample.run([REQUESTS[0]])
    cost = budget.memory_cost(llama, ample.context.targets, INNER.lora)
    room = int(cost.of(100) / budget.SHARE) + 1
    monkeypatch.setattr(budget, "available_memory", lambda device: room)
    loop = InnerLoop(llama, TASK, INNER)
    assert (
        cost.of(100)
        == cost.of(loop.context.tokens_per_pass)
        < cost.of(loop.context.tokens_per_pass + 1)
    )
    (found,) = loop.run([REQUESTS[0]])
    assert same(found, expected)
    with pytest.raises(UserError, match=r"sequence of 301 tokens, and the memory .* allows"):
        loop.run([REQUESTS[0], long])


def test_what_attention_keeps_counts_as_memory(learner, monkeypatch):
    targets = find_targets(learner.model, INNER.lora)
    found = {}
    for short in (0, 1 << 20):  # torch's own attention, and batched products, which keep scores
        monkeypatch.setattr("seal_env.engine.attention.SHORT", short)
        monkeypatch.setattr(learner, "cache", {})
        found[short] = budget.memory_cost(learner, targets, INNER.lora)
    layers, heads = 2, 4
    assert found[1 << 20].pair == pytest.approx(2 * layers * heads * 4, rel=0.2)
    assert found[0].pair < 0.1 * found[1 << 20].pair


def test_scores_that_attention_keeps_in_bfloat16_count_as_memory(models):
    learner = load_learner(models["llama"], "bfloat16", "cpu")
    cost = budget.memory_cost(learner, find_targets(learner.model, INNER.lora), INNER.lora)
    layers, heads, size = 2, 4, 2
    assert cost.pair >= 2 * 0.8 * layers * heads * size
    assert cost.of(2048) > 5 * cost.of(512)


@pytest.mark.parametrize("pair", [0.0, 0.5, 30.0])
def test_sequences_that_fit_are_as_long_as_memory_allows(pair):
    cost = budget.Cost(100.0, pair)
    for room in (1e4, 1e5, 1e7):
        for longest in (64, 1024):
            tokens = cost.fitting(room, longest)
            if tokens < longest:
                assert cost.of(tokens) <= room < cost.of(tokens + 1)
            else:
                assert tokens / longest * cost.of(longest) == pytest.approx(room, rel=0.01)


@pytest.mark.slow
def test_a_learner_is_freed_with_its_inner_loops(llama):
    learner = merged_learner(llama, new_bank(llama, [0]))
    loop = InnerLoop(learner, TASK, INNER)
    loop.run([REQUESTS[0]])
    gone = weakref.ref(learner)
    del learner, loop
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_no_bit(llama, outcomes, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = InnerLoop(llama, TASK, INNER).run(REQUESTS)
    finally:
        torch.set_num_threads(before)
    assert all(map(same, found, outcomes))


@pytest.mark.slow
def test_another_process_gives_the_same_bits(models, outcomes):
    script = (
        "import test_inner_loop as t; from helpers import INNER;"
        "from seal_env.engine.loading import load_learner; import sys;"
        "loop = t.InnerLoop(load_learner(sys.argv[1], device='cpu'), t.TASK, INNER);"
        "o = loop.run([t.REQUESTS[4], t.REQUESTS[1]]);"
        "print(*(x.after.log_likelihood.hex() for x in o), *(x.after.answers for x in o), sep='|')"
    )
    threads = str(torch.get_num_threads())
    result = subprocess.run(
        [sys.executable, "-c", script, models["llama"]],
        cwd=os.path.dirname(__file__),
        env=os.environ | {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        check=True,
    )
    chosen = [outcomes[4], outcomes[1]]
    expected = [x.after.log_likelihood.hex() for x in chosen]
    expected += [str(x.after.answers) for x in chosen]
    assert result.stdout.strip().split("|") == expected


def test_base_weights_survive_everything(learner, monkeypatch):
    loop, model = InnerLoop(learner, TASK, INNER), learner.model
    before = weights_hash(model)
    loop.run(REQUESTS)
    loop.run([Request(TASK.problem("train", 0), SelfEdit(error="no"), 0)])
    assert weights_hash(model) == before
    failing = Failing(learner, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        loop.run(REQUESTS[:1])
    monkeypatch.undo()
    failing.check()
    assert weights_hash(model) == before


def test_after_an_exception_outcomes_are_the_same(llama, loop, outcomes, monkeypatch):
    def fails(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(finetuning_module, "finetune", fails)
    with pytest.raises(RuntimeError):
        loop.run(REQUESTS)
    monkeypatch.undo()
    assert same(loop.run([REQUESTS[2]])[0], outcomes[2])


def test_what_cannot_be_carried_out_is_doing_nothing(loop, outcomes):
    problem = TASK.problem("train", 0)
    bad = [SelfEdit(error="not a self-edit"), finetuning(), finetuning(("",))]
    requests = [Request(problem, edit, 5) for edit in bad]
    found = loop.run([*requests, REQUESTS[0]])
    assert [o.error is None for o in found] == [False, False, False, True]
    assert found[0].error == "not a self-edit"
    for outcome in found[:3]:
        assert outcome.after == outcome.before == loop.baselines([problem])[0]
        assert outcome.state is None
        assert outcome.trained is None
        assert "\n" not in outcome.error
    assert same(found[3], outcomes[0])


def test_divergence_of_one_fails_it_alone(llama, loop, outcomes, monkeypatch):
    real = AdapterBank.initialize

    def poisoned(bank, seeds):
        real(bank, seeds)
        bank.weights[1:2, :30] = torch.nan

    monkeypatch.setattr(AdapterBank, "initialize", poisoned)
    found = loop.run(REQUESTS)
    assert "diverged" in found[1].error
    assert found[1].after == found[1].before
    assert found[1].state is None
    assert math.isfinite(found[1].after.log_likelihood)
    for i in (0, 2, 3, 4, 5, 6, 7):
        assert same(found[i], outcomes[i])


def test_answers_that_are_no_numbers_fail_the_outcome(loop, outcomes, monkeypatch):
    real = finetuning_module.finetune

    def huge(learner, bank, *rest):
        records = real(learner, bank, *rest)
        bank.weights[1] = 3e38  # finite, but its products are not
        return records

    monkeypatch.setattr(finetuning_module, "finetune", huge)
    found = loop.run(REQUESTS[:3])
    assert "diverged" in found[1].error
    assert found[1].after == found[1].before
    assert found[1].state is None
    assert same(found[0], outcomes[0])
    assert same(found[2], outcomes[2])
    unasked = [
        dataclasses.replace(r, problem=dataclasses.replace(r.problem, questions=()))
        for r in REQUESTS[:3]
    ]
    errors = [one.error for one in loop.run(unasked)]
    assert "diverged" in errors[1] and errors[0] is errors[2] is None


def test_baselines_are_asked_once(llama, loop, monkeypatch):
    asked = []
    real = loop.evaluator.evaluate

    def counting(problems, owners, bank, progress):
        asked.append((len(problems), bank is None))
        return real(problems, owners, bank, progress)

    monkeypatch.setattr(loop.evaluator, "evaluate", counting)
    loop.run(REQUESTS)
    assert asked == [(3, True), (8, False)]
    loop.run(REQUESTS[:2])
    assert asked[2:] == [(2, False)]


def test_a_stream_goes_on_from_its_weights_and_asks_about_earlier_problems(loop):
    first = loop.run([request(0)])[0]
    going = request(1, start=first.state, earlier=(TASK.problem("train", 0),))
    second, fresh = loop.run([going, request(1)])
    ((before, after),) = second.earlier
    assert before == first.after
    assert after != before
    assert second.before != fresh.before
    assert second.state is not None
    assert not torch.equal(second.state.weights, fresh.state.weights)
    assert same(second, loop.run([going])[0])


def test_a_failed_step_keeps_the_stream(loop):
    first = loop.run([request(0)])[0]
    earlier = (TASK.problem("train", 0),)
    bad = Request(TASK.problem("train", 1), SelfEdit(error="no"), 5, first.state, earlier)
    (outcome,) = loop.run([bad])
    assert torch.equal(outcome.state.weights, first.state.weights)
    assert outcome.after == outcome.before
    assert outcome.earlier == ((first.after, first.after),)


def test_caps_cut_and_say_so(llama):
    capped = InnerLoop(llama, TASK, dataclasses.replace(INNER, max_tokens=20))
    problem = TASK.problem("train", 0)
    long = "goat " * 1000
    edits = [finetuning((long,)), finetuning(("goat goat",)), finetuning(("goat " * 9,) * 5)]
    found = capped.run([Request(problem, edit, 0) for edit in edits])
    assert [o.truncated for o in found] == [True, False, True]
    assert [o.trained.tokens for o in found] == [2 * 20, 2 * 3, 2 * 20]
    (whole,) = InnerLoop(llama, TASK, INNER).run([Request(problem, finetuning((long,)), 0)])
    assert whole.truncated
    assert whole.trained.tokens == 2 * llama.max_length


def test_progress_is_told(loop):
    told = []
    loop.run(REQUESTS[:2], lambda *what: told.append(what))
    assert {stage for stage, _, _ in told} == {"training", "asking"}
    assert all(0 <= done <= total for _, done, total in told)
    assert ("training", 6, 6) in told


def test_nothing_to_do(loop):
    assert loop.run([]) == []


def test_a_question_longer_than_the_model_reads_is_not_asked(models):
    from seal_env.tasks.base import Question

    problem = TASK.problem("train", 0)
    endless = Question("goat " * 2000, "goat")
    odd = dataclasses.replace(problem, id="odd", questions=(endless,))
    loop = InnerLoop(load_learner(models["gpt2"], device="cpu"), TASK, INNER)
    mixed = dataclasses.replace(odd, id="mixed", questions=(*problem.questions, endless))
    whole, one = loop.run([Request(p, finetuning(("goat",)), 0) for p in (odd, mixed)])
    for outcome, number in ((whole, 1), (one, len(mixed.questions))):
        assert f"question {number} cannot be asked" in outcome.error and outcome.state is None
        assert outcome.after == outcome.before and outcome.after.answers[-1] == ""
        assert math.isfinite(outcome.after.log_likelihood)
    asked = loop.baselines([problem])[0]
    assert one.before.answers[:-1] == asked.answers
    assert one.before.log_likelihoods[:-1] == asked.log_likelihoods


def test_training_sequences_end_in_the_end_token_and_examples_of_a_chat_as_turns_do(chat_model):
    loop = InnerLoop(load_learner(chat_model, device="cpu"), Reciting(), INNER)
    render, problem = loop.learner.renderer, TASK.problem("train", 0)
    text, turn = render.end_ids[0], render.turn_end_ids[0]
    edit = finetuning(("Ada sings.",), tools=())
    document, example = loop.prepare(Request(problem, edit, 5)).update.data.examples
    assert document.ids == (*render.encode("Ada sings."), text)
    assert list(example.ids) == [
        *render.prompt((f"{problem.title} 0\n",)).ids,
        *render.answer(problem.context),
        turn,
    ]
    plain = InnerLoop(loop.learner, Reciting(), dataclasses.replace(INNER, chat=False))
    assert plain.prepare(Request(problem, edit, 5)).update.data.examples[1].ids[-1] == text


def test_an_asked_question_is_put_as_the_evaluation_puts_it_and_only_its_answer_learned(chat_model):
    loop = InnerLoop(load_learner(chat_model, device="cpu"), TASK, INNER)
    problem = TASK.problem("train", 0)
    pairs = tuple(TASK.asked(q.text, q.answer) for q in problem.questions)
    one = loop.prepare(Request(problem, finetuning(("Ada sings.", *pairs)), 5))
    text, *examples = one.update.data.examples
    assert text.unscored == 0
    end = loop.learner.renderer.turn_end_ids
    for question, example in zip(loop.evaluator.tokenize(problem).asked, examples, strict=True):
        assert list(example.ids) == [*question.prompt, *question.gold, *end]
        assert example.unscored == len(question.prompt)


def test_an_example_that_does_not_fit_is_left_out_and_said(llama):
    problem = TASK.problem("train", 0)

    class Long(Reciting):
        def generate(self, problem, tools, seed):
            long = [Generated("vet " * 600, "Oslo"), Generated("vet", "Oslo " * 600)]
            return long[: len(tools)] + [Generated("vet", "Oslo")] * (len(tools) < 2)

    loop = InnerLoop(llama, Long(), INNER)
    one = loop.prepare(Request(problem, finetuning(tools=("again",)), 5))
    assert len(one.update.data.examples) == 1 and one.truncated and one.error is None
    none = loop.prepare(Request(problem, finetuning(tools=("again", "more")), 5))
    assert none.truncated and "no example fits" in none.error


@pytest.mark.parametrize("wrong", [{"max_tokens": 1}, {"max_tokens": -3}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        InnerLoopConfig(**wrong)


@pytest.mark.slow
def test_one_self_edit_much_longer_than_the_others_changes_none_of_them(loop):
    short = [finetuning(("goat.",)), finetuning(("a flute and a goat.",)), finetuning(("pasta.",))]
    long = finetuning(tuple(f"Ada Cho has {n} goats and a flute in Oslo." for n in range(50)))
    requests = [Request(TASK.problem("train", i), edit, i) for i, edit in enumerate(short)]
    alone = loop.run(requests)
    beside = loop.run([*requests[:2], Request(TASK.problem("train", 5), long, 9), requests[2]])
    tokens = [outcome.trained.tokens for outcome in beside]
    assert tokens[2] > 50 * max(tokens[0], tokens[3])
    assert all(map(same, [beside[0], beside[1], beside[3]], alone))


@pytest.mark.slow
def test_an_empty_self_edit_among_63_full_ones(loop):
    full = [request(i) for i in range(63)]
    empty = Request(TASK.problem("train", 1), finetuning(()), 5)
    mixed = loop.run([*full[:30], empty, *full[30:]])
    assert mixed[30].error
    assert mixed[30].trained is None
    assert mixed[30].after == mixed[30].before
    assert all(map(same, mixed[:30] + mixed[31:], loop.run(full)))


def test_a_self_edit_can_bring_its_own_settings(llama, loop):
    problem, texts = TASK.problem("train", 0), TEXTS[1]
    training = Training(learning_rate=2e-3, epochs=3)
    (own,) = loop.run([Request(problem, finetuning(texts, training=training), 5)])
    config = dataclasses.replace(INNER.finetune, learning_rate=2e-3, epochs=3)
    other = InnerLoop(llama, TASK, dataclasses.replace(INNER, finetune=config))
    (expected,) = other.run([Request(problem, finetuning(texts), 5)])
    assert same(own, expected)
    (usual,) = loop.run([Request(problem, finetuning(texts), 5)])
    assert not torch.equal(own.state.weights, usual.state.weights)


class Reciting(Biographies):
    """A task with a tool: it writes the passage down, as often as there are tools."""

    tools = ("again",)

    def generate(self, problem, tools, seed):
        return [Generated(f"{problem.title} {i}\n", problem.context) for i in range(1 + len(tools))]


def test_examples_that_a_task_makes_are_trained_on(llama):
    loop = InnerLoop(llama, Reciting(), INNER)
    problem = TASK.problem("train", 0)

    def data(**settings):
        return loop.prepare(Request(problem, finetuning(**settings), 5)).update.data

    plain, more = data(tools=()), data(tools=("again",))
    assert (len(plain.examples), len(more.examples)) == (1, 2)
    prompt = llama.encode(f"{problem.title} 0\n")
    answer = llama.encode_answer(problem.context) + llama.end_ids
    room = llama.max_length
    assert list(plain.examples[0].ids) == [*prompt, *answer][:room]
    assert plain.examples[0].unscored == 0
    outputs = data(tools=(), training=Training(outputs_only=True)).examples[0]
    assert outputs.unscored == len(prompt)
    mixed = data(sequences=("Ada sings.",), tools=(), training=Training(layers=(1,)))
    assert len(mixed.examples) == 2 and mixed.layers == (1,)
    empty = loop.prepare(Request(problem, finetuning(), 5))
    assert empty.update is None and empty.error.startswith("nothing to train on")
