"""The task `multiple-choice`: reading MMLU's forms, and answers by likelihood."""

import json
import math

import gymnasium as gym
import pytest
from helpers import INNER

from seal_env.errors import UserError
from seal_env.evaluation import Evaluator
from seal_env.tasks.multiple_choice import MultipleChoice

ROWS = [
    {"question": "Who plays the flute?", "choices": ["Ada", "Bo", "Cy"], "answer": "B"},
    {"question": "Who has a goat?", "choices": ["Ada", "Bo"], "answer": "A"},
    {"question": "Who eats pasta?", "choices": ["Ada", "Bo", "Cy", "Di"], "answer": "D"},
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
    (score,) = Evaluator(llama, task, None, 10_000).evaluate([problem], [0], None)
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
    "one choice twice": ([ROWS[0] | {"choices": ["a", "a "]}], "all 'choices' are the same"),
    "an answer too far": (
        [ROWS[0] | {"answer": 0}, ROWS[0] | {"answer": 3}],
        "record 2: the answer key '3' is not a position from 0 to 2",
    ),
    "a negative answer": ([ROWS[0] | {"answer": -1}], "key '-1' is not a position"),
    "an answer true": ([ROWS[0] | {"answer": True}], "key true is not a position from 0 to 2"),
    "an answer missing": ([{k: ROWS[0][k] for k in ("question", "choices")}], "no answer key"),
    "an answer null": ([ROWS[0] | {"answer": None}], "no answer key"),
    "an answer blank": ([ROWS[0] | {"answer": " "}], "no answer key"),
    "answers in a list": ([ROWS[0] | {"answer": ["A", "B"]}], "the answer key a list is not"),
    "an answer unknown": ([ROWS[0], ROWS[0] | {"answer": "Zoe"}], "record 2: the answer key 'Zoe'"),
    "keys of two kinds": ([ROWS[0], ROWS[2] | {"answer": "Di"}], "record 2: the answer key 'Di'"),
    "a label too few": (
        [ROWS[0] | {"choices": {"text": ["a", "b"], "label": ["A"]}}],
        "a label for each choice",
    ),
    "a label twice": (
        [ROWS[0] | {"choices": {"text": ["a", "b"], "label": ["A", "A"]}}],
        "two choices have the same label",
    ),
    "a digit without labels": (
        [{"question": "Q?", "choices": ["a", "b"], "answerKey": "1"}],
        "the answer key '1' is not a letter from A to B",
    ),
    "hidden keys": ([{"ctx": "He", "endings": ["a", "b"], "label": ""}], "has no answer key"),
    "two marked": (
        [{"question": "Q?", "mc1_targets": {"a": 1, "b": 1}}],
        "must mark one choice",
    ),
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


def gold(tmp_path, content, name="questions.json", **options):
    """The text of the right choice of the last question."""
    return asked(MultipleChoice(written(tmp_path, content, name), style="texts", **options))[
        -1
    ].answer


def arc(key, labels, **fields):
    texts = ["a stone", "ice", "a coin", "a brick"]
    return {
        "question": "Which melts?",
        "choices": {"text": texts, "label": labels},
        "answerKey": key,
        **fields,
    }


ELEMENT = "Which element has eight protons?"
HEN = "How many legs has a hen?"
SWAG = {"ctx": "He", "endings": ["a", "b", "c", "d"]}
GOLDS = {
    "a letter that is a choice, MMLU's CSV": ("q.csv", f"{ELEMENT},C,N,O,F,C\n", "O"),
    "the same with a header": ("q.csv", f"question,A,B,C,D,answer\n{ELEMENT},C,N,O,F,C\n", "O"),
    "a blood group": ("q.csv", "Which has no antigen?,O,B,A,AB,A\n", "O"),
    "tabs": ("q.tsv", f"{ELEMENT}\tC\tN\tO\tF\tC\n", "O"),
    "semicolons": ("q.csv", f"{ELEMENT};C;N;O;F;C\n", "O"),
    "semicolons, a comma in the question": ("q.csv", f"Say, {ELEMENT};C;N;O;F;C\n", "O"),
    "semicolons, a quoted comma": ("q.csv", f'"{ELEMENT}, say";C;N;O;F;C\n', "O"),
    "commas, quoted semicolons": ("q.csv", f'"{ELEMENT}; say; or",C,N,O,F,C\n', "O"),
    "a position where choices are numbers": (
        "q.csv",
        f"question,A,B,C,D,answer\n{HEN},3,2,1,0,1\n",
        "2",
    ),
    "a number that is no position": ("q.csv", "Two and two?,3,4,5,6,4\n", "4"),
    "an empty choice keeps its letter": ("q.csv", "question,A,B,C,answer\nQ?,x,,z,C\n", "z"),
    "the same without a header": ("q.csv", "Q?,x,,z,C\n", "z"),
    "a column of choices": (
        "q.csv",
        'question,choices,answer\nQ?,"[""x"", ""y""]",B\n',
        "y",
    ),
    "numbered columns from 1": ("q.csv", "question,option1,option2,answer\nQ?,x,y,2\n", "y"),
    "numbered columns from 0": ("q.csv", "question,ending0,ending1,label\nQ?,x,y,1\n", "y"),
    "integers": ("q.json", [{"question": HEN, "choices": ["3", "2", "1"], "answer": 1}], "2"),
    "a float": (
        "q.json",
        [{"question": "Q?", "choices": ["x", "y"], "answer": 1.0}],
        "y",
    ),
    "spelt positions": ("q.json", [{"question": "Q?", "choices": ["x", "y"], "answer": "1"}], "y"),
    "a small letter": ("q.json", [ROWS[0] | {"answer": "b"}], "Bo"),
    "a letter in brackets": ("q.json", [ROWS[0] | {"answer": "(B)"}], "Bo"),
    "texts": ("q.json", [ROWS[0] | {"answer": "Cy"}, ROWS[2] | {"answer": "Di"}], "Di"),
    "letters, one of them a text": (
        "q.json",
        [ROWS[0], {"question": ELEMENT, "choices": ["C", "N", "O", "F"], "answer": "C"}],
        "O",
    ),
    "texts, one of them a letter": (
        "q.json",
        [
            ROWS[0] | {"answer": "Cy"},
            {"question": ELEMENT, "choices": ["C", "N", "O", "F"], "answer": "N"},
            {"question": "Which is coal?", "choices": ["O", "N", "F", "C"], "answer": "C"},
        ],
        "C",
    ),
    "labels 1 to 4": ("q.json", [arc("2", list("1234"))], "ice"),
    "the last of them": ("q.json", [arc("4", list("1234"))], "a brick"),
    "labels that are numbers": ("q.json", [arc(2, [1, 2, 3, 4])], "ice"),
    "labels backwards": ("q.json", [arc("A", list("DCBA"))], "a brick"),
    "labels of two kinds": ("q.json", [arc("B", list("ABCD")), arc("2", list("1234"))], "ice"),
    "labels that are choices": (
        "q.json",
        [
            {
                "question": ELEMENT,
                "choices": {"text": ["C", "N", "O", "F"], "label": ["A", "B", "C", "D"]},
                "answerKey": "C",
            }
        ],
        "O",
    ),
    "positions beside labels": ("q.json", [arc(0, list("ABCD"), answer=1)], "ice"),
    "ARC's own lines": (
        "q.jsonl",
        json.dumps(
            {
                "question": {
                    "stem": "Q?",
                    "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}],
                },
                "answerKey": "B",
            }
        ),
        "y",
    ),
    "OpenBookQA": (
        "q.json",
        [
            {
                "question_stem": "Q?",
                "choices": {"text": ["x", "y"], "label": ["A", "B"]},
                "answerKey": "B",
            }
        ],
        "y",
    ),
    "HellaSwag": ("q.json", [SWAG | {"label": "3"}], "d"),
    "HellaSwag, numbers": ("q.json", [SWAG | {"label": 1}], "b"),
    "PIQA": ("q.json", [{"goal": "Q", "sol1": "x", "sol2": "y", "label": 1}], "y"),
    "WinoGrande": (
        "q.json",
        [{"sentence": "Q _", "option1": "x", "option2": "y", "answer": "1"}],
        "x",
    ),
    "COPA": (
        "q.json",
        [{"premise": "It fell.", "question": "cause", "choice1": "x", "choice2": "y", "label": 1}],
        "y",
    ),
    "Social IQa": (
        "q.json",
        [
            {
                "context": "Ada left.",
                "question": "Q?",
                "answerA": "x",
                "answerB": "y",
                "answerC": "z",
                "label": "2",
            }
        ],
        "y",
    ),
    "MedMCQA": (
        "q.json",
        [{"question": "Q?", "opa": "w", "opb": "x", "opc": "y", "opd": "z", "cop": 2}],
        "y",
    ),
    "MedQA": (
        "q.json",
        [{"question": "Q?", "options": {"A": "C", "B": "x"}, "answer": "x", "answer_idx": "B"}],
        "x",
    ),
    "choices by letter": (
        "q.json",
        [{"question": "Q?", "choices": {"A": "C", "B": "N", "C": "O"}, "answer": "C"}],
        "O",
    ),
    "RACE": (
        "q.json",
        [{"article": "Text.", "question": "Q?", "options": ["x", "y"], "answer": "B"}],
        "y",
    ),
    "MMLU-Pro": (
        "q.json",
        [
            {
                "question": "Q?",
                "options": list("pqrstuvwxy"),
                "answer": "I",
                "answer_index": 8,
                "category": "law",
            }
        ],
        "x",
    ),
    "TruthfulQA": (
        "q.json",
        [{"question": "Q?", "mc1_targets": {"choices": ["x", "y"], "labels": [0, 1]}}],
        "y",
    ),
    "TruthfulQA's own": ("q.json", [{"question": "Q?", "mc1_targets": {"x": 0, "y": 1}}], "y"),
    "BoolQ": ("q.json", [{"passage": "Text.", "question": "Is it?", "answer": False}], "no"),
    "BoolQ as CSV": ("q.csv", "passage,question,answer\nText.,Is it?,True\n", "yes"),
    "SciQ": (
        "q.json",
        [
            {
                "question": "Q?",
                "correct_answer": "x",
                "distractor1": "y",
                "distractor2": "z",
                "distractor3": "w",
                "support": "",
            }
        ],
        "x",
    ),
    "C-Eval": ("q.csv", "id,question,A,B,C,D,answer\n0,Q?,C,D,A,B,D\n", "B"),
}


@pytest.mark.parametrize("case", GOLDS)
def test_the_key_means_what_the_format_says(tmp_path, case):
    name, content, right = GOLDS[case]
    assert gold(tmp_path, content, name) == right


AMBIGUOUS = [
    ("C", ["C", "N", "O", "F"], {"labels": "O", "texts": "C"}),
    ("1", ["3", "2", "1", "0"], {"positions": "2", "texts": "1", "numbers": "3"}),
]


@pytest.mark.parametrize(("key", "choices", "readings"), AMBIGUOUS)
def test_keys_that_can_be_read_two_ways_are_refused_until_it_is_said(
    tmp_path, key, choices, readings
):
    rows = [{"question": "Q?", "choices": choices, "answer": key}]
    with pytest.raises(UserError, match=r"record 1: the key .* either way.* keys=\w+ or keys=tex"):
        gold(tmp_path, rows)
    for keys, right in readings.items():
        assert gold(tmp_path, rows, keys=keys) == right
    with pytest.raises(UserError, match="unknown keys 'words'"):
        gold(tmp_path, rows, keys="words")


def test_a_choice_that_comes_twice_is_as_right_both_times(tmp_path):
    rows = "What moves?,up,down,up,left,C\nTwo and two?,3,4,5,6,B\nWhat falls?,a,b,a,c,B\n"
    letters = MultipleChoice(written(tmp_path, rows, "q.csv"))
    problem = letters.problem("all", 0)
    first, _, third = problem.questions
    assert (first.answer, first.aliases, first.choices) == ("C", ("A",), tuple("ABCD"))
    assert (third.answer, third.aliases) == ("B", ())
    assert letters.grade(problem, ["A", "B", "B"]) == [True] * 3
    assert letters.grade(problem, ["B", "A", "A"]) == [False] * 3
    texts = MultipleChoice(written(tmp_path, rows, "q.csv"), style="texts")
    assert texts.problem("all", 0).questions[0].choices == ("up", "down", "left")


def test_the_right_choice_does_not_always_stand_first(tmp_path):
    rows = [
        {"question": f"Q{n}?", "mc1_targets": {f"right {n}": 1, f"wrong {n}": 0, f"no {n}": 0}}
        for n in range(40)
    ]
    questions = asked(MultipleChoice(written(tmp_path, rows)))
    assert {q.answer for q in questions} == set("ABC")


def test_subjects_and_equal_questions_are_never_on_both_sides(tmp_path):
    rows = [
        {"question": f"Q{n}?", "choices": ["x", "y"], "answer": 0, "subject": f"s{n % 25}"}
        for n in range(500)
    ]
    rows += [{**rows[0], "subject": "another name", "choices": ["y", "x"], "answer": 1}]
    task = MultipleChoice(written(tmp_path, rows), group=5)
    assert task.size("all") == 101
    problems = {
        name: [task.problem(name, i) for i in range(task.size(name))]
        for name in ("train", "validation", "test")
    }
    subjects = [{p.title for p in some} for some in problems.values()]
    assert all(len(some) >= 2 for some in subjects)
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 26
    assert any({"s0", "another name"} <= some for some in subjects)
    assert task.notes == ()
    texts = MultipleChoice(written(tmp_path, rows), group=5, style="texts")
    for name, some in problems.items():
        assert [texts.problem(name, i).id for i in range(texts.size(name))] == [p.id for p in some]


def test_one_subject_is_split_by_problems_and_says_so(tmp_path):
    rows = [{"question": f"Q{n}?", "choices": ["x", "y"], "answer": 0} for n in range(100)]
    task = MultipleChoice(written(tmp_path, [r | {"subject": "law"} for r in rows]))
    assert [task.size(name) for name in ("train", "validation", "test")] == [8, 1, 1]
    (note,) = task.notes
    assert "fewer than 3 subjects" in note
    assert MultipleChoice(written(tmp_path, rows)).notes == ()


def test_a_bad_csv_names_its_line(tmp_path):
    for content, said in [
        ("a,b\n", "line 1: needs question"),
        ('q,a,b,A\n"open,a,b,A\n', "is not CSV"),
        ("question,A,B,answer\nWho?,x,y\n", "line 2: has 3 fields where the header has 4"),
        ("question,A,A,answer\nWho?,x,y,A\n", "line 1: the header has 'a' twice"),
        ("question,choices,answer\nWho?,x|y,A\n", "line 2: 'choices' is not a JSON list"),
    ]:
        with pytest.raises(UserError, match=said):
            MultipleChoice(written(tmp_path, content, "q.csv"))


@pytest.mark.parametrize("wrong", [{"style": "words"}, {"group": 0}, {"data": ""}])
def test_bad_settings_are_refused(tmp_path, wrong):
    with pytest.raises(UserError):
        MultipleChoice(**{"data": written(tmp_path, ROWS)} | wrong)
