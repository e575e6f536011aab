"""The embedded world of one-row grids, its tools, and what its model is pretrained on."""

from collections import Counter
from random import Random

import pytest

from seal_env.edits.directives import Directives, write_directive
from seal_env.engine.generation import generate
from seal_env.engine.loading import load_learner
from seal_env.engine.sampling import Sampling
from seal_env.errors import UserError
from seal_env.inner_loop import InnerLoop, Request
from seal_env.menus.base import load_menu
from seal_env.presets import model_preset
from seal_env.pretraining.common import IGNORED
from seal_env.pretraining.grid_corpus import PAIRS, GridCorpus
from seal_env.pretraining.tokenizer import build_grid_tokenizer
from seal_env.prompts import render_prompt
from seal_env.tasks import SPLITS
from seal_env.tasks.grids.families import CELLS, FAMILIES, REMARKS_ON
from seal_env.tasks.grids.grid import Pair, parse_demonstrations, parse_grid
from seal_env.tasks.grids.tiny_grids import (
    DEMONSTRATIONS,
    EPOCHS,
    LEARNING_RATES,
    TESTS,
    Rearrange,
    TinyGrids,
)

WORLD = TinyGrids()


def explains(family, pairs):
    return all((family.apply(pair.input[0]),) == pair.output for pair in pairs)


def pairs_of(example):
    """All pairs of a generated example, the answer's among them."""
    return parse_demonstrations(example.prompt + example.answer)


@pytest.fixture(scope="module")
def tokenizer():
    return build_grid_tokenizer(512)


@pytest.fixture(scope="module")
def documents(tokenizer):
    return GridCorpus(tokenizer, seed=1).batch(60_000)


@pytest.mark.parametrize("split", [*SPLITS, "known"])
def test_problems_show_and_ask_their_family(split):
    for index in range(len(FAMILIES[split])):
        problem = WORLD.problem(split, index)
        family = WORLD.family(split, index)
        assert family == FAMILIES[split][index]
        assert len(problem.examples) == DEMONSTRATIONS
        assert len(problem.questions) == TESTS
        assert {question.subject for question in problem.questions} == {family.name}
        assert explains(family, problem.examples)
        shown = {cell for pair in problem.examples for cell in pair.input[0]}
        for question in problem.questions:
            asked = question.text.splitlines()[-2].removeprefix("Input:")
            pair = Pair(parse_grid(asked), parse_grid(question.answer))
            assert explains(family, [pair])
            assert shown.issuperset(pair.input[0])


def test_problems_are_fixed_by_seed_split_and_index():
    problem = WORLD.problem("test", 3)
    assert TinyGrids().problem("test", 3) == problem
    others = [TinyGrids(seed=1).problem("test", 3), WORLD.problem("test", 13)]
    assert WORLD.family("test", 13) == WORLD.family("test", 3)
    assert all(other.context != problem.context for other in others)
    assert len({WORLD.problem("train", i).id for i in range(300)}) == 300


def test_gold_answers_are_right_and_one_changed_cell_is_wrong():
    problem = WORLD.problem("test", 0)
    gold = [question.answer for question in problem.questions]
    assert all(WORLD.grade(problem, gold))
    for cell in range(CELLS):
        cells = gold[0].split(" ")
        cells[cell] = "1" if cells[cell] != "1" else "2"
        assert WORLD.grade(problem, [" ".join(cells), *gold[1:]]) == [False] + [True] * 7


def test_splits_and_indices_that_are_not_there():
    with pytest.raises(UserError, match="unknown split 'dev'"):
        WORLD.problem("dev", 0)
    with pytest.raises(UserError, match="indices start at 0"):
        WORLD.problem("train", -1)
    assert WORLD.size("train") is None


@pytest.mark.parametrize(("tool", "kind"), [("colors", "positions"), ("positions", "colors")])
def test_a_tool_keeps_the_operation_of_one_kind_and_not_of_the_other(tool, kind):
    for index in range(len(FAMILIES["test"])):
        problem, family = WORLD.problem("test", index), WORLD.family("test", index)
        examples = WORLD.generate(problem, [tool], seed=0)
        assert len(examples) == WORLD.max_examples
        kept = sum(explains(family, pairs_of(example)) for example in examples)
        plain = len(WORLD.generate(problem, [], seed=0))
        assert kept == len(examples) if family.kind == kind else kept <= plain + 3


def test_what_is_generated_holds_no_test_grid():
    problem = WORLD.problem("test", 1)
    tests = {question.text.splitlines()[-2] for question in problem.questions}
    for example in WORLD.generate(problem, [], seed=0):
        assert tests.isdisjoint(example.prompt.splitlines())
        assert pairs_of(example)[-1] in problem.examples


def test_rearranging_is_undone_by_its_inverse():
    random = Random(0)
    grid = ((1, 2, 3, 4, 5, 6), (6, 6, 1, 2, 9, 8))
    for _ in range(50):
        change = Rearrange.draw(random)
        assert change.inverse(change.apply(grid)) == grid
        assert Counter(change.apply(grid)[1]) == Counter(grid[1])
    assert Rearrange((5, 4, 3, 2, 1, 0)).name == "rearrange-543210"


def test_text_of_the_world_survives_its_tokenizer(tokenizer):
    problem = WORLD.problem("train", 0)
    texts = [render_prompt("directives", "", WORLD.reads(problem))]
    texts += [question.text for question in problem.questions]
    texts += [example.prompt for example in WORLD.generate(problem, WORLD.tools, 0)]
    texts += [Directives(WORLD.tools).example(problem), Directives().example(problem), "1 2 | 3 4"]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
        assert tokenizer(tokenizer.decode(ids))["input_ids"] == ids


