"""Agents learn on the tokens that were sampled, where a text has several spellings."""

import pytest
import torch
from agent_fixtures import context, experience
from helpers import save_model
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from seal_agents.algorithms.grpo import GRPO, RLOO
from seal_agents.algorithms.ppo import ProximalPolicy
from seal_agents.algorithms.rest_em import RestEM
from seal_agents.algorithms.self_rewarding import SelfRewarding
from seal_agents.base import Experience
from seal_env.wrappers.sb3.tokens import written

A, B, AB, BREAK, END = 4, 5, 6, 7, 3
COUNT, LENGTH = 16, 24
SEEN = [{"context": "a b ab", "model_state": None}, {"context": "bab", "model_state": None}]


@pytest.fixture(scope="module")
def spelled(tmp_path_factory) -> str:
    """Folder of a random model that can write "ab" as [a][b], or as [ab] like its tokenizer."""
    words = ["<pad>", "<unk>", "<s>", "</s>", "a", "b", "ab", "\n"]
    vocabulary = {word: index for index, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocabulary, [("a", "b")], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    special = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in special.items()},
    )
    return save_model("llama", tmp_path_factory.mktemp("models") / "spelled", tokenizer)


def make(kind, model, **options):
    given = {"max_new_tokens": LENGTH, "rank": 4, "temperature": 2.0, **options}
    return kind(context(model, options=kind.Options(**given)))


