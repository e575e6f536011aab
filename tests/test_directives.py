"""The self-edit language `directives`."""

import json
import re
import time

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.edits import EDITS
from seal_env.edits.base import SelfEdit
from seal_env.edits.directive_model import FIELDS, STRATEGIES, TOOLS, tool_key
from seal_env.edits.directives import MOST_CHARACTERS, Directives, write_directive
from seal_env.errors import UserError
from seal_env.tasks.base import Problem
from seal_env.tasks.biographies.task import Biographies
from seal_env.updates import Finetuning, Training

SOLVED = Problem("s", "", "Input: 1 2\nOutput: 2 1\n", (), examples=("one",))
PASSAGE = Problem("p", "Rivers", "The Elbe is long.", ())
SEAL = {
    "data_generation": {
        "use_basic_augmentations": True,
        "use_size_augmentations": False,
        "use_chain_augmentations": False,
        "use_repeat_augmentations": True,
    },
    "training": {
        "strategy": "train_using_output_tokens",
        "learning_rate": 1e-4,
        "num_train_epochs": 2,
    },
}
TEXT = json.dumps(SEAL)
READ = SelfEdit(
    Finetuning(
        tools=("basic", "repeat"),
        training=Training(learning_rate=1e-4, epochs=2, outputs_only=True),
    )
)
REMOVED = object()


def parse(text, problem=SOLVED, **options):
    return Directives(**options).parse(text, problem)


def changed(path, value):
    """SEAL's directive with another value somewhere, as text."""
    directive = json.loads(TEXT)
    *blocks, name = path.split(".")
    block = directive
    for part in blocks:
        block = block[part]
    if value is REMOVED:
        del block[name]
    else:
        block[name] = value
    return json.dumps(directive)


def test_is_registered():
    assert EDITS.load("directives") is Directives


def test_seals_directive_is_read():
    assert parse(TEXT) == READ


def test_the_other_strategy_learns_everything():
    edit = parse(changed("training.strategy", "train_using_all_tokens"))
    assert edit.update.training.outputs_only is False


@pytest.mark.parametrize(
    "text",
    [
        f"Let me think.\n\n{TEXT}\n\nThat should do.",
        f"```json\n{json.dumps(SEAL, indent=4)}\n```",
        f'A 5" pipe {{see "the note}} and a set {{a, b}}: {TEXT} "',
        f"{{}} [] {{1}} {{'training': 1}} {TEXT}",
        f'{{"a": "{{"}} {TEXT}',
        f'{{"thought": "first }} then {{", "directive": {TEXT}}}',
        f'{{"unfinished": "and\n{TEXT}',
        f'{{"unfinished": [ {TEXT}',
        '{"unfinished": "and\n' * 7 + TEXT,
        '{"deep": ' + "[" * 5000 + "]" * 5000 + "}" + TEXT,
        f"{TEXT}{changed('training.learning_rate', 1)}",
        TEXT.replace(" ", "\r\n\t"),
    ],
)
def test_it_is_found_in_prose(text):
    assert parse(text) == READ


def test_braces_and_quotes_within_strings_are_text():
    directive = SEAL | {"data": ['}{ "x" {"training": 1} \\', "```"]}
    assert parse(f"So: {json.dumps(directive)}").update.sequences == tuple(directive["data"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data_generation", REMOVED),
        ("training", REMOVED),
        ("training.strategy", REMOVED),
        ("training.learning_rate", REMOVED),
        ("training.num_train_epochs", REMOVED),
        ("extra", 1),
        ("training.batch_size", 1),
        ("data_generation.use_other_augmentations", True),
        ("data_generation", True),
        ("data_generation", None),
        ("training", []),
        ("training", None),
        ("data_generation.use_size_augmentations", "true"),
        ("data_generation.use_size_augmentations", 1),
        ("data_generation.use_size_augmentations", None),
        ("training.strategy", "train"),
        ("training.strategy", 1),
        ("training.learning_rate", "0.0001"),
        ("training.learning_rate", True),
        ("training.learning_rate", float("nan")),
        ("training.learning_rate", float("inf")),
        ("training.learning_rate", -1e-4),
        ("training.learning_rate", 0),
        ("training.learning_rate", 9e-7),
        ("training.learning_rate", 0.11),
        ("training.learning_rate", 10**4000),
        ("training.num_train_epochs", 0),
        ("training.num_train_epochs", 65),
        ("training.num_train_epochs", 1e9),
        ("training.num_train_epochs", 10**9),
        ("training.num_train_epochs", 2.0),
        ("training.num_train_epochs", "2"),
        ("training.num_train_epochs", True),
        ("training.num_train_epochs", float("nan")),
        ("data", "a text"),
        ("data", []),
        ("data", ["x"] * 65),
        ("data", None),
        ("layers", []),
        ("layers", 1),
        ("layers", None),
    ],
)
def test_an_error_names_the_field(path, value):
    edit = parse(changed(path, value))
    assert edit == SelfEdit(error=edit.error)
    assert edit.error.startswith(f"directives: {path}: ")
    assert edit.error.isprintable() and len(edit.error) < 400


