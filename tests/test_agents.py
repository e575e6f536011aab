"""The agents that come with the package, and one of a user's own."""

import json
import os
import subprocess
import sys
import typing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agent_fixtures import QUICK, context, env, experience, lines, summary

from seal_agents import AGENTS, Action, Agent, AgentContext
from seal_agents.algorithms.fixed import Edits, Nothing, Passage
from seal_agents.base import AgentOptions
from seal_agents.policies.language_model import PolicyOptions
from seal_agents.runner.train import agent_class
from seal_env.errors import UserError

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_agent.py"
STATE = np.zeros(64 + 4, dtype=np.float32)
"""A learner's state in the shape that the small models have."""
SEEN = [{"context": text, "model_state": STATE} for text in ("Ada is a vet.", "Bo has a cat.")]


def make(name, models, argument=""):
    kind = agent_class(name)
    options = kind.Options()
    if isinstance(options, PolicyOptions):
        options = kind.Options(max_new_tokens=8)
    if hasattr(options, "tokens"):
        options = replace(options, tokens=16)
    return kind(AgentContext(env(models["llama"]), 0, argument, options))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(AGENTS) - {"always", "edits"}))
def test_every_agent_keeps_the_interface(name, models, tmp_path):
    agent = make(name, models)
    texts = agent.act(SEEN * 2, [1, 2, 3, 4])
    assert len(texts) == 4 and all(isinstance(text, Action) for text in texts)
    assert agent.act(SEEN * 2, [1, 2, 3, 4]) == texts
    assert agent.act(SEEN[1:], [4]) == texts[3:]
    assert isinstance(agent_class(name).__doc__, str)
    assert dict(agent.learn([])) is not None
    agent.save(tmp_path)
    again = make(name, models)
    if any(tmp_path.iterdir()):
        again.load(tmp_path)
    assert again.act(SEEN * 2, [1, 2, 3, 4]) == texts


def test_the_fixed_ones_write_what_they_should(models):
    assert Nothing(context(models["llama"])).act(SEEN, [1, 2]) == [None, None]
    assert Passage(context(models["llama"])).act(SEEN, [1, 2]) == ["", ""]


def test_always_writes_what_a_file_says(models, tmp_path):
    file = tmp_path / "edit.txt"
    file.write_text("Ada plays the flute.\nBo, too.\n")
    agent = make("always", models, str(file))
    assert agent.act(SEEN, [1, 2]) == ["Ada plays the flute.\nBo, too.\n"] * 2
    for argument, said in [("", "always:FILE"), (str(tmp_path), "cannot read the file")]:
        with pytest.raises(UserError, match=said):
            make("always", models, argument)


def test_options_of_another_agent_are_refused(models):
    with pytest.raises(UserError, match="takes options of type"):
        agent_class("rest-em")(context(models["llama"], options=AgentOptions()))


def test_options_are_the_agents_defaults_where_none_are_given(models):
    kind = agent_class("rest-em")
    assert kind(AgentContext(env(models["llama"]))).options == kind.Options()


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_type_checkers_and_the_command_line_see_the_same_options(name):
    kind = agent_class(name)
    generic = vars(kind).get("__orig_bases__")
    declared = typing.get_args(generic[0])[0] if generic else AgentOptions
    assert getattr(declared, "__bound__", declared) is kind.Options


def test_only_agents_are_agents():
    with pytest.raises(UserError, match="not a subclass"):
        agent_class("json:loads")
    with pytest.raises(UserError, match="did you mean 'rest-em'"):
        agent_class("rest-me")


def edits(models, argument, **settings):
    return Edits(AgentContext(env(models["llama"], **settings), 0, argument))


def passages(tmp_path) -> str:
    records = [
        {"title": "T", "context": f"Passage {i}.", "questions": [{"question": "Q?", "answer": "a"}]}
        for i in range(3)
    ]
    for i, record in enumerate(records):
        record["edits"] = {"alice": f"by alice {i}"} | ({"bob": "b"} if i else {})
    place = tmp_path / "data.json"
    place.write_text(json.dumps(records))
    return str(place)


def test_edits_come_with_the_data(models, tmp_path):
    data = {"task": "squad", "data": passages(tmp_path)}
    seen = [{"context": f"T\nPassage {i}.", "model_state": None} for i in (2, 0)]
    assert edits(models, "alice", **data).act(seen, [0, 0]) == ["by alice 2", "by alice 0"]
    with pytest.raises(UserError, match=r"no self-edit for 'T Passage 0.'"):
        edits(models, "bob", **data).act(seen, [0, 0])
    with pytest.raises(UserError, match="by: alice, bob"):
        edits(models, "carol", **data)


