"""The self-edit language `weights`: its grammar, its bounds, and any text at all."""

import random

import numpy as np
import pytest
import torch
from helpers import random_ids, weights_hash

from seal_env.edits import EDITS
from seal_env.edits.weights import VERBS, Weights, WeightsConfig
from seal_env.engine.changes import Change
from seal_env.engine.deltas import DeltaBank, Deltas, matrix_of
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError
from seal_env.tasks.base import Problem

PROBLEM = Problem("p", "", "", ())
FREE = {"max_share": 1.0, "max_change": 1e9}


def language(learner, **config):
    made = Weights(WeightsConfig(**config))
    made.bind(learner)
    return made


@pytest.fixture(scope="module")
def free(llama):
    """Without bounds that a sane text would meet."""
    return language(llama, **FREE)


@pytest.fixture(scope="module")
def gpt2(models):
    return load_learner(models["gpt2"], device="cpu")


def change(name, row, column, operation, amount):
    return Change(f"model.layers.{name}", row, column, operation, pytest.approx(amount))


def whole(layer, names, factor):
    return tuple(change(f"{layer}.{name}", None, None, "scale", factor) for name in names)


ATTENTION = [f"self_attn.{name}_proj" for name in "qkvo"]
MLP = [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
INTO = MLP[:2]
GRAMMAR = [
    ("adjust layers.1.mlp.down_proj[5, 42] by +0.001", "1.mlp.down_proj", 5, 42, "add", 0.001),
    ("Change model.layers.1.mlp.down_proj[5,42] BY -2e-3", "1.mlp.down_proj", 5, 42, "add", -2e-3),
    ("raise layers.0.mlp.up_proj [ 5 , : ] by .5", "0.mlp.up_proj", 5, None, "add", 0.5),
    ("increase layers.0.mlp.up_proj[5] by 1.", "0.mlp.up_proj", 5, None, "add", 1),
    ("increase layers.0.mlp.up_proj[:, 3] by 1", "0.mlp.up_proj", None, 3, "add", 1),
    ("increase layers.0.mlp.up_proj[:, :] by 1", "0.mlp.up_proj", None, None, "add", 1),
    ("decrease layers.0.mlp.up_proj column 3 by 1", "0.mlp.up_proj", None, 3, "add", -1),
    ("reduce col 3 of layers.0.mlp.up_proj by 1", "0.mlp.up_proj", None, 3, "add", -1),
    ("lower layers.0.mlp.up_proj by 10%", "0.mlp.up_proj", None, None, "scale", 0.9),
    ("increase layers.0.mlp.up_proj by 10 %", "0.mlp.up_proj", None, None, "scale", 1.1),
    ("adjust layers.0.mlp.up_proj by -10%", "0.mlp.up_proj", None, None, "scale", 0.9),
    ("add 0.02 to layers.0.self_attn.q_proj row 7", "0.self_attn.q_proj", 7, None, "add", 0.02),
    ("add 0.02 to row 7 of layers.0.self_attn.q_proj", "0.self_attn.q_proj", 7, None, "add", 0.02),
    ("subtract 1 from row 7, column 8 of q_proj in layer 0", "0.self_attn.q_proj", 7, 8, "add", -1),
    ("scale layer 1 down_proj by 1.05", "1.mlp.down_proj", None, None, "scale", 1.05),
    ("multiply the down_proj of layer 1 by -1", "1.mlp.down_proj", None, None, "scale", -1),
    ("set layers.1.mlp.down_proj[0, 0] to 0", "1.mlp.down_proj", 0, 0, "set", 0),
    ("set layers.1.mlp.down_proj.weight[0, 0] to 3", "1.mlp.down_proj", 0, 0, "set", 3),
    ("- adjust `layers.1.mlp.down_proj[5, 42]` by **1**.", "1.mlp.down_proj", 5, 42, "add", 1),
    ("  12) adjust layers.1.mlp.down_proj[5, 42] by −1;", "1.mlp.down_proj", 5, 42, "add", -1),
    ("* scale row 2 of layers.1.mlp.down_proj by 0", "1.mlp.down_proj", 2, None, "scale", 0),
]
GROUPS = [
    ("scale layer 1 attention by 1.05", whole(1, ATTENTION, 1.05)),
    ("Scale the attention of layer 1 by 1.05", whole(1, ATTENTION, 1.05)),
    ("scale layers.1.self_attn by 1.05", whole(1, ATTENTION, 1.05)),
    ("multiply layer 0's MLP by 0.5", whole(0, MLP, 0.5)),
    ("decrease layers.0.mlp by 50%", whole(0, MLP, 0.5)),
    ("scale layer 0 by 2", whole(0, ATTENTION + MLP, 2)),
    (
        "increase neuron 123 of layer 1 by 0.01",
        tuple(change(f"1.{name}", 123, None, "add", 0.01) for name in INTO),
    ),
    (
        "layer 0\nscale layer 0, neuron 7 by 3",
        tuple(change(f"0.{name}", 7, None, "scale", 3) for name in INTO),
    ),
]


def test_is_registered():
    assert EDITS.load("weights") is Weights


@pytest.mark.parametrize(("text", "name", "row", "column", "operation", "amount"), GRAMMAR)
def test_grammar(free, text, name, row, column, operation, amount):
    edit = free.parse(text, PROBLEM)
    assert edit.error is None
    assert edit.update.changes == (change(name, row, column, operation, amount),)


@pytest.mark.parametrize(("text", "expected"), GROUPS)
def test_what_means_several_matrices(free, text, expected):
    assert free.parse(text, PROBLEM).update.changes == expected


def test_in_gpt2_a_neuron_is_a_row_of_c_fc_and_rows_are_outputs(gpt2):
    free = language(gpt2, **FREE)
    edit = free.parse(
        "scale neuron 255 of layer 1 by 2\nscale h.0.attn.c_attn row 191 by 2", PROBLEM
    )
    names = [(c.name, c.row) for c in edit.update.changes]
    assert names == [("transformer.h.1.mlp.c_fc", 255), ("transformer.h.0.attn.c_attn", 191)]
    attention = free.parse("scale layer 0 attention by 2", PROBLEM).update.changes
    parts = [c.name.removeprefix("transformer.h.0.") for c in attention]
    assert parts == ["attn.c_attn", "attn.c_proj"]
    assert "could be 2 things" in free.parse("scale c_proj of layer 0 by 2", PROBLEM).error
    assert "from 0 to 191" in free.parse("scale h.0.attn.c_attn row 192 by 2", PROBLEM).error


def test_lines_that_are_no_instructions_are_not_looked_at(free):
    fenced = "```\nscale layer 0 by 2\r\nscale layer 1 by 2\n```"
    text = f"# a comment\nSure! Here it is:\n\n{fenced}\nDone."
    assert len(free.parse(text, PROBLEM).update.changes) == 14


def test_instructions_keep_their_order(free):
    text = "scale layers.0.mlp.up_proj by 2\nadd 1 to layers.0.mlp.up_proj"
    assert [c.operation for c in free.parse(text, PROBLEM).update.changes] == ["scale", "add"]


UP = "layers.0.mlp.up_proj"
REASONS = [
    ("", "no instruction"),
    ("Nothing to see.\n# scale", "no instruction"),
    (f"scale {UP} by 2\n\nscale layers.0.mlp.upp_proj by 2", "line 3: the model has no matrix"),
    ("scale layers.0.mlp.dwn_proj by 2", "did you mean 'layers.0.mlp.down_proj'?"),
    ("scale lm_head by 2", "output head cannot be changed"),
    ("scale model.embed_tokens by 2", "embeddings"),
    ("scale layers.0.input_layernorm.weight by 2", "norms"),
    ("scale layer 2 mlp by 2", "there is no layer 2: layers go from 0 to 1"),
    ("scale layers.2.mlp.up_proj by 2", "the model has no matrix"),
    ("scale q_proj by 2", "'q_proj' could be 2 things"),
    ("scale mlp by 2", "could be 2 things"),
    (f"scale {UP}[128, 0] by 2", "no row 128: they go from 0 to 127"),
    (f"scale {UP}[0, 64] by 2", "no column 64: they go from 0 to 63"),
    (f"scale {UP}[-1, 0] by 2", "no row -1"),
    (f"scale {UP} row 128 by 2", "no row 128"),
    (f"scale {UP} row 9999999999999 by 2", "expected one whole number after 'row'"),
    ("scale neuron 128 of layer 0 by 2", "no row 128"),
    (f"scale {UP}[1.5, 0] by 2", "[1.5,0] is no index"),
    (f"scale {UP}[1, 2, 3] by 2", "[1,2,3] is no index"),
    (f"scale {UP}[] by 2", "[] is no index"),
    (f"scale {UP}[1, 2] row 1 by 2", "given twice"),
    (f"scale {UP} row 1 row 2 by 2", "expected one whole number after 'row'"),
    (f"scale {UP} row by 2", "expected one whole number after 'row'"),
    ("scale layers.0.mlp row 3 by 2", "of which matrix? 3 are meant"),
    ("scale row 3 of layer 0 by 2", "of which matrix? 7 are meant"),
    ("scale neuron 3 by 2", "a neuron needs its layer"),
    (f"scale neuron 3 of {UP} by 2", "a neuron needs its layer"),
    ("scale neuron 3 of layer 0 row 2 by 2", "by its number and its layer alone"),
    ("scale row 3 by 2", "no target"),
    ("scale [3, 3] by 2", "no target"),
    (f"scale {UP} and layers.1.mlp by 2", "expected one name"),
    (f"adjust {UP}[5, 5] by inf", "inf is not finite"),
    (f"adjust {UP}[5, 5] by -Infinity", "-infinity is not finite"),
    (f"adjust {UP}[5, 5] by nan", "nan is not finite"),
    (f"adjust {UP}[5, 5] by 1e400", "1e400 is not finite"),
    (f"adjust {UP}[5, 5] by 1e39", "1e39 is not finite as a float32"),
    (f"adjust {UP}[5, 5] by {'9' * 5000}", "has 5000 characters, too many for a number"),
    (f"adjust {UP}[5, 5] by 1e400%", "is not finite"),
    (f"adjust {UP}[5, 5] by two", "'two' is no number"),
    (f"adjust {UP}[5, 5] by 0x10", "'0x10' is no number"),
    (f"adjust {UP}[5, 5] by 1_0", "'1_0' is no number"),
    (f"adjust {UP}[5, 5] by ٣", "is no number"),
    (f"scale {UP} by 105%", "'105%' is no number"),
    (f"add 5% to {UP}", "'5%' is no number"),
    (f"scale {UP} to 2", "expected 'scale TARGET by NUMBER'"),
    (f"set {UP} by 2", "expected 'set TARGET to NUMBER'"),
    (f"add 2 {UP}", "expected 'add AMOUNT to TARGET'"),
    (f"subtract 2 to {UP}", "expected 'subtract AMOUNT from TARGET'"),
    ("scale", "expected 'scale TARGET by NUMBER'"),
    ("scale by 2", "expected 'scale TARGET by NUMBER'"),
]


@pytest.mark.parametrize(("text", "reason"), REASONS)
def test_errors_say_why_in_one_line(free, text, reason):
    edit = free.parse(text, PROBLEM)
    assert edit.update is None
    assert reason in edit.error
    assert "\n" not in edit.error
    assert len(edit.error) < 300


def test_what_is_no_text_is_an_error(free):
    for action in (None, 3, b"scale layer 0 by 2", ["scale layer 0 by 2"], np.zeros(3)):
        assert "is a text" in free.parse(action, PROBLEM).error


def test_before_it_is_bound_everything_is_an_error():
    assert "which model" in Weights().parse("scale layer 0 by 2", PROBLEM).error


def test_bounds(llama):
    total = sum(m.size for m in language(llama).matrices.all.values())
    share = 128 * 64 / total
    assert language(llama, max_share=share).parse(f"scale {UP} by 1.01", PROBLEM).error is None
    tight = language(llama, max_share=share * 0.999)
    assert (
        "of the editable weights would be touched" in tight.parse(f"scale {UP} by 1", PROBLEM).error
    )
    # Rows, columns and cells that meet are counted once.
    lines = [f"scale {UP} row {i} by 1.01" for i in range(3)] + [f"scale {UP} column 5 by 1.01"]
    lines += [f"scale {UP}[0, 7] by 1.01", f"scale {UP}[9, 5] by 1.01", f"scale {UP}[9, 9] by 1.01"]
    touched = 3 * 64 + 125 + 1
    text = "\n".join(lines)
    assert language(llama, max_share=(touched + 0.5) / total).parse(text, PROBLEM).error is None
    error = language(llama, max_share=(touched - 0.5) / total).parse(text, PROBLEM).error
    assert error.startswith("line 7: ")

    small = language(llama, max_change=0.1)
    assert small.parse(f"scale {UP} by 1.099", PROBLEM).error is None
    assert small.parse(f"scale {UP} by 0.901", PROBLEM).error is None
    assert "of its norm" not in (small.parse(f"scale {UP} by 1.099", PROBLEM).error or "")
    assert "at most 0.1 of it" in small.parse(f"scale {UP} by 1.101", PROBLEM).error
    # The bound is on what all instructions come to.
    assert small.parse(f"scale {UP} by 1.06\nscale {UP} by 1.06", PROBLEM).error
    assert small.parse(f"scale {UP} by 2\nscale {UP} by 0.5", PROBLEM).error is None
    norm = float(matrix_of(llama.model, f"model.{UP}").norm())
    assert small.parse(f"adjust {UP}[0, 0] by {0.099 * norm}", PROBLEM).error is None
    assert small.parse(f"adjust {UP}[0, 0] by {0.101 * norm}", PROBLEM).error
    assert small.parse(f"scale {UP} by 1e30\nscale {UP} by 1e30", PROBLEM).error

    few = language(llama, max_instructions=2, max_characters=100)
    line = f"scale {UP} by 1\n"
    assert few.parse(line * 2 + "prose", PROBLEM).error is None
    assert few.parse(line * 3, PROBLEM).error == "3 instructions: at most 2 are allowed"
    assert few.parse(" " * 101, PROBLEM).error == "101 characters: at most 100 are allowed"


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        ("layers.[1-3].mlp.*", "scale layer 1 mlp by 1.01", "scale layer 0 mlp by 1.01"),
        ("model.layers.1.mlp.*", "scale layer 1 mlp by 1.01", "scale layer 1 attention by 1.01"),
        ("DOWN_PROJ", "scale layer 1 down_proj by 1.01", "scale layer 1 mlp by 1.01"),
        ("*.self_attn.*", "scale layer 1 attention by 1.01", "scale layer 1 by 1.01"),
    ],
)
def test_only_what_is_editable_can_be_changed(llama, pattern, allowed, refused):
    some = language(llama, editable=pattern, **FREE)
    assert some.parse(allowed, PROBLEM).error is None
    error = some.parse(refused, PROBLEM).error
    assert "may not be changed" in error
    assert pattern in error


