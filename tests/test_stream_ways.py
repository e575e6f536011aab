"""Streams: what each way of going on starts from, trains on, and makes of it."""

import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import INNER, weights_hash

from seal_env.config import EnvConfig
from seal_env.edits import SelfEdit
from seal_env.edits.training_data import TrainingData
from seal_env.engine.anchors import Anchor, Anchors
from seal_env.engine.config import FinetuneConfig
from seal_env.engine.deltas import Deltas
from seal_env.engine.divergence import divergences
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.routed import Memory, Routed, TokenWeights
from seal_env.engine.training import finetune
from seal_env.env import SelfEditEnv
from seal_env.episodes import NO_OP, Episode
from seal_env.errors import UserError
from seal_env.inner_loop import DIVERGED, InnerLoop, Request
from seal_env.rewards.base import RewardInputs
from seal_env.rewards.retention import Retention
from seal_env.score import Score
from seal_env.streams import STREAMS, StreamStep, gate, parse_stream
from seal_env.streams.route import token_weights
from seal_env.tasks.biographies.task import Biographies
from seal_env.updates import Finetuning, PreparedUpdate, Training

TASK = Biographies()
WHOLE = [TASK.problem("train", i) for i in range(4)]
PROBLEMS = [replace(p, questions=p.questions[:2]) for p in WHOLE]
TEXTS = (
    ["Ada Cho lives in Oslo.", "", "Bo Diaz has a dog.\nBo Diaz was born in Lima."],
    ["", "no good", "Eve Ito likes soup."],
    ["Eve Ito likes soup.", None, "Ada Cho lives in Rome.\nAda Cho has a cat."],
)
"""What three learners are told, step by step."""


class Refusing(TrainingData):
    """Cannot read "no good", and diverges at "explode"."""

    def parse(self, action, problem):
        if action == "no good":
            return SelfEdit(error="no good")
        if action == "explode":
            return SelfEdit(Finetuning(("x",) * 4, training=Training(learning_rate=1e38)))
        return super().parse(action, problem)


def settings(models, **changes):
    kwargs = {"task": "helpers:Parity", "edit": "test_stream_ways:Refusing", "inner": INNER}
    return kwargs | {"model": models["llama"], "reward": "log_likelihood + retention"} | changes


def played(models, texts, problems, seed=4, **changes):
    """Steps of streams side by side, as (observation, reward, info) of each, by stream."""
    horizon = len(texts[0])
    envs = SelfEditEnvs(len(texts), **settings(models, horizon=horizon, **changes))
    envs.reset(seed=seed, options={"problems": problems})
    rows = [envs.step([own[t] for own in texts]) for t in range(horizon)]
    return [
        [
            ({k: v[i] for k, v in observations.items()}, rewards[i], _entry(infos, i))
            for observations, rewards, *_, infos in rows
        ]
        for i in range(len(texts))
    ]


def SelfEditEnvs(count, **kwargs):
    return gym.make_vec("SelfEdit-v0", num_envs=count, autoreset_mode="DISABLED", **kwargs)


def _entry(infos, i):
    values = {k: v for k, v in infos.items() if not k.startswith("_")}
    return {k: _entry(v, i) if isinstance(v, dict) else v[i] for k, v in values.items()}