def test_there_is_as_much_as_was_asked_for(documents):
    sizes = [len(ids) for ids, _ in documents]
    assert 60_000 <= sum(sizes) < 60_000 + max(sizes)


def test_demonstrations_are_of_known_operations_and_learned_from_the_second_on(
    tokenizer, documents
):
    seen = Counter()
    for ids, labels in documents:
        text = tokenizer.decode(ids, skip_special_tokens=True)
        pairs = parse_demonstrations(text)
        if "Directives:" in text:
            continue
        assert len(pairs) == PAIRS
        fitting = [f for f in FAMILIES["known"] if explains(f, pairs)]
        assert len(fitting) == 1
        seen[fitting[0].name] += 1
        learned = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]
        assert learned == [label for label in labels if label != IGNORED]
        outputs = [" ".join(map(str, pair.output[0])) for pair in pairs[1:]]
        assert tokenizer.decode(learned, skip_special_tokens=True).strip().split("\n") == outputs
    assert set(seen) == {family.name for family in FAMILIES["known"]}


def test_directives_are_valid_and_of_all_sorts(tokenizer, documents):
    found, drawn_of_them = Counter(), 0
    for ids, labels in documents:
        text = tokenizer.decode(ids)
        if "Directives:" not in text:
            continue
        start = sum(label == IGNORED for label in labels)
        context = tokenizer.decode(ids[:start])
        assert len(parse_demonstrations(context)) == DEMONSTRATIONS
        assert context.endswith("\n\nDirectives:\n")
        assert ids[-1] == tokenizer.eos_token_id
        written = tokenizer.decode(ids[start:])
        edit = Directives(WORLD.tools).parse(written, WORLD.problem("train", 0))
        pairs = parse_demonstrations(context)
        moved = all(Counter(p.input[0]) == Counter(p.output[0]) for p in pairs)
        assert written.startswith(REMARKS_ON["positions" if moved else "colors"] + "\n")
        held_out = [f for split in ("train", "validation", "test") for f in FAMILIES[split]]
        drawn_of_them += any(explains(f, pairs) for f in held_out)
        assert edit.error is None
        found.update(
            [
                edit.update.tools,
                edit.update.training.learning_rate,
                edit.update.training.outputs_only,
            ]
        )
        found[f"x{edit.update.training.epochs}"] += 1
    assert drawn_of_them <= 2  # four demonstrations can fit two operations
    tools = [(), ("colors",), ("positions",), ("colors", "positions")]
    epochs = [f"x{number}" for number in EPOCHS]
    assert set(found) == {*tools, *LEARNING_RATES, *epochs, True, False}


def test_the_seed_fixes_the_stream(tokenizer):
    first = GridCorpus(tokenizer, 3).batch(3000)
    assert first == GridCorpus(tokenizer, 3).batch(3000)
    assert first != GridCorpus(tokenizer, 4).batch(3000)


def test_the_menu_is_every_recipe_that_the_model_writes(tokenizer):
    edits = Directives(WORLD.tools)
    menu = load_menu(None, WORLD, edits, ("directives", "few-shot"))
    problem = WORLD.problem("train", 0)
    found = set()
    for chosen in menu.combinations():
        text = menu.render(problem.context, chosen)
        edit = edits.parse(text, problem)
        assert edit.error is None
        found.add((edit.update.tools, edit.update.training))
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
    assert len(found) == 4 * len(LEARNING_RATES) * len(EPOCHS) * 2


@pytest.fixture(scope="module")
def loop():
    return InnerLoop(load_learner("tiny-grids"), WORLD, model_preset("tiny-grids").inner)


def mean(scores):
    return sum(score.accuracy for score in scores) / len(scores)


@pytest.mark.slow
def test_the_model_continues_known_operations_and_no_held_out_ones(loop):
    known = [WORLD.problem("known", i) for i in range(26)]
    held_out = [WORLD.problem("test", i) for i in range(20)]
    assert mean(loop.baselines(known)) > 0.95
    assert mean(loop.baselines(held_out)) < 0.15


@pytest.mark.slow
def test_which_tool_helps_depends_on_the_operation(loop):
    edits, requests = Directives(WORLD.tools), []
    for index in (0, 3):
        problem = WORLD.problem("test", index)
        for tool in ("colors", "positions"):
            text = write_directive(WORLD.tools, [tool], 0.003, 4)
            requests.append(Request(problem, edits.parse(text, problem), seed=0))
    after = [outcome.after.accuracy for outcome in loop.run(requests)]
    moved, recolored = after[:2], after[2:]
    assert moved[0] > moved[1] + 0.5
    assert recolored[1] > recolored[0] + 0.5


@pytest.mark.slow
def test_the_model_writes_directives_of_all_sorts(loop):
    problems = [WORLD.problem("test", i) for i in range(60)]
    learner, edits = loop.learner, Directives(WORLD.tools)
    prompts = [learner.encode(render_prompt("directives", "", WORLD.reads(p))) for p in problems]
    ids = generate(learner, prompts, Sampling(64, temperature=1.0), seeds=list(range(60)))
    found = [edits.parse(learner.decode(one), p) for one, p in zip(ids, problems, strict=True)]
    valid = [edit for edit in found if edit.error is None]
    assert len(valid) >= 57
    assert {edit.update.tools for edit in valid} >= {(), ("colors",), ("positions",)}
    assert {edit.update.training.learning_rate for edit in valid} >= set(LEARNING_RATES)
    assert {edit.update.training.epochs for edit in valid} >= set(EPOCHS)