@pytest.mark.parametrize("pattern", ["layers.[5-7].mlp.*", "lm_head", "", "norm"])
def test_a_pattern_that_fits_nothing_is_the_users_error(llama, pattern):
    with pytest.raises(UserError, match="fits no matrix") as error:
        language(llama, editable=pattern)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        {"max_share": 0},
        {"max_share": float("nan")},
        {"max_change": -1},
        {"max_change": float("inf")},
        {"max_instructions": 0},
        {"max_characters": 0},
    ],
)
def test_senseless_settings(config):
    with pytest.raises(UserError):
        WeightsConfig(**config)


WORDS = [
    *VERBS,
    *"by to from of the row column neuron layer attention mlp weight [ ] , : % . - [[3]]".split(),
    *"layers.0.mlp.up_proj layers.1.self_attn.q_proj down_proj k_proj lm_head layers.0".split(),
    *"0 1 2 -1 7 63 64 127 128 1e400 inf nan 0.001 1.05 -0.5 1e38 -1e-50 5% 9999999999999".split(),
    *"[5,42] [0,0] [:,3] [1] [-1,2] [1e3,2] \x00 \ud800 − ٣ Ⅷ İ".split(),
]
TARGETS = (
    "neuron 5 of layer 0",
    "layer 1 mlp",
    "layers.0.mlp.up_proj",
    "layers.1.mlp.down_proj[3, 4]",
)


