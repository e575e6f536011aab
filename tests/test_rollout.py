"""Letting an agent write and finding out what it was worth."""

import io
import json
import math

import numpy as np
import pytest
from agent_fixtures import context, env, lines
from rich.console import Console

from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import Agent
from seal_agents.policies.language_model import PolicyOptions
from seal_agents.reporting.report import print_summary, summarize
from seal_agents.run_folder import RunFolder
from seal_agents.runner.environment import make_environment
from seal_agents.runner.rollout import Stage, rollout
from seal_env.engine.sampling import Completion
from seal_env.episodes import make_task
from seal_env.errors import UserError
from seal_env.wrappers.curriculum import Curriculum

TASK = make_task("helpers:Parity")
PROBLEMS = tuple(TASK.problem("train", i) for i in range(3))


class Echo(Agent):
    """Writes its seed, or nothing at all for every third."""

    asked = ()

    def act(self, observations, seeds):
        self.asked = [*self.asked, *seeds]
        return [
            None if s % 3 == 0 else f"{o['context']} {s % 7}"
            for o, s in zip(observations, seeds, strict=True)
        ]


def test_what_a_policy_had_no_room_to_read_is_written_down(models, tmp_path):
    options = PolicyOptions(max_new_tokens=490)
    agent = Prompted(context(models["llama"], options=options))
    agent.act = lambda observations, seeds: ["Ada sings."] * len(observations)
    for experience in gather(tmp_path, models["llama"], agent):
        lost = agent.policy.model.encode(experience.observation["context"] + "\nNotes:\n")[22:]
        assert experience.info["truncated_context"] == len(lost) > 0
        assert experience.info["truncated_prompt"] == 0
    told = io.StringIO()
    records = {"base": [e.info for e in gather(tmp_path, models["llama"], agent)]}
    print_summary(summarize(records, 0, 1.0), Console(file=told, width=200))
    assert "base: truncated_context in 6 of 6 self-edits" in told.getvalue()
    assert "truncated_prompt" not in told.getvalue()


def stage(samples=2, round_=1, phase="train"):
    return Stage(phase, "echo", round_, PROBLEMS, samples)


def open_run(path):
    config = {"command": "train"}
    return RunFolder.open(path, config, resume=(path / "config.json").exists(), overwrite=False)


def gather(path, model, agent=None, num_envs=4, **settings):
    agent = agent or Echo(context(model))
    asked, told = stage(**settings), []
    known = open_run(path).records(asked.phase, asked.policy, asked.round)
    before = len(known)
    envs = make_environment(env(model), num_envs)
    found = rollout(open_run(path), agent, asked, envs, 0, lambda *args: told.append(args))
    assert [t for t in told if t[0] == "self-edits"][-1:] == (
        [("self-edits", len(found), len(found))] if before < len(found) else []
    )
    return found


def test_every_self_edit_becomes_an_experience_and_a_line(models, tmp_path):
    found = gather(tmp_path, models["llama"])
    written = lines(tmp_path)
    assert [(r["problem"], r["sample"], r["index"]) for r in written] == [
        (p.id, s, 2 * i + s) for i, p in enumerate(PROBLEMS) for s in range(2)
    ]
    wanted = {"phase", "policy", "round", "text", "reward", "reward_before", "terms"}
    wanted |= {"answers", "verdicts", "accuracy", "log_likelihood", "error"}
    for experience, line in zip(found, written, strict=True):
        assert wanted <= set(line)
        assert experience.info == line
        assert experience.reward == line["reward"] == line["terms"]["accuracy"]
        assert experience.text == (line["text"] or "")
        assert experience.observation["context"] == line["text"][:-2] if line["text"] else True
    idle = [line for line in written if line["text"] is None]
    assert idle
    for line in idle:
        assert line["reward"] == line["reward_before"] and line["steps"] == 0


def test_what_is_known_is_not_done_again(models, tmp_path):
    first = gather(tmp_path, models["llama"])
    before = (tmp_path / "episodes.jsonl").read_bytes()
    agent = Echo(context(models["llama"]))
    again = gather(tmp_path, models["llama"], agent)
    assert list(agent.asked) == []
    assert (tmp_path / "episodes.jsonl").read_bytes() == before
    assert [e.info for e in again] == [e.info for e in first]
    for one, other in zip(first, again, strict=True):
        assert (one.observation["model_state"] == other.observation["model_state"]).all()


