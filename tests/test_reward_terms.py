"""Reward terms one by one: values, bounds, and settings that make no sense."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal_env.engine.divergence import Divergence
from seal_env.errors import UserError
from seal_env.grading.squad import normalized
from seal_env.probes.drift import TextDrift
from seal_env.probes.known import KnownQuestions
from seal_env.probes.votes import Vote, Votes
from seal_env.rewards import RewardInputs, parse_reward
from seal_env.score import Score
from seal_env.tasks.base import Question

TEXT_TERMS = ("exact_match", "f1", "bleu", "chrf")


def inputs(answers, golds=(), probed=None, tokens=0):
    """What was measured of a learner that gave these answers; golds may be tuples of aliases."""
    score = Score(tuple(answers), (False,) * len(answers), (-1.0,) * len(answers))
    golds = [gold if isinstance(gold, tuple) else (gold,) for gold in golds]
    questions = tuple(Question("?", first, aliases=rest) for first, *rest in golds)
    return RewardInputs(
        score, score, questions=questions, trained_tokens=tokens, probed=probed or {}
    )


def value(name, measured, **options):
    return parse_reward(name, {name: options}).__call__(measured).reward


def parts(name, measured, **options):
    return parse_reward(name, {name: options})(measured).parts[name]


# ---- answers as texts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Chagres River.", "chagres river"),
        ("An apple, a day", "apple day"),
        ("the", ""),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("1,000", "1000"),
    ],
)
def test_squads_normalization(text, expected):
    assert normalized(text) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("the Chagres", "Chagres", 1.0, 1.0),
        ("Chagres River", "the Chagres", 0.0, 2 / 3),
        ("a b b c", "b b d", 0.0, 2 * 2 / (3 + 3)),  # "a" is an article
        ("Oslo", "Paris", 0.0, 0.0),
        ("", "Paris", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),
        ("Paris", "a", 0.0, 0.0),
    ],
)
def test_exact_match_and_f1_are_squads(answer, gold, exact, f1):
    assert value("exact_match", inputs([answer], [gold])) == exact
    assert value("f1", inputs([answer], [gold])) == pytest.approx(f1)


def test_bleu_and_chrf_are_sacrebleus():
    import sacrebleu

    answer, gold = "the cat sat on a mat today", "the cat sat on the mat"
    measured = inputs([answer], [gold])
    bleu = sacrebleu.sentence_bleu(answer, [gold]).score
    assert 0 < bleu < 100 and value("bleu", measured) == pytest.approx(bleu / 100)
    chrf = sacrebleu.sentence_chrf(answer, [gold]).score
    assert 0 < chrf < 100 and value("chrf", measured) == pytest.approx(chrf / 100)


@pytest.mark.parametrize("name", TEXT_TERMS)
def test_the_best_of_several_right_answers_counts_and_questions_are_averaged(name):
    measured = inputs(["cup of tea", "wrong"], [("coffee", "cup of tea", "x"), "right"])
    matches = parts(name, measured)["per_question"]
    assert matches[0] == 1.0 > matches[1]
    assert value(name, measured) == pytest.approx(sum(matches) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXT_TERMS)
@given(st.lists(st.tuples(st.text(), st.text().filter(str.strip)), min_size=1, max_size=4))
def test_matches_are_0_to_1_whatever_is_said(name, pairs):
    answers, golds = zip(*pairs, strict=True)
    assert 0 <= value(name, inputs(answers, golds)) <= 1


# ---- length ----------------------------------------------------------------------------------


@given(st.integers(1, 64), st.integers(0, 64), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_length_never_outweighs_an_answer(count, right, tokens, others):
    right = min(right, count - 1)

    def reward(right, tokens):
        verdicts = (True,) * right + (False,) * (count - right)
        score = Score(("",) * count, verdicts, (0.0,) * count)
        measured = RewardInputs(score, score, trained_tokens=tokens)
        return parse_reward("accuracy - length")(measured).reward

    assert 0 <= value("length", inputs([""] * count, tokens=tokens)) < 1 / count
    assert reward(right + 1, tokens) > reward(right, others)


def test_of_two_self_edits_that_teach_the_same_the_shorter_is_worth_more():
    assert value("length", inputs(["a"], tokens=10)) < value("length", inputs(["a"], tokens=11))


# ---- kl and shift ----------------------------------------------------------------------------


def drifted(kl, old, new):
    return inputs(["a"], probed={TextDrift(): Divergence(kl, old, new)})


def test_kl_is_the_divergence_up_to_a_bound():
    assert value("kl", drifted(0.25, 2.0, 2.0)) == 0.25
    assert value("kl", drifted(1e6, 2.0, 2.0)) == 10
    assert value("kl", drifted(3.0, 2.0, 2.0), most=2) == 2
    assert parts("kl", drifted(1e6, 2.0, 2.0)) == {"unbounded": 1e6}


@pytest.mark.parametrize(
    ("old", "new", "expected"), [(2.0, 1.0, 0), (2.0, 2.9, 0), (2.0, 4.0, 1), (2.0, 1e6, 10)]
)
def test_shift_is_what_the_loss_rose_above_the_margin(old, new, expected):
    assert value("shift", drifted(0.0, old, new)) == expected
    assert parts("shift", drifted(0.0, old, new)) == {"loss_before": old, "loss_after": new}


def test_the_margin_of_shift_is_a_setting():
    assert value("shift", drifted(0.0, 2.0, 4.0), margin=0.5) == 1.5


def test_probe_texts_can_be_a_file(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("One text,\ntwo lines.\n\n \n\nAnother text.\n", "utf-8")
    for name in ("kl", "shift"):
        (probe,) = parse_reward(name, {name: {"texts": str(file)}}).probes
        assert probe == TextDrift(("One text,\ntwo lines.", "Another text."))


@pytest.mark.parametrize("content", [b"", b" \n\n ", b"\xff\xfe", None])
@pytest.mark.parametrize("name", ["kl", "shift"])
def test_a_file_that_holds_no_texts_is_one_line(name, content, tmp_path):
    file = tmp_path / "texts\nfile"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"texts .*file") as error:
        parse_reward(name, {name: {"texts": str(file)}})
    assert "\n" not in str(error.value)


# ---- old_knowledge ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [((True,) * 4, 0), ((True, False, True, True), -0.25), ((False,), -1), ((), 0)],
)
def test_old_knowledge_is_the_share_that_was_forgotten(verdicts, expected):
    measured = inputs(["a"], probed={KnownQuestions(): verdicts})
    assert value("old_knowledge", measured) == expected
    counts = {"asked": len(verdicts), "right": sum(verdicts)}
    assert parts("old_knowledge", measured) == counts


# ---- vote ------------------------------------------------------------------------------------


def voted(answers, labels):
    votes = tuple(Vote(label, share) for label, share in labels)
    return inputs(answers, probed={Votes(16, 0.6, True): votes})


def test_vote_is_the_share_that_agrees_with_the_labels():
    measured = voted(["The Oslo.", "red", "blue"], [("Oslo", 0.9), ("green", 0.5), ("", 0.0)])
    assert value("vote", measured) == 0.5  # a question without a label does not count
    assert value("vote", measured, least_share=0.6) == 1.0
    assert value("vote", measured, least_share=1.0) == 0.0
    assert parts("vote", measured) == {"labels": ["Oslo", "green", ""], "shares": [0.9, 0.5, 0.0]}


# ---- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("length", {"scale": -1}),
        ("kl", {"most": 0}),
        ("kl", {"most": math.nan}),
        ("shift", {"most": math.inf}),
        ("shift", {"margin": -0.1}),
        ("shift", {"margin": math.nan}),
        ("old_knowledge", {"questions": 0}),
        ("old_knowledge", {"problems": -3}),
        ("vote", {"samples": 0}),
        ("vote", {"samples": 1 << 20}),
        ("vote", {"temperature": -1.0}),
        ("vote", {"temperature": math.inf}),
        ("vote", {"least_share": 1.5}),
        ("vote", {"sample": 3}),
        ("vote", {"samples": "many"}),
        ("length", {"scale": None}),
        ("kl", {"texts": 7}),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(name, options):
    (setting,) = options
    with pytest.raises(UserError, match=f"^reward term '{name}'.*{setting}") as error:
        parse_reward(name, {name: options})
    assert "\n" not in str(error.value)


# ---- balanced accuracy -----------------------------------------------------------------------


def test_one_answer_to_everything_is_worth_one_of_the_different_answers():
    golds = ["yes"] * 8 + ["no", "42"]
    questions = tuple(Question("?", gold) for gold in golds)

    def worth(verdicts):
        score = Score(("",) * 10, tuple(verdicts), (0.0,) * 10)
        return parse_reward("balanced_accuracy")(RewardInputs(score, score, questions=questions))

    assert worth([True] * 8 + [False] * 2).reward == pytest.approx(1 / 3)
    assert worth([False] * 8 + [True] * 2).reward == pytest.approx(2 / 3)
    assert worth([True] * 4 + [False] * 5 + [True]).parts["balanced_accuracy"] == {"answers": 3}