def near_the_bounds(draw):
    """A sound instruction, often too large by a little."""
    target, size = draw.choice(TARGETS), draw.choice((1e-4, 0.01, 0.1, 0.3, 1.0, 10.0))
    amount = draw.uniform(-size, size)
    return draw.choice(
        (
            f"adjust {target} by {amount:+.3e}",
            f"add {amount} to {target}",
            f"decrease {target} by {amount * 100:.3f}%",
            f"scale {target} by {1 + amount}",
            f"set {target} to {amount:g}",
        )
    )


def fuzz(count):
    """Texts: arbitrary characters, the language's words in any order, and lines gone wrong."""
    draw = random.Random(0)
    lines = [text for text, *_ in GRAMMAR + GROUPS + REASONS if len(text) < 200]
    for _ in range(count):
        length = draw.choice((3, 30, 300))
        yield "".join(chr(draw.randrange(0x110000)) for _ in range(draw.randrange(length)))
    for index in range(count):
        some = [draw.choice(lines) for _ in range(draw.randrange(1, 4))]
        if index % 4 == 0:
            some = [" ".join(draw.choices(WORDS, k=draw.randrange(1, 9))) for _ in some]
        elif index % 4 == 1:
            words = "\n".join(some).split(" ")
            for _ in range(draw.randrange(1, 3)):
                words[draw.randrange(len(words))] = draw.choice(WORDS)
            some = [" ".join(words)]
        elif index % 4 == 2:
            some = [near_the_bounds(draw) for _ in some]
        yield draw.choice(("\n", "\r\n", "\x0b", "\u2028")).join(some)


