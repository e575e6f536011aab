"""The task `squad`: files, splits, grading."""

import csv
import gzip
import io
import json
import os
import sys
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seal_env.errors import UserError
from seal_env.grading.judge import Judge
from seal_env.tasks import TASKS
from seal_env.tasks.base import SPLITS
from seal_env.tasks.squad import Squad


def passage(number, **fields):
    question = {"question": f"Which number is it, {number}?", "answer": f"number {number}"}
    return {"title": "T", "context": f"Passage {number}.", "questions": [question], **fields}


def write(tmp_path, content, name="data.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def load(tmp_path):
    """Writes a content to a file and returns all its problems."""

    def load(content, name="data.json"):
        task = Squad(write(tmp_path, content, name))
        return [task.problem("all", index) for index in range(task.size("all"))]

    return load


def test_is_registered():
    assert TASKS.load("squad") is Squad


def test_seal_format(load):
    first, second = load([passage(1), passage(2, title="Elbe")])
    assert (first.title, first.context) == ("T", "Passage 1.")
    assert [(q.text, q.answer) for q in first.questions] == [("Which number is it, 1?", "number 1")]
    assert (second.title, second.context) == ("Elbe", "Passage 2.")
    assert first.edits == {}


def test_edits_and_completions(load):
    edits = {"naive": "", "base": "1. A\n2. B"}
    completions = [{"text": "first", "accuracy": 0.2}, {"text": "second"}, "third"]
    problem = load([passage(1, edits=edits, completions=completions)])[0]
    assert problem.edits == {**edits, "0": "first", "1": "second", "2": "third"}


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data"])
def test_one_object_a_line(load, name):
    lines = "\n".join(json.dumps(passage(n)) for n in range(3)) + "\n\n"
    assert [p.context for p in load(lines, name)] == [f"Passage {n}." for n in range(3)]
    assert len(load(json.dumps(passage(1)), name)) == 1


SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Beyonc%C3%A9_Knowles",
            "paragraphs": [
                {
                    "context": "She sings.",
                    "qas": [
                        {"id": "1", "question": "What?", "answers": [{"text": t} for t in "sss"]},
                        {"question": "Who?", "answers": [{"text": t} for t in ("a", "b", "b")]},
                        {"question": "When?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "Unanswerable.", "qas": [{"question": "Why?", "answers": []}]},
            ],
        },
        {"title": "Elbe", "paragraphs": []},
    ],
}


def test_squads_own_format(load):
    (problem,) = load(SQUAD)
    assert problem.title == "Beyoncé Knowles"
    assert problem.context == "She sings."
    assert [(q.text, q.answer) for q in problem.questions] == [("What?", "s"), ("Who?", "b")]


ROWS = [
    {"title": "A_b", "context": "One.", "question": "Q1?", "answers": {"text": ["x", "y", "y"]}},
    {"title": "A_b", "context": "Two.", "question": "Q2?", "answers": {"text": ["z"]}},
    {"title": "A_b", "context": "One.", "question": "Q3?", "answers": {"text": ["w"]}},
]


def check_rows(problems):
    assert [(p.title, p.context) for p in problems] == [("A b", "One."), ("A b", "Two.")]
    assert [(q.text, q.answer) for q in problems[0].questions] == [("Q1?", "y"), ("Q3?", "w")]


def test_rows_are_grouped_by_context(load):
    check_rows(load(ROWS))


def test_hugging_face_data_sets(monkeypatch):
    asked = []
    module = types.ModuleType("datasets")
    module.load_dataset = lambda name, config, split: asked.append((name, config, split)) or ROWS
    monkeypatch.setitem(sys.modules, "datasets", module)
    task = Squad("hf:someone/rows")
    check_rows([task.problem("all", index) for index in range(task.size("all"))])
    Squad("hf:someone/rows:validation")
    Squad("hf:someone/rows/part:test")
    names = ("someone/rows", None, "train"), ("someone/rows", None, "validation")
    assert asked == [*names, ("someone/rows", "part", "test")]

    def fail(name, config, split):
        raise RuntimeError("no such\ndata set")

    module.load_dataset = fail
    with pytest.raises(UserError, match=r"hf:someone/none: cannot be loaded .no such data set"):
        Squad("hf:someone/none")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="needs the library datasets"):
        Squad("hf:someone/other")


def test_repeated_questions_are_kept_once_with_all_answers(load):
    entries = [{"question": "Q?", "answer": answer} for answer in ("a", "b", "b")]
    (problem,) = load([passage(1, questions=entries)])
    assert [(q.text, q.answer, q.aliases) for q in problem.questions] == [("Q?", "b", ("a",))]