def test_edits_come_from_a_file(models, tmp_path):
    place = tmp_path / "e.jsonl"
    place.write_text('{"context": "Ada is a vet.", "text": "x"}\n\n{"context": "C", "text": "y"}\n')
    found = edits(models, str(place)).act([SEEN[0], {"context": "Title\nC"}], [0, 0])
    assert found == ["x", "y"]


@pytest.mark.parametrize(
    ("argument", "content", "message"),
    [
        ("", None, "say whose"),
        ("gpt", None, "comes without self-edits"),
        ("none.jsonl", None, "cannot read the file"),
        ("e.jsonl", "", "holds no self-edits"),
        ("e.jsonl", "{", "line 1: need an object"),
        ("e.jsonl", '{"context": "a", "text": "b"}\n{"context": 1, "text": "b"}', "line 2: need"),
        ("e.jsonl", "[]", "line 1: need"),
        ("e.jsonl", b"\xff\xfe\xfa", "cannot read the file"),
    ],
)
def test_edits_that_cannot_be_used_are_said(
    models, tmp_path, monkeypatch, argument, content, message
):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        whole = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "e.jsonl").write_bytes(whole)
    with pytest.raises(UserError, match=message):
        edits(models, argument)


@pytest.mark.slow
def test_an_agent_of_ones_own_runs_from_its_folder(models, tmp_path):
    """The example of the documentation, just as a user would run it."""
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "module.py").write_text(EXAMPLE.read_text())
    command = [str(Path(sys.executable).with_name("seal-env")), "train"]
    command += ["--agent", "mypackage.module:Bandit", *QUICK, "--model", models["llama"]]
    command += "--rounds 2 --problems 4 --samples 4 --test-problems 4 --out run".split()
    tests = str(Path(__file__).parent)
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": tests},
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = tmp_path / "run"
    assert set(summary(run)["rows"]) >= {"none", "passage", "base", "trained"}
    learned = json.loads((run / "checkpoints" / "round-2" / "rewards.json").read_text())
    assert sum(map(len, learned.values())) == 2 * 4 * 4
    means = {kind: sum(r) / max(1, len(r)) for kind, r in learned.items()}
    best = max(means, key=means.get)
    written = [r for r in lines(run) if r["policy"] == "trained"]
    kinds = ["nothing to add", "sentence by sentence", "three times over"]
    counted = [
        kinds[min(2, r["text"].count("\n") // 5)] if r["text"] else kinds[0] for r in written
    ]
    assert len(written) == 4
    assert counted.count(best) >= 2 or len(set(means.values())) < 3
    assert not (run / "adapter").exists()


def test_the_example_comes_to_prefer_what_pays(models, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    from own_agent import KINDS, Bandit

    agent = Bandit(context(models["llama"]))
    passage = "Ada is a vet. She has a cat. She likes tea."
    seen = [{"context": passage, "model_state": None}] * 60
    experiences = []
    for text in agent.act(seen, range(60)):
        paid = float(text == KINDS["sentence by sentence"](passage))
        experiences.append(experience(seen[0], text, paid))
    numbers = agent.learn(experiences)
    assert numbers["sentence by sentence"] == 1.0
    agent.save(tmp_path)
    again = Bandit(context(models["llama"]))
    again.load(tmp_path)
    texts = again.act(seen, range(100, 160))
    assert texts.count(KINDS["sentence by sentence"](passage)) > 40
    assert isinstance(agent, Agent)


def test_pooled_self_edits_have_the_tokens_asked_for(models):
    first = make("base", models).act(SEEN, [1, 2])
    agent = make("pooled", models, "30")
    model = agent.policy.model
    for one, text in zip(first, agent.act(SEEN, [1, 2]), strict=True):
        assert text.startswith(one.text) and text.count("\n") > 1
        # Tokens that were cut from a text may be spelled in fewer.
        assert 25 <= len(model.encode(text)) <= 30
    with pytest.raises(UserError, match="pooled:400"):
        make("pooled", models, "many")
    with pytest.raises(UserError, match="at least 1"):
        make("pooled", models, "0")
    with pytest.raises(UserError, match=r"pooled:9{60}\.\.\.: give how many tokens"):
        make("pooled", models, "9" * 5000)