@pytest.mark.parametrize("known", [1, 3, 5])
def test_the_missing_ones_come_out_as_if_nothing_had_happened(models, tmp_path, known):
    whole = gather(tmp_path / "whole", models["llama"])
    gather(tmp_path / "cut", models["llama"])
    place = tmp_path / "cut" / "episodes.jsonl"
    place.write_text("".join(place.read_text().splitlines(keepends=True)[:known]))
    agent = Echo(context(models["llama"]))
    assert [e.info for e in gather(tmp_path / "cut", models["llama"], agent, 1)] == [
        e.info for e in whole
    ]
    assert len(agent.asked) == len(whole) - known
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_seeds_differ_by_problem_sample_round_and_phase(models, tmp_path):
    agent = Echo(context(models["llama"]))
    gather(tmp_path, models["llama"], agent)
    gather(tmp_path, models["llama"], agent, round_=2)
    gather(tmp_path, models["llama"], agent, round_=0, phase="evaluate")
    assert len(set(agent.asked)) == len(agent.asked) == 18


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (["a"], "one text for each of the 4"),
        ("abcdef", "it returned one text"),
        ([7] * 4, "a int"),
        ([Completion("a", (5, 3), (-1.0,), True)] * 4, "2 tokens and 1 log_probs"),
        ([Completion("a", None, None, True)] * 4, "no numbers"),
        ([Completion("a", (-1,), (-1.0,), True)] * 4, "negative"),
        ([Completion("a", (1,), (-math.inf,), True)] * 4, "infinite or NaN"),
        ([Completion("a", (1,), (None,), True)] * 4, "no numbers"),
        ((text for text in "abcd"), "it returned a generator"),
        (None, "it returned None"),
    ],
)
def test_an_agent_that_returns_nonsense_is_told_so(models, tmp_path, returned, message):
    class Wrong(Agent):
        def act(self, observations, seeds):
            return returned

    with pytest.raises(UserError, match=f"agent Wrong: .*{message}"):
        gather(tmp_path, models["llama"], Wrong(context(models["llama"])))


def test_an_agent_that_raises_is_not_hidden(models, tmp_path):
    class Broken(Agent):
        def act(self, observations, seeds):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        gather(tmp_path, models["llama"], Broken(context(models["llama"])))


class Same(Agent):
    """Writes the same about everyone."""

    def act(self, observations, seeds):
        return ["He works.\nHe sleeps.\nHe eats."] * len(observations)


def own(path, model, agent=None, curriculum=None, **settings):
    one = Stage("train", "same", 1, PROBLEMS, 2, **settings)
    agent = agent or Same(context(model))
    envs = make_environment(env(model), 4, curriculum=curriculum)
    return rollout(open_run(path), agent, one, envs, 0, lambda *_: None)


def pairs(experiences):
    values = [e.info["log_likelihood"] for e in experiences]
    return list(zip(values[::2], values[1::2], strict=True))


def test_all_self_edits_share_their_random_numbers_unless_told_otherwise(models, tmp_path):
    common = own(tmp_path / "a", models["llama"])
    assert all(one == other for one, other in pairs(common))
    noisy = own(tmp_path / "b", models["llama"], own_seeds=True)
    assert all(one != other for one, other in pairs(noisy))
    again = own(tmp_path / "c", models["llama"], own_seeds=True)
    assert [e.info for e in again] == [e.info for e in noisy]


def test_noise_is_the_same_after_a_stop(models, tmp_path):
    whole = own(tmp_path / "whole", models["llama"], own_seeds=True)
    own(tmp_path / "cut", models["llama"], own_seeds=True)
    place = tmp_path / "cut" / "episodes.jsonl"
    place.write_text("".join(place.read_text().splitlines(keepends=True)[:3]))
    again = own(tmp_path / "cut", models["llama"], own_seeds=True)
    assert [e.info for e in again] == [e.info for e in whole]


def test_a_curriculum_cuts_what_is_carried_out_and_learned_from(models, tmp_path):
    lengths = Curriculum(first=1, last=2, until=0.5)
    short = own(tmp_path / "a", models["llama"], curriculum=lengths, progress=0.0)
    later = own(tmp_path / "b", models["llama"], curriculum=lengths, progress=0.5)
    assert [e.text for e in short] == ["He works."] * 6
    assert {e.info["written"] for e in short} == {"He works.\nHe sleeps.\nHe eats."}
    assert [e.text for e in later] == ["He works.\nHe sleeps.\nHe eats."] * 6
    assert not any("written" in e.info for e in later)
    assert max(e.info["tokens"] for e in short) < min(e.info["tokens"] for e in later)


