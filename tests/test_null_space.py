"""The addition `null_space`: what modules read of kept texts, and adapters that do not read it."""

from dataclasses import replace

import pytest
import torch
from helpers import random_ids
from test_stream_ways import EDITS, PROBLEMS, carry_out, loop_of, matrices_of
from transformers import AutoModelForCausalLM

from seal_env.edits.training_data import TrainingData
from seal_env.engine.deltas import Deltas
from seal_env.engine.moments import second_moments
from seal_env.errors import UserError
from seal_env.streams import StreamStep, parse_stream
from seal_env.streams.null_space import NullSpace
from seal_env.updates import PreparedUpdate, UpdateResult
from seal_env.updates.weight_changes import WeightChanges

TEXTS = [random_ids(9 + 7 * i, i) for i in range(4)]


def inputs_by_hooks(learner, texts, state, names):
    """Inputs of modules at all tokens, shape (T, I), by transformers' own model."""
    model = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32).eval()
    read = {name: [] for name in names}
    for name in names:
        module = model.get_submodule(name)
        if state is not None:
            delta = state.matrices[name]
            module.weight.data += delta if module.weight.shape == delta.shape else delta.t()
        module.register_forward_pre_hook(lambda _, args, to=read[name]: to.append(args[0][0]))
    with torch.no_grad():
        for ids in texts:
            model(input_ids=torch.tensor([ids]))
    return {name: torch.cat(parts).double() for name, parts in read.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "merged"), [("llama", True), ("gpt2", False)])
def test_moments_are_those_of_transformers_inputs(models, architecture, merged):
    loop = loop_of(models, "merge", architecture)
    state = None
    if merged:
        (result,) = carry_out(loop, EDITS[:1])
        state = result.state
        assert isinstance(state, Deltas) and state.norm() > 0.1
    targets = loop.context.targets
    found = second_moments(loop.learner, TEXTS, state, targets, 20)
    read = inputs_by_hooks(loop.learner, TEXTS, state, [t.name for t in targets])
    for name, moment in found.items():
        wanted = read[name].t() @ read[name]
        torch.testing.assert_close(moment, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max())


def prepared(loop, results):
    """The second self-edit's update, and the texts that its adapter must not read."""
    first = results[0]
    own = TrainingData().parse(EDITS[1], PROBLEMS[1]).update
    step = StreamStep(own.prepare(PROBLEMS[1], 1, first.state, loop.context), first.history)
    return step, [*loop.stream._known(loop.context), *loop.stream._earlier(step)]


@pytest.mark.slow
def test_adapters_read_little_of_what_is_kept(models):
    """By inputs that transformers' own model reads, before training and after it."""
    loop = loop_of(models, "merge + null_space")
    loop.stream.energy = 0.99
    first, second = carry_out(loop, EDITS[:2])
    step, texts = prepared(loop, [first])
    names = [t.name for t in loop.context.targets]
    read = inputs_by_hooks(loop.learner, texts, first.state, names)
    start = loop.stream.prepare(step, loop.context)
    assert start.below is first.state
    bank = loop.context.new_bank(1)
    bank.initialize([1])
    free, own = matrices_of(bank.state_of(0)), matrices_of(start.start)
    for name, inputs in read.items():
        _, sizes, directions = torch.linalg.svd(inputs, full_matrices=False)
        shares = sizes.square().cumsum(0) / sizes.square().sum()
        count = int((shares < 0.99).sum()) + 1
        a = own[name][0]
        assert (a @ directions[:count].t()).abs().max() < 1e-5 and a.norm() > 0.1
        left = free[name][0] @ directions[count:].t()
        torch.testing.assert_close(a @ directions[count:].t(), left, rtol=1e-3, atol=1e-4)
        # What the second self-edit adds to the outputs of kept tokens, of the size of its inputs.
        added = second.state.matrices[name] - first.state.matrices[name]
        assert added.norm() > 1e-3
        assert (added.double() @ directions[:count].t()).abs().max() < 1e-5 * added.norm() + 1e-6


@pytest.mark.slow
def test_what_is_kept_is_known_or_was_written(models):
    loop = loop_of(models, "merge + null_space")
    first, _ = carry_out(loop, EDITS[:2])
    step, texts = prepared(loop, [first])
    told = [loop.learner.decode(ids) for ids in texts]
    assert texts[-3:] == [list(example.ids) for example in first.history[0].data.examples]
    task = loop.task
    known = [task.problem(task.known_split, i) for i in range(8)]
    assert all(any(p.title in text for text in told) for p in known)
    held_out = {question.text for p in known for question in p.questions}
    made = {q.text for p in known for q in task.training_problem(p.context).questions}
    asked = {text for text in held_out - made if any(text in one for one in told)}
    assert not asked and held_out - made
    few = replace(loop.stream, earlier=1)
    assert len(few._earlier(step)) == 1 and few._earlier(step) == few._earlier(step)
    assert replace(loop.stream, known=0, earlier=0)._bases(step, loop.context) == {}


@pytest.mark.parametrize("stream", ["continue + null_space", "route + gate + null_space"])
def test_a_stream_without_new_adapters_on_top_is_refused(stream):
    with pytest.raises(UserError, match=r"use 'merge . null_space'"):
        parse_stream(stream)


@pytest.mark.parametrize("settings", [{"energy": 0}, {"energy": 1.0}, {"known": -1}])
def test_senseless_settings(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        NullSpace(**settings)


def test_changes_of_single_weights_have_nothing_to_project(models):
    loop = loop_of(models, "merge + null_space")
    step = StreamStep(PreparedUpdate(WeightChanges(()), PROBLEMS[0], 1, None))
    assert loop.stream.prepare(step, loop.context) is step.own
    (first,) = carry_out(loop_of(models, "merge"), EDITS[:1])
    (found,) = loop.stream.conclude([step], [UpdateResult(first.state)], loop.context)
    assert found.state is first.state