def play(agent):
    """A round as the run would make it, with rewards that differ within each group."""
    observations = [SEEN[i * len(SEEN) // COUNT] for i in range(COUNT)]
    actions = agent.act(observations, range(COUNT))
    return [
        experience(o, one, float(i % 3), group=o["context"])
        for i, (o, one) in enumerate(zip(observations, actions, strict=True))
    ]


def unusual(agent, given):
    """Those that are not spelled as the tokenizer would spell them."""
    return [e for e in given if agent.policy.tokens.encode(e.text) != list(e.tokens)]


def test_the_model_samples_other_spellings(spelled):
    agent = make(RestEM, spelled)
    given = play(agent)
    assert len(unusual(agent, given)) >= 4
    assert any((A, B) in zip(e.tokens, e.tokens[1:], strict=False) for e in given)
    assert agent.policy.model.encode("ab") == [AB]


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_ratios_of_ppo_begin_at_1_on_the_sampled_tokens(spelled, ratio):
    agent = make(ProximalPolicy, spelled, importance_sampling_level=ratio)
    buffers = []
    agent.ppo.train = lambda: buffers.append(agent.ppo.rollout_buffer)
    given = play(agent)
    agent.learn(given)
    ((samples,),) = (list(buffer.get(COUNT)) for buffer in buffers)
    learned = [written(row, agent.policy.model.stop_ids) for row in samples.actions.numpy()]
    assert sorted(learned) == sorted(list(e.tokens) for e in given)
    now = agent.actor.evaluate_actions(samples.observations, samples.actions)[1]
    ratios = (now - samples.old_log_prob).exp()
    torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_ratios_of_grpo_begin_at_1_on_the_sampled_tokens(spelled, ratio, monkeypatch):
    from seal_agents.trl.trainers import RoundGRPO

    seen = []

    def spy(trainer, model, inputs):
        ids = [torch.cat([inputs[f"prompt_{x}"], inputs[f"completion_{x}"]], 1) for x in KEYS]
        with torch.no_grad():
            length = inputs["completion_ids"].shape[1]
            now = trainer._get_per_token_logps_and_entropies(model, *ids, length)[0]
        seen.append((inputs, now))
        return real(trainer, model, inputs)

    KEYS = ("ids", "mask")
    real = RoundGRPO._compute_loss
    monkeypatch.setattr(RoundGRPO, "_compute_loss", spy)
    agent = make(GRPO, spelled, importance_sampling_level=ratio)
    given = play(agent)
    agent.learn(given)
    inputs, now = seen[0]  # before any update
    mask = inputs["completion_mask"].bool()
    rows = zip(inputs["completion_ids"], mask, strict=True)
    learned = [tuple(ids[real].tolist()) for ids, real in rows]
    assert learned and set(learned) <= {e.tokens for e in given}
    ratios = (now - inputs["old_per_token_logps"])[mask].exp()
    torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=0, atol=1e-4)
    sampled = torch.tensor([p for e in given for p in e.log_probs]).sort().values
    used = torch.cat([one["old_per_token_logps"][one["completion_mask"].bool()] for one, _ in seen])
    assert torch.isin(used, sampled).all()  # those of the sampler, not the trainer's own


@pytest.mark.slow
def test_rloo_learns_the_sampled_tokens(spelled, monkeypatch):
    from seal_agents.trl.trainers import Round

    agent = make(RLOO, spelled)
    given, real, seen = play(agent), Round.rollout, []
    monkeypatch.setattr(Round, "rollout", lambda *args: seen.append(real(*args)) or seen[-1])
    agent.learn(given)
    assert seen[0]["completion_ids"] == [list(e.tokens) for e in given]


def test_rest_em_learns_the_sampled_tokens(spelled, monkeypatch):
    import seal_agents.policies.language_model as module

    agent, seen, real = make(RestEM, spelled), [], module.finetune
    monkeypatch.setattr(
        module, "finetune", lambda *args: seen.extend(args[2][0].examples) or real(*args)
    )
    given = play(agent)
    agent.policy.imitate(given, agent.options.finetune, 0)
    assert [one.ids[one.unscored :] for one in seen] == [e.tokens for e in given]


@pytest.mark.slow
def test_self_rewarding_prefers_among_the_sampled_tokens(spelled, monkeypatch):
    import seal_agents.trl.trainers as module

    agent, rows, real = make(SelfRewarding, spelled, judge="likelihood"), [], module.dataset
    monkeypatch.setattr(module, "dataset", lambda given: rows.extend(given) or real(given))
    given = play(agent)
    agent.learn(given)
    sampled = {e.tokens for e in given}
    assert rows and all(
        tuple(row[name]) in sampled for row in rows for name in ("chosen_ids", "rejected_ids")
    )


def told(text, tokens, ended=True):
    log_probs = tuple(-0.1 * i for i in range(len(tokens)))
    return Experience(SEEN[0], text, 1.0, {}, "p", tuple(tokens), log_probs, ended)


def test_what_was_cut_between_tokens_is_learned_as_far_as_it_was_sampled(spelled):
    policy = make(RestEM, spelled).policy
    whole = policy.tokenize(told("abab\nb", [A, B, AB, BREAK, B, END]))
    assert whole.completion_ids == [A, B, AB, BREAK, B, END]
    assert whole.log_probs == pytest.approx([0.0, -0.1, -0.2, -0.3, -0.4, -0.5])
    cut = policy.tokenize(told("abab", [A, B, AB, BREAK, B, END]))
    assert cut.completion_ids == [A, B, AB]  # and no end, which the policy did not write there
    assert cut.log_probs == pytest.approx([0.0, -0.1, -0.2])
    limit = policy.tokenize(told("abab", [A, B, AB], ended=False))
    assert limit.completion_ids == [A, B, AB]
    silent = policy.tokenize(told("", [END]))
    assert silent == (policy.read(SEEN[0]), [END], [0.0])


@pytest.mark.parametrize(
    "changed",
    [
        told("aba", [A, B, AB, B, END]),  # cut inside of a token
        told("ba", [A, B, AB, B, END]),  # replaced
        told("", [A, B, END]),  # nothing is left
        Experience(SEEN[0], "aba", 1.0, {}, "p"),  # a text alone
    ],
)
def test_what_has_no_sampled_tokens_is_learned_in_its_usual_spelling(spelled, changed):
    policy = make(RestEM, spelled).policy
    expected = policy.tokens.encode(changed.text)
    assert policy.tokenize(changed) == (policy.read(SEEN[0]), expected, None)
    assert expected[-1] == END


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ProximalPolicy, GRPO])
def test_what_was_cut_can_be_learned_from(spelled, kind):
    """Beside what was not, and beside texts alone, as in a folder of an older version."""
    from dataclasses import replace

    agent = make(kind, spelled)
    given = [
        replace(e, text=e.text[: 1 + i % 3]) if i % 2 else replace(e, tokens=None, log_probs=None)
        for i, e in enumerate(play(agent))
    ]
    before = agent.policy.adapter.weights.clone()
    assert agent.learn(given)
    assert agent.policy.adapter.weights.isfinite().all()
    assert (agent.policy.adapter.weights != before).any()