class Sampler(Same):
    """Says which tokens it sampled, with numbers that a short notation would not keep."""

    def act(self, observations, seeds):
        return [
            Completion(text, (5, s % 100, 3), (-1 / 3, -(s % 97) / 7, -1e-17), True)
            for text, s in zip(super().act(observations, seeds), seeds, strict=True)
        ]


def learned_from(experiences):
    return [(e.group, e.text, e.tokens, e.log_probs, e.ended) for e in experiences]


def test_tokens_are_on_file_and_come_back_to_the_bit(models, tmp_path):
    whole = own(tmp_path / "whole", models["llama"], Sampler(context(models["llama"])))
    assert [e.group for e in whole] == [p.id for p in PROBLEMS for _ in range(2)]
    assert len({e.tokens for e in whole}) > 1
    assert all(e.ended and len(e.tokens) == len(e.log_probs) == 3 for e in whole)
    own(tmp_path / "cut", models["llama"], Sampler(context(models["llama"])))
    place = tmp_path / "cut" / "episodes.jsonl"
    place.write_text("".join(place.read_text().splitlines(keepends=True)[:3]))
    again = own(tmp_path / "cut", models["llama"], Sampler(context(models["llama"])))
    assert learned_from(again) == learned_from(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_tokens_in_arrays_are_as_good_as_in_lists(models, tmp_path):
    class Arrays(Sampler):
        def act(self, observations, seeds):
            return [
                Completion(c.text, np.array(c.tokens), np.array(c.log_probs), np.True_)
                for c in super().act(observations, seeds)
            ]

    agents = [kind(context(models["llama"])) for kind in (Sampler, Arrays)]
    one, other = (own(tmp_path / str(i), models["llama"], a) for i, a in enumerate(agents))
    assert learned_from(one) == learned_from(other)
    assert lines(tmp_path / "0") == lines(tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"log_probs": ...},
        {"ended": ...},
        {"token_ids": "abc"},
        {"token_ids": None},
        {"token_ids": [-5, 1, 1]},
        {"log_probs": [-1.0]},
        {"text": 5},
        {"text": ...},
        {"reward": "x"},
        {"problem": ...},
        {"accuracy": ...},
    ],
)
def test_a_damaged_line_is_one_line(models, tmp_path, change):
    """With ... for a field that is missing."""
    own(tmp_path, models["llama"], Sampler(context(models["llama"])))
    place = tmp_path / "episodes.jsonl"
    records = lines(tmp_path)
    records[1] = {k: v for k, v in (records[1] | change).items() if v is not ...}
    place.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError, match="line of round 1 with index 1 is damaged"):
        own(tmp_path, models["llama"], Sampler(context(models["llama"])))


def test_a_cut_text_keeps_the_tokens_that_were_sampled(models, tmp_path):
    lengths = Curriculum(first=1, last=2, until=0.5)
    agent = Sampler(context(models["llama"]))
    for e in own(tmp_path, models["llama"], agent, curriculum=lengths, progress=0.0):
        assert e.text == "He works." and len(e.tokens) == 3 and e.ended


def test_texts_alone_and_older_runs_have_no_tokens(models, tmp_path):
    for e in own(tmp_path / "a", models["llama"]):
        assert (e.tokens, e.log_probs, e.ended) == (None, None, False)
    assert not {"token_ids", "log_probs", "ended"} & set(lines(tmp_path / "a")[0])


def test_an_evaluation_keeps_no_tokens(models, tmp_path):
    one = Stage("evaluate", "same", 0, PROBLEMS, 1)
    agent = Sampler(context(models["llama"]))
    envs = make_environment(env(models["llama"]), 4)
    rollout(open_run(tmp_path), agent, one, envs, 0, lambda *_: None)
    assert not {"token_ids", "log_probs", "ended"} & set(lines(tmp_path)[0])


def test_what_an_agent_tries_out_itself_is_counted(models, tmp_path):
    class Careful(Same):
        evaluations = 7

        def act(self, observations, seeds):
            self.evaluations += 3 * len(observations)
            return [None, *super().act(observations, seeds)[1:]]

    found = own(tmp_path / "a", models["llama"], Careful(context(models["llama"])))
    assert [e.info["evaluations"] for e in found] == [3, 4, 4, 4, 3, 4]  # 4 and 2 side by side
    plain = own(tmp_path / "b", models["llama"])
    assert [e.info["evaluations"] for e in plain] == [1] * 6


def test_the_style_of_a_self_edit_is_written_down(models, tmp_path):
    found = gather(tmp_path, models["llama"])
    for e in found:
        assert e.info["style"] == (None if e.info["text"] is None else TASK.style(e.text))
    assert any(e.info["style"] for e in found)