@pytest.mark.parametrize(
    ("name", "items", "wrong"),
    [
        ("data", ["a", 1], 1),
        ("data", ["a", " \x00\ud800\n"], 1),
        ("data", ["x" * 4097], 0),
        ("data", [["a"]], 0),
        ("layers", [0, 1.0], 1),
        ("layers", [True], 0),
        ("layers", [-1], 0),
        ("layers", ["1"], 0),
    ],
)
def test_an_error_in_a_list_names_the_position(name, items, wrong):
    assert parse(changed(name, items)).error.startswith(f"directives: {name}.{wrong}: ")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"training"', '"layers": [1], "layers": [1], "training"', "layers"),
        ('"strategy"', '"learning_rate": 0.1, "strategy"', "training.learning_rate"),
        ("0.0001", "1e400", "training.learning_rate"),
        ("0.0001", "-Infinity", "training.learning_rate"),
        (": 2}", ": 1e400}", "training.num_train_epochs"),
        (": 2}", f": {'9' * 60_000}}}", "training.num_train_epochs"),
        ("0.0001", f"0.{'0' * 60_000}1", "training.learning_rate"),
        ('"strategy"', '"\\n\\ud800": 1, "strategy"', r"training.'\n?'"),
    ],
)
def test_what_json_cannot_or_should_not_say_names_the_field_too(old, new, field):
    error = parse(TEXT.replace(old, new)).error
    assert error.startswith(f"directives: {field}: ")
    assert error.isprintable() and len(error) < 400


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON object"),
        ("Use all augmentations.", "no JSON object"),
        ("{}", "that has any of data_generation, training, data, layers"),
        ('{"learning_rate": 1e-4}', "that has any of"),
        (TEXT[:-1], "that has any of"),
        ('{"training": {"strategy" "x"}}', "not JSON at character 25"),
        (f"[{TEXT}" + ', {"training"}', None),
    ],
)
def test_other_errors_say_what_is_wrong(text, says):
    error = parse(text).error
    assert error is None if says is None else says in error


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"training": ', "}")])
def test_deep_nesting_is_an_error(opening, closing):
    text = '{"training": ' + opening * 4000 + "1" + closing * 4000 + "}"
    assert parse(text).error.startswith("directives: ")


def test_data_makes_it_a_self_edit_of_both_kinds():
    edit = parse(changed("data", ["Ada is a baker. ", "Two\r\nlines."]))
    assert edit.update.sequences == ("Ada is a baker.", "Two\nlines.")
    assert edit.update.tools == READ.update.tools and edit.update.training == READ.update.training
    titled = Problem("t", "Ada\x00", "", (), examples=("one",))
    assert parse('{"data": ["Fact."]}', titled).update.sequences == ("Ada\nFact.",)


def test_a_passage_is_learned_where_there_are_no_solved_examples():
    edit = parse('{"data": ["The Elbe is in Europe."]}', PASSAGE)
    assert edit.update.sequences == ("Rivers\nThe Elbe is in Europe.", "Rivers\nThe Elbe is long.")
    assert edit.update.training == Training() and edit.update.tools is None


def test_without_a_block_of_tools_the_solved_examples_are_learned_as_they_are():
    training = json.dumps(SEAL["training"])
    assert parse('{"layers": [0]}').update.tools == ()
    assert parse(f'{{"layers": [0], "training": {training}}}').update.tools == ()
    assert parse('{"data": ["Only this."]}').update.tools is None
    assert parse('{"layers": [0]}', PASSAGE).update.tools is None


def test_layers_alone_are_a_directive():
    edit = parse('{"layers": [3, 1, 3]}', PASSAGE)
    assert edit.update.training == Training(layers=(1, 3))
    assert edit.update.sequences == ("Rivers\nThe Elbe is long.",)


def test_layers_are_those_of_the_model(llama):
    language = Directives()
    language.bind(llama)
    assert language.parse('{"layers": [0, 1]}', PASSAGE).error is None
    error = language.parse('{"layers": [0, 2]}', PASSAGE).error
    assert error.startswith("directives: layers.1: should be less than or equal to 1")


def test_tools_can_be_those_of_a_task_and_then_each_is_decided():
    language = Directives(tools=("colors", "size"))
    text = write_directive(("size", "colors"), {"colors"}, 1e-3, 3)
    assert language.parse(text, SOLVED).update.tools == ("colors",)
    error = language.parse(write_directive(("colors",), (), 1e-3, 3), SOLVED).error
    assert error == "directives: data_generation.use_size_augmentations: is missing"
    error = language.parse(TEXT, SOLVED).error
    assert error.startswith("directives: data_generation.use_basic_augmentations: is unknown")
    none = Directives(tools=())
    assert none.parse(json.dumps({"training": SEAL["training"]}), SOLVED).error is None