def test_any_annotators_answer_is_right(tmp_path):
    golds = ["on 14 October 1066", "1066", "", "Harold's year"]
    question = {"question": "When?", "answers": [{"text": text} for text in golds]}
    task = Squad(write(tmp_path, [passage(1, questions=[question])]))
    problem = task.problem("all", 0)
    assert problem.questions[0].answer == golds[0]
    assert problem.questions[0].aliases == (golds[1], golds[3])
    for answer, right in [("1066", True), ("In October 1066.", True), ("1067", False), ("", False)]:
        assert task.grade(problem, [answer]) == [right]
    alone = Squad(
        write(tmp_path, [passage(1, questions=[{"question": "When?", "answer": golds[0]}])])
    )
    assert alone.problem("all", 0).id != problem.id  # it is graded otherwise


IMPOSSIBLE = {
    "marked, with a wrong answer": {"answers": [{"text": "Lund"}], "is_impossible": True},
    "marked, with a plausible answer": {
        "answers": [],
        "plausible_answers": [{"text": "Lund"}],
        "is_impossible": True,
    },
    "marked, with a blank answer": {
        "answers": [{"text": "", "answer_start": -1}],
        "is_impossible": True,
    },
    "marked, without answers": {"is_impossible": True},
    "marked by a number": {"answer": "Lund", "is_impossible": 1},
    "marked by a word": {"answer": "Lund", "is_impossible": "True"},
    "not marked, a blank answer": {"answers": {"text": [" "], "answer_start": [-1]}},
    "not marked, no answer": {"answers": {"text": [], "answer_start": []}},
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_has_no_answer_is_left_out_and_counted(tmp_path, case):
    possible = {"question": "Where?", "answer": "in Lund", "is_impossible": False}
    entries = [possible, {"question": "Who?", **IMPOSSIBLE[case]}]
    task = Squad(write(tmp_path, [passage(1, questions=entries)]))
    assert [q.text for q in task.problem("all", 0).questions] == ["Where?"]
    assert task.notes == ("1 of 2 questions have no answer and are left out",)
    with pytest.raises(UserError, match="holds no questions that has an answer"):
        Squad(write(tmp_path, [passage(1, questions=entries[1:])]))


TABLE = [
    ["Title", "Passage", "Question", "Answer", "is_impossible"],
    ["A_b", "One, two.", "Q1?", 'x, "y"', "False"],
    ["A_b", "Three.", "Q2?", "z", ""],
    ["A_b", "One, two.", "Q3?", "w", "0"],
    ["A_b", "One, two.", "Q4?", "", "True"],
]


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("d.csv", ","), ("d.csv", ";"), ("d.csv", "\t"), ("d.tsv", "\t"), ("d.CSV", ",")],
)
def test_tables_of_passages_questions_and_answers(tmp_path, load, name, delimiter):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(TABLE)
    first, second = load("\ufeff" + text.getvalue(), name)
    assert (first.title, first.context) == ("A b", "One, two.")
    assert [(q.text, q.answer) for q in first.questions] == [("Q1?", 'x, "y"'), ("Q3?", "w")]
    assert [(q.text, q.answer) for q in second.questions] == [("Q2?", "z")]
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    assert Squad(str(tmp_path / f"{name}.gz")).problem("all", 0) == first


def test_a_table_with_hugging_faces_answers(load):
    answers = json.dumps({"text": ["x", "y", "y"], "answer_start": [1, 2, 2]}).replace('"', '""')
    (problem,) = load(f'context,question,answers\nText.,Q?,"{answers}"\n', "d.csv")
    assert [q.answers for q in problem.questions] == [("y", "x")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("One.,Q1?,x\n", "line 1: the first line of a CSV file names its columns: context, quest"),
        ("context,question,answer\nOne.,Q1?\n", "line 2: has 2 fields where the header has 3"),
        ("context,question,answer\n\nOne.,,x\n", "line 3: 'question' is empty"),
        ("context,question,answer\nOne.,Q?,\n", "line 2: 'answer' is empty"),
        ("context,question,answers\nOne.,Q?,['x']\n", "line 2: 'answers' is not JSON"),
        ("context,question,answer,answer\nOne.,Q?,x,y\n", "line 1: the header has 'answer' twice"),
        ('context,question,answer\n"One.,Q?,x\n', "is not CSV"),
        ("context,question,answer\n", "holds no questions"),
        ("context,question,answer,is_impossible\nOne.,Q?,x,maybe\n", "must be true or false"),
    ],
)
def test_a_bad_table_names_its_line(tmp_path, text, said):
    path = write(tmp_path, text, "d.csv")
    with pytest.raises(UserError, match=said) as caught:
        Squad(path)
    assert str(caught.value).isprintable()