@pytest.mark.slow
def test_any_text_is_an_error_or_within_all_bounds_and_nothing_is_written(llama):
    """10,000 texts; the bounds are checked on matrices that are worked out here."""
    before = weights_hash(llama.model)
    config = WeightsConfig(editable="layers.*.mlp.*", max_share=0.4, max_change=0.3)
    made = language(llama, **vars(config))
    base = {
        name: matrix_of(llama.model, name).double().numpy()
        for name, matrix in made.matrices.all.items()
        if matrix.editable
    }
    total = sum(matrix.size for matrix in base.values())
    good, carried_out = 0, []
    for text in fuzz(5000):
        edit = made.parse(text, PROBLEM)
        assert edit == made.parse(text, PROBLEM)
        if edit.error is not None:
            assert edit.error.strip()
            assert "\n" not in edit.error
            assert edit.update is None
            continue
        good += 1
        assert edit.update.changes
        now = {name: base[name].copy() for name in {c.name for c in edit.update.changes}}
        touched = {name: np.zeros(matrix.shape, bool) for name, matrix in now.items()}
        for c in edit.update.changes:
            place = (
                slice(None) if c.row is None else c.row,
                slice(None) if c.column is None else c.column,
            )
            new = {"add": now[c.name][place] + c.amount, "scale": now[c.name][place] * c.amount}
            now[c.name][place] = new.get(c.operation, c.amount)
            touched[c.name][place] = True
        assert sum(mask.sum() for mask in touched.values()) <= 0.4 * total
        deltas = Deltas.of(llama.model, edit.update.changes)
        for name, matrix in now.items():
            delta = matrix - base[name]
            assert np.linalg.norm(delta) <= 0.3001 * np.linalg.norm(base[name])
            np.testing.assert_allclose(deltas.matrices[name].numpy(), delta, atol=1e-4)
        if good % 50 == 1:
            carried_out.append(deltas)
    assert 500 < good < 1500
    bank = DeltaBank(carried_out, torch.device("cpu"))
    owners = list(range(len(carried_out)))
    scores = llama.score(
        [random_ids(9, 1)] * len(owners), [random_ids(2, 2)] * len(owners), owners, bank
    )
    assert np.isfinite(scores).all()
    assert len(set(scores)) > len(owners) // 4
    assert weights_hash(llama.model) == before


@pytest.mark.slow
def test_long_lines_take_no_time_to_speak_of(llama):
    """Linear: what takes quadratic time at this length would run into the suite's time limit."""
    made = language(llama, max_characters=1 << 21)
    for piece in (" ", "[", "] ", "scale ", "1", "% ", "-", ".", "row 1 ", "[5 ,", "\n- ", "by "):
        text = "scale " + piece * ((1 << 20) // len(piece))
        assert made.parse(text, PROBLEM).error