def test_a_task_says_which_tools_there_are(llama):
    task = Biographies()
    language = Directives()
    language.bind(llama, task)
    error = language.parse(TEXT, SOLVED).error
    assert error.startswith("directives: data_generation.use_basic_augmentations: is unknown")
    assert language.parse(language.example(PASSAGE), PASSAGE).error is None

    task.tools = ("basic", "size")
    language.bind(llama, task)
    assert language.parse(language.example(SOLVED), SOLVED).update.tools == ("basic",)
    error = language.parse(write_directive(("size",), (), 1e-3, 3), SOLVED).error
    assert error == "directives: data_generation.use_basic_augmentations: is missing"

    language = Directives(tools=("size",))
    language.bind(llama, task)
    assert language.parse(write_directive(("size",), ("size",), 1e-3, 3), SOLVED).error is None
    with pytest.raises(UserError, match="no 'colors'; it has: basic, size"):
        Directives(tools=("colors",)).bind(llama, task)


@pytest.mark.parametrize("tools", [("a b",), ("",), (1,)])
def test_tools_are_checked(tools):
    with pytest.raises(UserError, match="tools"):
        Directives(tools=tools)


def test_all_known_tools_can_be_switched_on():
    text = write_directive(TOOLS, TOOLS, 1e-3, 1)
    assert parse(text).update.tools == TOOLS


def test_what_is_written_is_read():
    text = write_directive(("size", "basic"), {"size"}, 3e-5, 7, STRATEGIES[1])
    edit = parse(text)
    assert edit.update.tools == ("size",)
    assert edit.update.training == Training(learning_rate=3e-5, epochs=7, outputs_only=False)
    assert "\n" not in text


def test_a_long_text_is_read_up_to_the_cap():
    assert parse(TEXT + " " * MOST_CHARACTERS) == SelfEdit(READ.update, truncated=True)
    late = parse(" " * MOST_CHARACTERS + TEXT)
    assert late.truncated and late.error


@pytest.mark.parametrize("action", [None, 1, b"{}", ["{}"], {"training": {}}])
def test_what_is_no_text_is_an_error(action):
    assert parse(action).error == f"directives: a text is wanted, not {type(action).__name__}"


@pytest.mark.slow
@settings(max_examples=60)
@given(st.from_regex(re.compile(Directives(tools=("basic", "colors")).pattern()), fullmatch=True))
def test_every_text_of_the_pattern_is_a_directive(text):
    edit = Directives(tools=("basic", "colors")).parse(text, SOLVED)
    assert edit.error is None
    assert edit.update.training.learning_rate is not None


def test_the_pattern_has_the_ways_in_which_directives_are_written():
    pattern = re.compile(Directives(tools=TOOLS[:4]).pattern())
    assert pattern.fullmatch(TEXT)
    assert pattern.fullmatch(json.dumps(SEAL, indent=2) + "\n")
    assert pattern.fullmatch(json.dumps(SEAL, separators=(",", ":")))
    assert not pattern.fullmatch("So: " + TEXT)
    for rate in ("1e-6", "0.000001", "1e-1", "0.1", "0.05", "2.5e-4", "1e-05", "9.999e-2"):
        assert pattern.fullmatch(TEXT.replace("0.0001", rate)), rate
    for rate in ("1e-7", "2e-1", "0.2", "1", "0", "0.0000001", "1.5e-1", "0.0", "NaN", "00.1"):
        assert not pattern.fullmatch(TEXT.replace("0.0001", rate)), rate


UNITS = (
    *'{["}]\\:, ',
    '{"',
    "{}",
    '{"a":',
    '{"a":"',
    '{"training":',
    '{"training":{}}',
    '{"training"}',
    '{"training":[{},',
    '{"training":{"data":{"layers":{"data":{"training":{"data":{"layers":{ ',
    '"\\"',
    "{ ",
    '{"training":"',
)


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_length_alone(unit):
    """Twice the text may take some more than twice as long, but not four times."""

    def seconds(length):
        text = ('{"' + unit * length)[:length]
        times = []
        for _ in range(5):
            start = time.thread_time()  # of the processor: others may be busy too
            parse(text)
            times.append(time.thread_time() - start)
        return min(times)

    small, large = seconds(MOST_CHARACTERS // 8), seconds(MOST_CHARACTERS)
    assert large < 24 * small + 0.05


def test_a_megabyte_of_brackets_is_an_error_and_trains_nothing():
    env = gym.make("SelfEdit-v0", model="tiny", edit="directives")
    env.reset(seed=0)
    *_, info = env.step("{" * 1_000_000)
    assert info["error"].startswith("directives: ") and info["steps"] == 0
    env.reset(seed=0)
    training = {"strategy": STRATEGIES[0], "learning_rate": 1e-3, "num_train_epochs": 10**9}
    *_, info = env.step(json.dumps({"data": ["Ada sings."], "training": training}))
    assert info["error"].startswith("directives: training.num_train_epochs: ")
    assert info["steps"] == 0 and info["tokens"] == 0


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from([*FIELDS, *SEAL["training"], tool_key("basic"), "x"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_is_legal(value):
    edit = parse(json.dumps({"training": value}))
    assert edit.error and edit.error.isprintable()
    edit = parse(json.dumps(SEAL | {"layers": value}))
    assert edit.error is None or edit.error.startswith("directives: layers")
