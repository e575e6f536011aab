"""The task `multiple-choice`: reading MMLU's forms, and answers by likelihood."""

import json
import math

import gymnasium as gym
import pytest
from helpers import INNER

from seal_env.asking import Asker
from seal_env.errors import UserError
from seal_env.tasks.multiple_choice import MultipleChoice

ROWS = [
    {"question": "Who plays the flute?", "choices": ["Ada", "Bo", "Cy"], "answer": 1},
    {"question": "Who has a goat?", "choices": ["Ada", "Bo"], "answer": "A"},
    {"question": "Who eats pasta?", "choices": ["Ada", "Bo", "Cy", "Di"], "answer": "Di"},
]
CSV = "Who plays the flute?,Ada,Bo,Cy,B\n\nWho has a goat?,Ada,Bo,Cy,A\n"
HEADED = "question,A,B,C,answer,subject\nWho sings?,Ada,Bo,Cy,C,school_music\nWho?,Ada,Bo,,A,x\n"


def written(tmp_path, content, name="questions.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def asked(task):
    problems = [task.problem("all", i) for i in range(task.size("all"))]
    return [question for problem in problems for question in problem.questions]


def test_letters_list_the_choices(tmp_path):
    questions = asked(MultipleChoice(written(tmp_path, ROWS)))
    assert questions[0].text == "Who plays the flute?\nA. Ada\nB. Bo\nC. Cy\nAnswer:"
    assert [q.answer for q in questions] == ["B", "A", "D"]
    assert [q.choices for q in questions] == [tuple("ABC"), tuple("AB"), tuple("ABCD")]


def test_texts_ask_for_the_choice_itself(tmp_path):
    questions = asked(MultipleChoice(written(tmp_path, ROWS), style="texts"))
    assert questions[0].text == "Question: Who plays the flute?\nAnswer:"
    assert [q.answer for q in questions] == ["Bo", "Ada", "Di"]
    assert questions[2].choices == ("Ada", "Bo", "Cy", "Di")


def test_lines_and_csv_say_the_same(tmp_path):
    lines = "\n".join(json.dumps(row) for row in ROWS)
    of_lines = asked(MultipleChoice(written(tmp_path, lines, "q.jsonl")))
    assert of_lines == asked(MultipleChoice(written(tmp_path, ROWS)))
    of_csv = asked(MultipleChoice(written(tmp_path, CSV, "q.csv")))
    assert [q.answer for q in of_csv] == ["B", "A"]
    tabs = written(tmp_path, CSV.replace(",", "\t"), "q.tsv")
    assert asked(MultipleChoice(tabs)) == of_csv


def test_a_csv_header_names_the_fields(tmp_path):
    task = MultipleChoice(written(tmp_path, HEADED, "q.csv"))
    first, second = (task.problem("all", i) for i in range(2))
    assert (first.title, first.questions[0].answer) == ("school music", "C")
    assert second.questions[0].choices == ("A", "B")  # an empty field is no choice


def test_questions_of_a_context_or_a_subject_are_one_problem(tmp_path):
    rows = [row | {"context": "Ada and Bo met.", "subject": "people"} for row in ROWS]
    rows += [row | {"subject": "music"} for row in ROWS]
    task = MultipleChoice(written(tmp_path, rows), group=2)
    problems = [task.problem("all", i) for i in range(task.size("all"))]
    assert [len(p.questions) for p in problems] == [2, 1, 2, 1]
    assert [p.context for p in problems] == ["Ada and Bo met."] * 2 + [""] * 2
    assert len({p.id for p in problems}) == 4
    for problem in problems:
        read = task.reads(problem)
        assert not any(q.text in read or "flute" in read for q in problem.questions)


def test_one_context_falls_into_one_split(tmp_path):
    rows = [r | {"context": f"Passage {i}."} for i in range(12) for r in ROWS]
    task = MultipleChoice(written(tmp_path, rows), group=1)
    splits = {
        name: {task.problem(name, i).context for i in range(task.size(name))}
        for name in ("train", "validation", "test")
    }
    assert sum(task.size(name) for name in splits) == task.size("all") == 36
    assert [len(contexts) for contexts in splits.values()] == [10, 1, 1]
    assert not splits["train"] & (splits["validation"] | splits["test"])


@pytest.mark.parametrize("style", ["letters", "texts"])
def test_gold_answers_are_right_and_others_wrong(tmp_path, style):
    task = MultipleChoice(written(tmp_path, ROWS), style=style)
    problem = task.problem("all", 0)
    golds = [q.answer for q in problem.questions]
    assert task.grade(problem, golds) == [True] * 3
    others = [next(c for c in q.choices if c != q.answer) for q in problem.questions]
    assert task.grade(problem, others) == [False] * 3


@pytest.mark.parametrize("style", ["letters", "texts"])
def test_the_answer_is_the_likeliest_choice(llama, tmp_path, style):
    task = MultipleChoice(written(tmp_path, ROWS), style=style)
    problem = task.problem("all", 0)
    (score,) = Asker(llama, task, None, 10_000).ask([problem], [0], None)
    for question, answer, likelihood in zip(
        problem.questions, score.answers, score.log_likelihoods, strict=True
    ):
        prompt = llama.encode(question.text)
        options = [llama.encode_answer(" " + choice) for choice in question.choices]
        alone = [llama.score([prompt], [ids], [0], None)[0] for ids in options]
        assert answer == question.choices[alone.index(max(alone))]
        assert likelihood == alone[question.choices.index(question.answer)]


def test_an_episode_asks_before_and_after(models, tmp_path):
    rows = [row | {"context": "Bo plays the flute."} for row in ROWS]
    env = gym.make(
        "SelfEdit-v0",
        task="multiple-choice",
        data=written(tmp_path, rows),
        model=models["llama"],
        inner=INNER,
        split="all",
    )
    observation, _ = env.reset(seed=0)
    assert observation["context"] == "Bo plays the flute."
    _, reward, *_, info = env.step("Bo plays the flute.\nAda has a goat.")
    assert reward == info["accuracy"] == sum(info["verdicts"]) / 3
    assert set(info["answers"]) <= set("ABCD")
    assert info["log_likelihood"] != info["log_likelihood_before"]
    assert math.isfinite(info["log_likelihood"])


BAD = {
    "no list": ("3", "no list of questions but a number"),
    "no object": ([["x"]], "record 1: needs question"),
    "a question missing": ([{"choices": ["a", "b"], "answer": 0}], "'question' must be text"),
    "one choice": ([ROWS[0] | {"choices": ["a"]}], "record 1: 'choices' must be a list of 2"),
    "choices no texts": ([ROWS[0] | {"choices": ["a", 3]}], "choice 2: 'choice' must be text"),
    "a choice twice": ([ROWS[0] | {"choices": ["a", "a "]}], "two of the 'choices' are the same"),
    "an answer too far": ([ROWS[0], ROWS[0] | {"answer": 3}], "record 2: 'answer' must be"),
    "an answer true": ([ROWS[0] | {"answer": True}], "not 'True'"),
    "an answer missing": ([{k: ROWS[0][k] for k in ("question", "choices")}], "not 'None'"),
    "an answer unknown": ([ROWS[0] | {"answer": "Zoe"}], "not 'Zoe'"),
    "empty": ("  ", "is empty"),
    "empty list": ("[]", "holds no question"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_one_line(tmp_path, name):
    content, said = BAD[name]
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=r"--data .*questions\.json: ") as error:
        MultipleChoice(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_csv_names_its_line(tmp_path):
    for content, said in [
        ("a,b\n", "line 1: needs question"),
        ('q,a,b,A\n"open,a,b,A\n', "is not CSV"),
        ("question,A,B,answer\nWho?,x,y\n", "line 2: has 3 fields where the header has 4"),
    ]:
        with pytest.raises(UserError, match=said):
            MultipleChoice(written(tmp_path, content, "q.csv"))


@pytest.mark.parametrize("wrong", [{"style": "words"}, {"group": 0}, {"data": ""}])
def test_bad_settings_are_refused(tmp_path, wrong):
    with pytest.raises(UserError):
        MultipleChoice(**{"data": written(tmp_path, ROWS)} | wrong)