def test_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    task = Squad(str(path))
    check_rows([task.problem("all", index) for index in range(task.size("all"))])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="cannot be read as Parquet") as caught:
        Squad(str(path))
    assert str(caught.value).isprintable()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="needs the library pyarrow"):
        Squad(str(path))


def test_ids_are_unique_and_depend_on_the_content_alone(load):
    records = [passage(1), passage(2), passage(1), passage(1, title="U")]
    problems = load(records)
    assert len({p.id for p in problems}) == 4
    assert problems[2].id == f"{problems[0].id}-2"
    again = load(list(reversed(records)), "other.jsonl")
    assert {p.id for p in again} == {p.id for p in problems}
    # Stable across processes and versions: run folders refer to problems by id.
    assert load([passage(1)], "third.json")[0].id == "70c08df79bdfdf3f"


def splits(task):
    return {s: [task.problem(s, i).id for i in range(task.size(s))] for s in ("all", *SPLITS)}


def test_splits_are_disjoint_and_complete(tmp_path):
    records = [passage(number) for number in range(40)]
    task = Squad(write(tmp_path, records))
    parts = splits(task)
    assert [len(parts[s]) for s in SPLITS] == [32, 4, 4]
    assert sorted(name for s in SPLITS for name in parts[s]) == sorted(parts["all"])
    assert parts["all"] == [problem.id for problem in map(task.problem, ["all"] * 40, range(40))]
    assert parts["train"] != [name for name in parts["all"] if name in parts["train"]]

    backwards = splits(Squad(write(tmp_path, records[::-1], "back.json")))
    assert all(backwards[s] == parts[s] for s in SPLITS)
    assert backwards["all"] == parts["all"][::-1]
    other = splits(Squad(write(tmp_path, records), split_seed=1))
    assert other["all"] == parts["all"]
    assert other["test"] != parts["test"]


def test_a_passage_that_occurs_twice_falls_in_one_split(tmp_path):
    records = [passage(max(0, number - 20), title=str(number)) for number in range(40)]
    task = Squad(write(tmp_path, records))
    contexts = [{task.problem(s, i).context for i in range(task.size(s))} for s in SPLITS]
    # Twenty-one records are the same passage and so in one split, a tenth of 40 in each other.
    assert [len(part) for part in contexts] == [12, 4, 4]
    assert not contexts[0] & contexts[1]
    assert not contexts[0] & contexts[2]
    assert not contexts[1] & contexts[2]


@pytest.mark.parametrize(("n", "sizes"), [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [1, 1, 1])])
def test_splits_of_few_passages(tmp_path, n, sizes):
    task = Squad(write(tmp_path, [passage(number) for number in range(n)]))
    assert [task.size(split) for split in SPLITS] == sizes


def articles(sizes, **fields):
    """Passages of several articles, as many of each as is said."""
    return [
        passage(number, title=f"Article_{name}", context=f"Passage {number} of {name}.", **fields)
        for name, size in enumerate(sizes)
        for number in range(size)
    ]


def titles(task):
    return [{task.problem(s, i).title for i in range(task.size(s))} for s in SPLITS]


