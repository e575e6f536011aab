"""ReST-EM: what is kept, and that it is learned."""

import pytest
from agent_fixtures import context
from agent_fixtures import experience as experienced

from seal_agents.algorithms.rest_em import RestEM, RestEMOptions, best
from seal_env.engine.training import FinetuneConfig
from seal_env.errors import UserError


def experience(
    problem,
    text,
    reward,
    likelihood=-1.0,
    nothing=0.0,
    error="",
    passage="Ada is a vet.",
    terms=("accuracy",),
):
    info = {
        "error": error,
        "log_likelihood": likelihood,
        "log_likelihood_before": -2.0,
        "reward_before": nothing,
        "terms": dict.fromkeys(terms, reward),
    }
    return experienced({"context": passage, "model_state": None}, text, reward, problem, **info)


def texts(kept):
    return [e.text for e in kept]


def test_the_best_of_each_problem_is_kept():
    some = [experience("p", "a", 0.2), experience("q", "b", 0.1), experience("p", "c", 0.5)]
    assert texts(best(some, 1)) == ["c", "b"]
    assert texts(best(some, 2)) == ["c", "a", "b"]


def test_ties_go_to_the_likelier_gold_answers_then_to_the_earlier_sample():
    some = [
        experience("p", name, 0.5, ll) for name, ll in zip("abcd", (-3, -1.5, -1, -1), strict=True)
    ]
    assert texts(best(some, 1)) == ["c"]


@pytest.mark.parametrize("terms", [("cloze", "shift"), ("self_questions",), ("vote",)])
def test_a_reward_without_labels_has_no_labels_in_its_ties(terms):
    some = [experience("p", name, 0.5, ll, terms=terms) for name, ll in (("a", -3), ("b", -1))]
    assert texts(best(some, 1)) == ["a"]
    equal = experience("p", "likelier than nothing", 0.5, -1.0, nothing=0.5, terms=terms)
    assert best([equal], 1) == []


def test_nothing_is_kept_where_nothing_beats_doing_nothing():
    some = [
        experience("p", "worse", 0.2, nothing=0.3),
        experience("p", "equal", 0.3, -2.0, nothing=0.3),
        experience("p", "equal, less likely", 0.3, -2.5, nothing=0.3),
    ]
    assert best(some, 5) == []
    some.append(experience("p", "equal, likelier", 0.3, -1.9, nothing=0.3))
    assert texts(best(some, 5)) == ["equal, likelier"]


def test_what_could_not_be_carried_out_is_never_kept():
    assert best([experience("p", "a", 1.0, error="no text")], 1) == []


def test_a_reward_that_is_not_a_number_is_never_kept():
    assert best([experience("p", "a", float("nan"))], 1) == []


@pytest.mark.parametrize("options", [{"keep": 0}, {"rank": 0}, {"temperature": float("nan")}])
def test_bad_settings_are_refused(options):
    with pytest.raises(UserError):
        RestEMOptions(**options)


def test_the_agent_comes_to_write_what_is_rewarded(models, tmp_path):
    """An artificial reward, for a word that the random model hardly ever writes."""
    settings = FinetuneConfig(1e-2, epochs=20, batch_size=4)
    options = RestEMOptions(max_new_tokens=6, finetune=settings)
    agent = RestEM(context(models["llama"], options=options))
    seeds = list(range(24))
    watched = [{"context": "Ada is a vet.", "model_state": None}] * len(seeds)

    def worth(text):
        return float("Oslo" in text)

    def share(seeds):
        return sum(worth(one.text) for one in agent.act(watched[: len(seeds)], seeds)) / len(seeds)

    before = share(seeds)
    given = [experience(f"p{i}", text, worth(text)) for i, text in enumerate(["Oslo Oslo"] * 4)]
    given += [experience(f"p{i}", "chess chess", 0.0, -3.0) for i in range(4)]
    numbers = agent.learn(given)
    assert numbers["kept"] == 4 and numbers["kept_reward"] == 1.0
    assert numbers["problems_with_a_kept_edit"] == 1.0
    assert share(seeds) > before + 0.5

    agent.save(tmp_path)
    again = RestEM(context(models["llama"], options=options))
    again.load(tmp_path)
    assert again.act(watched, seeds) == agent.act(watched, seeds)


def test_with_nothing_kept_the_policy_stays_as_it_is(models):
    agent = RestEM(context(models["llama"], options=RestEMOptions(max_new_tokens=4)))
    before = agent.policy.adapter.weights.clone()
    numbers = agent.learn([experience("p", "a", 0.0, -3.0)])
    assert numbers["kept"] == 0 and "loss" not in numbers
    assert (agent.policy.adapter.weights == before).all()