def same(one, other):
    for (a, reward, info), (b, reward_b, info_b) in zip(one, other, strict=True):
        assert reward == reward_b
        assert all(np.array_equal(a[k], b[k]) for k in ("model_state", "earlier"))
        assert info["answers"] == info_b["answers"] and info["stream"] == info_b["stream"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stream", [*STREAMS, "stack + orthogonal", "route + kl", "merge + null_space"]
)
def test_each_way_is_alone_what_it_is_beside_others_to_the_bit(models, stream):
    problems = [[PROBLEMS[(i + t) % 4] for t in range(3)] for i in range(3)]
    together = played(models, TEXTS, problems, stream=stream)
    for i, texts in enumerate(TEXTS):
        (alone,) = played(models, [texts], [problems[i]], stream=stream)
        same(alone, together[i])
    assert together[1][1][2]["error"] == "no good" and not together[1][2][2]["error"]
    assert len({steps[-1][1] for steps in together}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("stream", list(STREAMS))
def test_reset_restores_the_learner_to_the_bit(models, stream):
    env = SelfEditEnv(**settings(models, horizon=2, stream=stream))
    model = env.episodes.loop.learner.model
    before = weights_hash(model)
    rewards = []
    for _ in range(2):
        env.reset(seed=0, options={"problems": PROBLEMS[:2]})
        rewards.append([env.step(text)[1] for text in ("Ada Cho lives in Oslo.", "Bo")])
    assert rewards[0] == rewards[1] and rewards[0][0] != rewards[0][1]
    assert weights_hash(model) == before


def loop_of(models, stream, architecture="llama"):
    env = SelfEditEnv(**settings(models | {"llama": models[architecture]}))
    loop = env.episodes.loop
    return InnerLoop(loop.learner, loop.task, INNER, stream=parse_stream(stream))


def carry_out(loop, texts):
    """Results of self-edits one after the other."""
    results, state, history = [], None, ()
    for i, text in enumerate(texts):
        edit = TrainingData().parse(text, PROBLEMS[i])
        (result,) = loop.run([Request(PROBLEMS[i], edit, i, state, history=history)])
        assert result.error is None
        state, history = result.state, result.history
        results.append(result)
    return results


EDITS = ("Ada Cho lives in Oslo.\nAda Cho has a cat.", "Bo Diaz has a dog.", "Eve Ito likes soup.")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_merge_trains_on_weights_that_have_the_update_in_them(models, architecture):
    """Against a copy of the model whose own weights are changed."""
    loop = loop_of(models, "merge", architecture)
    first, second = carry_out(loop, EDITS[:2])
    assert isinstance(first.state, Deltas)
    model = copy.deepcopy(loop.learner.model)
    bank = AdapterBank(loop.context.targets, INNER.lora, 1, model.device)
    learner = Learner(model, loop.learner.tokenizer, "merged")
    for index, (text, problem) in enumerate(zip(EDITS[:2], PROBLEMS, strict=False)):
        update = TrainingData().parse(text, problem).update
        data = update.prepare(problem, index, None, loop.context).data
        bank.initialize([index])
        finetune(learner, bank, [data])
        if index == 0:
            bank.merge_into(model)
            learner = Learner(model, loop.learner.tokenizer, "merged")
    found = {n: second.state.matrices[n] - first.state.matrices[n] for n in first.state.matrices}
    for name, addend in bank.state_of(0).addends().items():
        assert addend.abs().max() > 1e-3
        torch.testing.assert_close(found[name], addend, atol=2e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_stack_is_the_sum_that_merge_has(models, architecture):
    merged = carry_out(loop_of(models, "merge", architecture), EDITS)
    stacked = carry_out(loop_of(models, "stack", architecture), EDITS)
    for one, other in zip(merged, stacked, strict=True):
        assert one.after.log_likelihood == pytest.approx(other.after.log_likelihood, abs=1e-4)
    assert len(stacked[-1].state.states) == 3
    added = [state.addends() for state in stacked[-1].state.states]
    for name, matrix in merged[-1].state.matrices.items():
        torch.testing.assert_close(sum(a[name] for a in added), matrix, atol=1e-4, rtol=1e-2)


def test_merge_goes_on_from_changes_of_single_weights_and_back(models):
    env = SelfEditEnv(
        **settings(models, horizon=3, stream="merge", task="helpers:OneQuestion")
        | {"edit": "own_update:Mixed"}
    )
    env.reset(seed=0, options={"problems": PROBLEMS[:3]})
    likelihoods = []
    for action in ("learn Ada Cho plays.", "scale 1.5", "learn Bo Diaz plays."):
        info = env.step(action)[4]
        assert info["error"] == ""
        likelihoods.append(info["log_likelihood"] - info["log_likelihood_before"])
    assert all(likelihoods)


def test_what_a_stream_cannot_take_is_an_error_and_goes_on(models):
    for stream in ("merge", "stack", "joint"):
        changed = settings(models, horizon=2, stream=stream) | {"edit": "own_update:Mixed"}
        env = SelfEditEnv(**changed)
        env.reset(seed=0, options={"problems": PROBLEMS[:2]})
        info = env.step("rescale Ada Cho plays the flute.")[4]
        assert f"stream {stream!r}: takes LoRA adapters" in info["error"]
        assert env.step("learn Ada Cho plays the flute.")[4]["error"] == ""


@pytest.mark.slow
def test_joint_trains_one_adapter_on_all_self_edits(models):
    loop = loop_of(models, "joint")
    results = carry_out(loop, EDITS)
    examples = []
    for text, problem in zip(EDITS, PROBLEMS, strict=False):
        update = TrainingData().parse(text, problem).update
        data = update.prepare(problem, 2, None, loop.context).data
        examples += data.examples
    bank = loop.context.new_bank(1)
    bank.initialize([2])
    finetune(loop.learner, bank, [replace(data, examples=examples)])
    assert torch.equal(results[-1].state.weights, bank.weights[0])


def test_replay_draws_earlier_sequences_by_the_seed_of_the_step(models):
    loop = loop_of(models, "replay")
    updates = [
        TrainingData().parse(text, problem).update.prepare(problem, 0, None, loop.context)
        for text, problem in zip((*EDITS, EDITS[0]), PROBLEMS, strict=True)
    ]  # of 3, 2, 2 and 3 sequences, the passages included
    *history, own = updates
    past = [example for update in history for example in update.data.examples]
    for ratio, count in ((1.0, 3), (0.5, 2), (9.0, 7)):
        loop.stream.ratio = ratio
        drawn = set()
        for seed in range(20):
            step = StreamStep(replace(own, seed=seed), tuple(history))
            found = loop.stream.prepare(step, loop.context).data.examples
            assert found == loop.stream.prepare(step, loop.context).data.examples
            assert found[:3] == [*own.data.examples] and len(found) == 3 + count
            drawn.add(tuple(sorted(past.index(example) for example in found[3:])))
        assert all(len(set(indices)) == count for indices in drawn)
        assert {i for indices in drawn for i in indices} == set(range(7))
    assert loop.stream.prepare(StreamStep(own), loop.context).data.examples == own.data.examples


@pytest.mark.slow
def test_continue_is_the_default_and_keeps_no_history(models):
    assert EnvConfig().stream == "continue"
    assert all(not r.history for r in carry_out(loop_of(models, "continue"), EDITS[:2]))
    assert len(carry_out(loop_of(models, "replay"), EDITS[:2])[-1].history) == 2


@pytest.mark.slow
def test_a_step_that_diverges_is_an_outcome_and_touches_no_other_stream(models):
    """At step 5 of one of 8 streams."""
    quick = replace(INNER, finetune=FinetuneConfig(2e-2, epochs=1, batch_size=4))
    problems = [[PROBLEMS[(i + t) % 4] for t in range(6)] for i in range(8)]
    texts = [[f"{p.title} lives in Oslo." for p in own] for own in problems]
    calm = played(models, texts, problems, stream="merge", probe=1, inner=quick)
    texts[3][4] = "explode"
    found = played(models, texts, problems, stream="merge", probe=1, inner=quick)
    for i in set(range(8)) - {3}:
        same(calm[i], found[i])
    same(calm[3][:4], found[3][:4])
    observation, _, info = found[3][4]
    assert info["error"] == DIVERGED and info["accuracy"] == info["accuracy_before"]
    assert observation["model_state"][-3] == found[3][3][0]["model_state"][-3] > 0
    assert found[3][5][2]["error"] == ""


@pytest.mark.slow
def test_a_probe_asks_a_sample_and_at_the_end_all(models):
    texts = [["Ada Cho lives in Oslo."] * 5] * 2
    problems = [[PROBLEMS[t % 4] for t in range(5)]] * 2
    one, other = played(models, texts, problems, probe=2)
    asked = [info["stream"]["earlier"] for _, _, info in one]
    assert [len(some) for some in asked] == [0, 1, 2, 2, 4] and asked[4] == [0, 1, 2, 3]
    assert asked == [info["stream"]["earlier"] for _, _, info in other]  # common random numbers
    whole = played(models, texts[:1], problems[:1])[0]
    for (_, _, some), (_, _, every) in zip(one, whole, strict=True):
        assert every["stream"]["earlier"] == list(range(len(every["stream"]["earlier"])))
        seen = [every["stream"]["accuracy"][i] for i in some["stream"]["earlier"]]
        assert some["stream"]["accuracy"] == seen
    change = np.mean([a - i["accuracy"] for a, (_, _, i) in zip(
        whole[-1][2]["stream"]["accuracy"], whole, strict=False)])  # fmt: skip
    assert whole[-1][0]["earlier"] == pytest.approx([change])


def test_a_probe_may_ask_about_each_earlier_problem(models):
    episodes = SelfEditEnv(**settings(models, horizon=9, probe=2)).episodes
    asked = [episodes._asked(Episode((PROBLEMS[0],) * 9, seed, step=6)) for seed in range(40)]
    assert all(len(set(some)) == 2 and some == sorted(some) for some in asked)
    assert {i for some in asked for i in some} == set(range(6))


def test_retention_of_a_sample_stands_for_all():
    def score(right):
        return Score(("x",), (right,), (-1.0,))

    pair = (score(True), score(False))
    measured = RewardInputs(score(True), score(True), earlier=(pair, pair), earlier_problems=8)
    assert Retention()(measured) == -8
    assert Retention()(replace(measured, earlier_problems=None)) == -2
    assert Retention()(replace(measured, earlier=())) == 0


@pytest.mark.parametrize(
    ("stream", "options", "said"),
    [
        ("merg", {}, "did you mean 'merge'"),
        ("helpers:LORA", {}, "is no subclass of Stream"),
        ("helpers:Parity", {}, "is no subclass of Stream"),
        ("replay", {"replay": {"ratio": 0}}, "ratio"),
        ("route", {"route": {"threshold": 2}}, "threshold"),
        ("merge + gate", {"gate": {"epsilon": -1}}, "epsilon"),
        ("merge + gate", {"gate": {"earlier": 0, "known": 0}}, "at least one problem"),
        ("merge + merge", {}, "unknown addition to a stream 'merge'"),
        ("gate", {}, "unknown stream 'gate'"),
        ("merge + kl", {"kl": {"weight": 0}}, "weight 0.0: must be positive"),
        ("merge + orthogonal", {}, "use 'stack . orthogonal'"),
        ("route + gate + orthogonal", {}, "use 'stack . orthogonal'"),
        ("replay", {"replay": {"rato": 1}}, "did you mean 'ratio'"),
        ("merge", {"replay": {}}, "has no 'replay'"),
    ],
)
def test_a_stream_that_there_is_not_is_one_line(stream, options, said):
    with pytest.raises(UserError, match=said) as caught:
        parse_stream(stream, options)
    assert "\n" not in str(caught.value)


def test_a_negative_probe_is_one_line():
    with pytest.raises(UserError, match="probe -1"):
        EnvConfig(probe=-1)


def test_route_leaves_each_problem_to_the_adapter_that_was_trained_on_it(models):
    """Right after its own self-edit, and after all others, to the bit; strangers get the base."""
    loop = loop_of(models, "route")
    results = carry_out(loop, [f"{p.title} lives in Oslo." for p in PROBLEMS[:3]])
    state, stranger = results[-1].state, PROBLEMS[3]
    request = Request(stranger, SelfEdit(error="x"), 0, state, tuple(PROBLEMS[:3]))
    (found,) = loop.no_op([request])
    assert [after for _, after in found.earlier] == [result.after for result in results]
    assert [found.after] == loop.baselines([stranger])
    untouched = loop.baselines(PROBLEMS[:3])
    assert all(a != result.after for a, result in zip(untouched, results, strict=True))


def test_route_reads_texts_one_by_one(models):
    """As an adapter by itself, and as the base, in one pass; also where it measures drift."""
    loop = loop_of(models, "route")
    first, second = carry_out(loop, [f"{p.title} lives in Oslo." for p in PROBLEMS[:2]])
    texts = [loop.learner.renderer.reading(p.context) for p in PROBLEMS[:3]]
    hidden, _ = loop.learner.describe(texts, [0] * 3, loop.bank_of([second.state]))
    for i, memory in enumerate(second.state.memories):
        own, _ = loop.learner.describe([texts[i]], [0], loop.bank_of([memory.state]))
        assert np.array_equal(own[0], hidden[i])
    assert np.array_equal(loop.learner.describe(texts[2:], [0], None)[0][0], hidden[2])
    banks = [loop.bank_of([result.state]) for result in (second, first)]
    moved = [divergences(loop.learner, [ids], 1, *banks, 512)[0].kl for ids in texts]
    assert moved[0] == 0 and moved[1] > 0 and moved[2] == 0


def test_a_routed_learner_is_alone_what_it_is_beside_other_kinds(models):
    results = carry_out(loop_of(models, "route"), [f"{p.title} has a cat." for p in PROBLEMS[:2]])
    routed = results[-1].state
    dense = Deltas.merged(routed.memories[1].state, None)
    loop = loop_of(models, "continue")
    states = [None, routed, dense, routed.memories[0].state, routed]
    requests = [Request(PROBLEMS[0], NO_OP, 0, s, (PROBLEMS[1], PROBLEMS[3])) for s in states]
    alone = [loop.no_op([request])[0] for request in requests]
    assert loop.no_op(requests) == alone
    texts = [loop.learner.renderer.reading(p.context) for p in PROBLEMS[:2] for _ in states]
    owners = [*range(len(states))] * 2
    hidden, _ = loop.learner.describe(texts, owners, loop.bank_of(states))
    for row, text, owner in zip(hidden, texts, owners, strict=True):
        wanted, _ = loop.learner.describe([text], [0], loop.bank_of([states[owner]]))
        assert np.array_equal(row, wanted[0])


def test_the_weights_of_tokens_are_those_of_the_questions_as_they_are_put(models):
    """Whatever another task with the same contexts asked before."""
    contexts = []
    for task in ("helpers:Parity", "helpers:OneQuestion"):
        loop = SelfEditEnv(**settings(models, task=task)).episodes.loop
        contexts.append(replace(loop.context, learner=loop.learner))
    many, one = (token_weights(context).counts for context in contexts)
    assert many.total() > one.total()


def test_a_stream_goes_on_from_its_own_states_alone(models):
    (adapted,) = carry_out(loop_of(models, "continue"), EDITS[:1])
    edit = TrainingData().parse(EDITS[1], PROBLEMS[1])
    for stream in ("merge", "stack", "route"):
        request = Request(PROBLEMS[1], edit, 1, adapted.state)
        (found,) = loop_of(models, stream).run([request])
        assert "and the learner is AdapterState" in found.error and found.state is adapted.state


def test_the_similarity_of_a_text_is_the_share_of_its_rare_tokens():
    weights = TokenWeights(7, {1: 7, 2: 3, 3: 1})
    assert [weights(t) for t in (1, 2, 3, 4)] == [0, *np.log([2, 4, 8])]
    memories = tuple(Memory(frozenset(tokens), None) for tokens in ({1, 2, 3}, {1, 4}, {2, 3}))
    state = Routed(memories, weights, 0.6)
    assert state.index_for([1, 2, 3]) == 2  # the newest of equals
    assert state.index_for([4, 2]) == 1  # log 8 of log 16
    assert state.index_for([3, 4]) == 1 and replace(state, threshold=0.7).index_for([3, 4]) is None
    assert state.index_for([1]) is None


def matrices_of(state):
    """A and B of an adapter by module, shapes (R, I) and (O, R)."""
    bank = AdapterBank(state.targets, state.config, 1, state.weights.device)
    bank.load([state])
    return {name: (a[0].double(), b[0]) for name, (a, b) in bank.matrices.items()}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_orthogonal_adapters_read_nothing_that_earlier_ones_read(models, architecture):
    free = carry_out(loop_of(models, "stack", architecture), EDITS)
    found = carry_out(loop_of(models, "stack + orthogonal", architecture), EDITS)
    assert torch.equal(found[0].state.states[0].weights, free[0].state.states[0].weights)
    for name in matrices_of(found[0].state.states[0]):
        first, second, third = (matrices_of(s)[name] for s in found[-1].state.states)
        for (one, _), (other, _) in ((first, second), (first, third), (second, third)):
            assert (one @ other.t()).abs().max() < 1e-6
        assert all(a.norm() > 0.1 and b.norm() > 1e-3 for a, b in (first, second, third))
        apart = [matrices_of(s)[name][0] for s in free[-1].state.states[:2]]
        assert (apart[0] @ apart[1].t()).abs().max() > 1e-3
    assert found[1].after != found[1].before


def test_orthogonal_adapters_are_trained_as_they_are_used(models):
    """What training moves into the span of earlier adapters is all that the projection removes."""
    loop = loop_of(models, "stack + orthogonal")
    (first,) = carry_out(loop, EDITS[:1])
    own = TrainingData().parse(EDITS[1], PROBLEMS[1]).update
    own = own.prepare(PROBLEMS[1], 1, first.state, loop.context)
    start = loop.stream.prepare(StreamStep(own), loop.context).start
    below = matrices_of(first.state.states[0])
    for name, (a, b) in matrices_of(start).items():
        assert (a @ below[name][0].t()).abs().max() < 1e-6 and not b.any() and a.norm() > 0.1


def test_orthogonal_adapters_leave_out_what_was_not_trained(models):
    """The A of a layer that no update trains, whose B is zero, takes no room from later ones."""
    loop = loop_of(models, "stack + orthogonal")
    update = Finetuning((EDITS[0],), training=Training(layers=(0,)))
    (first,) = loop.run([Request(PROBLEMS[0], SelfEdit(update), 0)])
    (second,) = loop.run([Request(PROBLEMS[1], SelfEdit(update), 1, first.state)])
    bank = loop.context.new_bank(1)
    bank.initialize([1])
    plain, found = matrices_of(bank.state_of(0)), matrices_of(second.state.states[1])
    same = {name for name in plain if torch.equal(plain[name][0], found[name][0])}
    assert same == {name for name in plain if ".layers.0." not in name} and same != set(plain)


def anchored_losses(learner, anchors, bank, texts):
    """Hidden states of two learners' texts, and their losses, of all tokens but the first."""
    layout = Layout([t[:-1] for t in texts], [0, 1], learner.device)
    offsets = [np.arange(len(t) - 1) for t in texts]
    rows = np.concatenate([s + o for s, o in zip(layout.starts, offsets, strict=True)])
    hidden = learner.hidden(layout.row, FullPass(layout), bank).detach().requires_grad_()
    before = anchors.hidden([t[:-1] for t in texts], [0, 1], offsets)
    labels = [i for t in texts for i in t[1:]]
    owners = np.repeat([0, 1], [len(t) - 1 for t in texts])
    return hidden, rows, labels, before, anchors.losses(hidden, rows, labels, before, owners)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_loss_of_kl_is_cross_entropy_and_the_divergence_from_before(models, architecture):
    """Values and gradients against the written-out formula, with a weight for each learner."""
    loop = loop_of(models, "continue", architecture)
    learner, states = loop.learner, [r.state for r in carry_out(loop, EDITS[:2])]
    texts = [learner.renderer.document(text) for text in EDITS[:2]]
    anchors = Anchors(learner, [Anchor(states[0], 0.5), Anchor(None, 3.0)])
    bank = loop.bank_of([states[1], states[0]])
    hidden, rows, labels, before, losses = anchored_losses(learner, anchors, bank, texts)
    (grad,) = torch.autograd.grad(losses.sum(), hidden)
    logs = learner.head(hidden[torch.from_numpy(rows)]).double().log_softmax(-1)
    old = learner.head(before).double().log_softmax(-1)
    kl = (old.exp() * (old - logs)).sum(-1)
    weights = torch.tensor([0.5, 3.0]).repeat_interleave(torch.tensor([len(t) - 1 for t in texts]))
    wanted = weights * kl - logs.gather(-1, torch.tensor(labels)[:, None])[:, 0]
    torch.testing.assert_close(losses.double(), wanted, atol=1e-4, rtol=1e-4)
    (wanted_grad,) = torch.autograd.grad(wanted.sum(), hidden)
    torch.testing.assert_close(grad, wanted_grad, atol=1e-4, rtol=1e-3)
    means = [part.mean().item() for part in kl.split([len(text) - 1 for text in texts])]
    pairs = [(states[0], states[1]), (None, states[0])]  # each learner's own anchor, and itself
    for text, pair, mean in zip(texts, pairs, means, strict=True):
        banks = [loop.bank_of([state]) for state in pair]
        found = divergences(learner, [text], 1, *banks, 512)[0].kl
        assert mean == pytest.approx(found, rel=1e-3) and found > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["continue", "merge"])
def test_kl_keeps_training_close_to_the_learner_before_the_step(models, stream):
    moved = []
    for weight in (None, 1e-6, 100.0):
        loop = loop_of(models, stream if weight is None else f"{stream} + kl")
        if weight is not None:
            loop.stream.weight = weight
        first, second = carry_out(loop, EDITS[:2])
        text = loop.learner.renderer.document(EDITS[1])
        banks = [loop.bank_of([r.state]) for r in (first, second)]
        moved.append(divergences(loop.learner, [text], 1, *banks, 512)[0].kl)
    assert moved[1] == pytest.approx(moved[0], rel=1e-2) and moved[2] < 0.5 * moved[0]


def test_kl_is_of_no_account_beside_a_learner_without_it(models):
    """In the same pass: a data set without an anchor has the loss that it has alone."""
    loop = loop_of(models, "continue")
    update = TrainingData().parse(EDITS[0], PROBLEMS[0]).update
    data = update.prepare(PROBLEMS[0], 0, None, loop.context).data
    (state,) = (r.state for r in carry_out(loop, EDITS[1:2]))
    pair = [data, replace(data, anchor=Anchor(state, 2.0))]
    bank, alone = loop.context.new_bank(2), loop.context.new_bank(1)
    bank.initialize([0, 0])
    alone.initialize([0])
    records = finetune(loop.learner, bank, pair)
    assert records[0] == finetune(loop.learner, alone, pair[:1])[0]
    assert torch.equal(bank.weights[0], alone.weights[0])
    assert records[1].loss != records[0].loss and not torch.equal(bank.weights[1], bank.weights[0])


def test_kl_anchors_a_step_to_the_learner_before_it(models):
    for stream in ("merge", "route"):
        loop = loop_of(models, f"{stream} + kl")
        (first,) = carry_out(loop, EDITS[:1])
        update = TrainingData().parse(EDITS[1], PROBLEMS[1]).update
        own = update.prepare(PROBLEMS[1], 1, first.state, loop.context)
        assert loop.stream.prepare(StreamStep(own), loop.context).data.anchor.state is first.state


def test_the_anchor_of_a_routed_learner_reads_each_text_with_its_own_adapter(models):
    loop = loop_of(models, "route")
    results = carry_out(loop, [f"{p.title} lives in Oslo." for p in PROBLEMS[:2]])
    texts = [loop.learner.renderer.reading(p.context) for p in PROBLEMS[:3]]
    offsets = [np.arange(len(text)) for text in texts]
    state = results[-1].state
    found = Anchors(loop.learner, [Anchor(state, 1.0)]).hidden(texts, [0] * 3, offsets)
    alone = [*(memory.state for memory in state.memories), None]
    wanted = Anchors(loop.learner, [Anchor(one, 1.0) for one in alone])
    assert torch.equal(found, wanted.hidden(texts, [0, 1, 2], offsets))
    assert not torch.equal(found, wanted.hidden(texts, [1, 0, 2], offsets))


GATED = [["Ada Cho lives in Oslo.", "Bo Diaz has a dog."]] * 3


@pytest.mark.slow
def test_the_gate_rolls_back_what_costs_more_than_epsilon(models, monkeypatch):
    problems = [PROBLEMS[:2]] * 3
    free = played(models, GATED, problems, stream="merge")
    open_gate = {"gate": {"epsilon": 1.0}}
    passed = played(models, GATED, problems, stream="merge + gate", stream_options=open_gate)
    for one, other in zip(free, passed, strict=True):
        same(one, other)
    checks = iter([[0.5, 0.5, 0.5], [0.35, 0.45, 0.7]] * 2)
    untouched = []

    def accuracies(states, *_):
        untouched.append([state is None for state in states])
        return next(checks)

    monkeypatch.setattr(gate, "_accuracies", accuracies)
    shut, *rest = played(models, GATED, problems, stream="merge + gate")
    same(free[1], rest[0])
    # Those before and after the update; the first learner goes on from before its own.
    assert untouched == [[True] * 3, [False] * 3, [True, False, False], [False] * 3]
    for observation, reward, info in shut:
        assert "from 0.500 to 0.350" in info["stream"]["rolled_back"] and info["error"] == ""
        assert reward == info["reward_before"] and observation["model_state"][-3] == 0
        assert info["accuracy"] == info["accuracy_before"] and info["steps"] > 0


def test_the_gate_asks_questions_for_training_about_others(models):
    loop = loop_of(models, "continue + gate")
    step = StreamStep(PreparedUpdate(None, WHOLE[0], 1, None), ())
    asked = loop.stream._check(step, loop.context)
    assert len(asked) == 8 and all("training" in problem.id for problem in asked)
    past = tuple(PreparedUpdate(None, p, 1, None) for p in WHOLE)
    with_past = loop.stream._check(replace(step, history=past), loop.context)
    new = [problem for problem in with_past if problem not in asked]
    assert {p.context for p in new} == {p.context for p in WHOLE[1:]}
    held_out = {q.text for p in WHOLE for q in p.questions}
    assert not held_out & {q.text for p in with_past for q in p.questions}