@pytest.mark.parametrize(
    "sizes", [[1, 1, 1], [5, 5, 5], [1, 1, 13], [13, 1, 1], [40, 3, 3, 3], [7] * 48, [30] * 4]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_article_is_in_one_split(tmp_path, sizes, seed):
    task = Squad(write(tmp_path, articles(sizes)), split_seed=seed)
    found = titles(task)
    assert all(found)
    assert sum(map(len, found)) == len(set.union(*found)) == len(sizes)
    assert sum(task.size(split) for split in SPLITS) == sum(sizes)
    fits = max(0.1 * sum(sizes) + 1, sorted(sizes)[1])
    assert all(task.size(split) <= fits for split in ("validation", "test"))
    assert task.notes == ()


def test_the_first_problems_of_a_split_are_of_several_articles(tmp_path):
    task = Squad(write(tmp_path, articles([20] * 40)))
    for split in SPLITS:
        first = {task.problem(split, i).title for i in range(12)}
        assert len(first) > 2


def test_titles_that_are_written_otherwise_are_one_article(tmp_path):
    records = articles([4] * 10)
    records += [{**record, "context": record["context"] + " More."} for record in records]
    for record in records[40:]:
        record["title"] = record["title"].upper().replace("_", "%20")
    task = Squad(write(tmp_path, records))
    found = [{title.casefold().replace("%20", "_") for title in some} for some in titles(task)]
    assert sum(map(len, found)) == 10


def test_equal_passages_of_two_articles_keep_both_in_one_split(tmp_path):
    records = articles([5] * 20)
    for number in range(1, 20, 2):  # one passage of each odd article also stands in the one before
        records[5 * number]["context"] = records[5 * number - 1]["context"].upper() + "\n"
    found = titles(Squad(write(tmp_path, records)))
    assert sum(map(len, found)) == 20
    for number in range(0, 20, 2):
        pair = {f"Article_{number}", f"Article_{number + 1}"}
        assert sum(pair <= some for some in found) == 1


@pytest.mark.parametrize("sizes", [[30], [15, 15]])
def test_too_few_articles_are_split_by_passage_and_it_says_so(tmp_path, sizes):
    task = Squad(write(tmp_path, articles(sizes)))
    assert [task.size(split) for split in SPLITS] == [24, 3, 3]
    (note,) = task.notes
    assert "fewer than 3 articles" in note and note.isprintable()


def test_splits_are_the_same_in_every_process(tmp_path):
    task = Squad(write(tmp_path, articles([3] * 12)))
    assert sorted(titles(task)[2]) == ["Article_2"]
    assert sorted(titles(task)[1]) == ["Article_10"]


def test_unknown_split_and_index(tmp_path):
    task = Squad(write(tmp_path, [passage(1)]))
    with pytest.raises(UserError, match=r"unknown split 'dev': known: all, train"):
        task.size("dev")
    for index in (1, -1):
        with pytest.raises(UserError, match=f"has 1 passages; there is none at {index}"):
            task.problem("all", index)


def test_grading(tmp_path):
    questions = [{"question": f"Q{n}?", "answer": "Hamburg"} for n in range(3)]
    task = Squad(write(tmp_path, [passage(1, questions=questions)]))
    problem = task.problem("all", 0)
    assert task.grade(problem, ["In Hamburg.", "Berlin", ""]) == [True, False, False]
    assert all(task.grade(problem, [q.answer for q in problem.questions]))
    with pytest.raises(ValueError, match="shorter"):
        task.grade(problem, ["one"])


def test_the_judge_is_asked_if_wanted(tmp_path, monkeypatch):
    path = write(tmp_path, [passage(1)])
    batches = []
    monkeypatch.setattr(Judge, "grade", lambda self, batch: batches.append(batch) or [True])
    task = Squad(path, grader="judge", judge=Judge("http://127.0.0.1:1/v1", "m"))
    assert task.grade(task.problem("all", 0), ["none"]) == [True]
    assert batches == [[("Which number is it, 1?", ("number 1",), "none")]]
    with pytest.raises(UserError, match="whom to ask"):
        Squad(path, grader="judge")
    with pytest.raises(UserError, match="unknown grader 'human'"):
        Squad(path, grader="human")


def test_a_changed_file_is_read_again(tmp_path):
    assert Squad(write(tmp_path, [passage(1)])).size("all") == 1
    assert Squad(write(tmp_path, [passage(1), passage(2)])).size("all") == 2


def test_a_byte_order_mark_is_no_content(load):
    assert len(load("\ufeff" + json.dumps([passage(1)]))) == 1


def test_lone_surrogates_are_replaced(load):
    (problem,) = load(json.dumps([passage(1, title="\ud800", edits={"a": "b\udfff"})]))
    assert problem.title == "\ufffd"
    assert problem.edits == {"a": "b\ufffd"}


BAD = {
    "empty": ("", "is empty"),
    "blank": (" \n\n", "is empty"),
    "not JSON": ("title: x", "is not JSON"),
    "cut off": (json.dumps([passage(1)])[:-2], "is not JSON"),
    "broken line": (f"{json.dumps(passage(1))}\n{{oops\n", "line 2 is not JSON"),
    "broken first line": (f"{{oops\n{json.dumps(passage(1))}\n", "line 1 is not JSON"),
    "a number on a line": (f"{json.dumps(passage(1))}\n7\n", "line 2 must be an object"),
    "nested too deeply": ("[" * 100_000, "nested too deeply"),
    "a huge number": (f"[{'9' * 10_000}]", "is not JSON (a number is too large or too long: 999"),
    "a number beyond floats": ("[1e999]", "is not JSON (a number is too large"),
    "a long fraction": (f"[0.{'1' * 10_000}]", "is not JSON (a number is too large or too long"),
    "infinity": ("[-Infinity]", "-Infinity is no JSON value"),
    "nested objects": ('{"a":' * 100_000, "nested too deeply"),
    "nested on a line": (f"{json.dumps(passage(1))}\n{'[' * 100_000}", "line 2 is not JSON"),
    "a key twice": ('[{"title": "a", "title": "b"}]', "key 'title' stands twice in an object"),
    "a zero byte": ("\0" + json.dumps([passage(1)]), "is not JSON"),
    "a control character in text": ('["\x01"]', "is not JSON"),
    "a table by another name": ("context,question,answer\nOne.,Q?,x\n", "ends in .csv"),
    "marked wrongly": (
        [passage(1, questions=[{"question": "Q", "answer": "A", "is_impossible": "maybe"}])],
        "record 1, question 1: 'is_impossible' must be true or false, not text",
    ),
    "marked by a list": (
        [passage(1, questions=[{"question": "Q", "answer": "A", "is_impossible": []}])],
        "'is_impossible' must be true or false, not a list",
    ),
    "NaN": ('[{"title": "T", "context": NaN, "questions": []}]', "NaN is no JSON value"),
    "a number": ("3", "no list of passages but a number"),
    "text": ('"x"', "no list of passages but text"),
    "empty list": ("[]", "holds no questions"),
    "no questions": ([passage(1, questions=[])], "holds no questions"),
    "list of texts": ([passage(1), "x"], "record 2 must be an object"),
    "context is missing": ([passage(1), {**passage(2), "context": None}], "record 2: 'context'"),
    "context is blank": ([passage(1, context=" ")], "record 1: 'context' is empty"),
    "title is a list": ([passage(1, title=["T"])], "record 1: 'title' must be text, not a list"),
    "questions is text": ([passage(1, questions="Q")], "record 1: 'questions' must be a list"),
    "a question is text": ([passage(1, questions=["Q"])], "record 1, question 1 must be an object"),
    "answer is a number": (
        [passage(1, questions=[{"question": "Q", "answer": 3}])],
        "record 1, question 1: 'answer' must be text, not a number",
    ),
    "answer is blank": ([passage(1, questions=[{"question": "Q", "answer": ""}])], "is empty"),
    "no answer": ([passage(1, questions=[{"question": "Q"}])], "needs an 'answer'"),
    "edits is a list": ([passage(1, edits=["x"])], "'edits' must map names to texts"),
    "an edit is a number": ([passage(1, edits={"base": 1})], "edits: 'base' must be text"),
    "completions is text": ([passage(1, completions="x")], "'completions' must be a list"),
    "a completion is a number": ([passage(1, completions=[{"text": 1}])], "completion 0: 'text'"),
    "data is text": ({"data": "x"}, "'data' must be a list"),
    "no paragraphs": ({"data": [{"title": "x"}]}, "article 1 has no list of 'paragraphs'"),
    "paragraph is text": ({"data": [{"paragraphs": ["x"]}]}, "article 1, paragraph 1 must be"),
    "row without context": ([{"question": "Q", "answer": "A"}], "record 1: 'context'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(tmp_path, case):
    content, message = BAD[case]
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        Squad(path)
    assert message in str(caught.value)
    assert path in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_paths_that_are_no_files(tmp_path):
    for path, message in [
        (tmp_path / "none.json", "no such file"),
        (tmp_path, "is a folder"),
        ("\0", "no such file"),
        ("~no-such-user/x.json", "cannot be read"),
        ("", "give --data FILE"),
        (None, "give --data FILE"),
    ]:
        with pytest.raises(UserError, match=message):
            Squad(path and str(path))
    file = tmp_path / "data.json"
    for content in (b"\x80\x02\xff", '{"é": 1}'.encode("latin-1"), "[]".encode("utf-16")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"is not UTF-8 text \(byte \d"):
            Squad(str(file))
    loop, pipe = tmp_path / "loop", tmp_path / "pipe"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    cut_off = tmp_path / "cut.json.gz"
    cut_off.write_bytes(gzip.compress(b"[]")[:-6])
    (tmp_path / "no.json.gz").write_bytes(b"[]")
    for path, message in [
        (loop, "a symbolic link that leads nowhere"),
        (pipe, "neither a file nor a folder"),
        (cut_off, "is no whole gzip file"),
        (tmp_path / "no.json.gz", "is no whole gzip file"),
        ("a\nb\x1b[2J.json", r"--data a\\nb\\x1b\[2J.json: no such file"),
        ("x" * 5000, "cannot be read"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            Squad(str(path))
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "data title context questions question answer answers text edits completions "
                "paragraphs qas".split()
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@pytest.mark.slow
@given(json_values | st.lists(json_values, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_json_is_read_or_refused_in_one_line(tmp_path, content):
    path = write(tmp_path, content)
    try:
        task = Squad(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert task.size("all") > 0
