"""The offline grader."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal_env.grading import _stem, content_words, grade_answer, number_words_to_digits, words

RIGHT = [
    ("Denver Broncos", "The Denver Broncos."),
    ("Otrar", "the town of OTRAR, in 1219"),
    ("Curaçao", "Curacao"),
    ("volcano", "Volcanoes did it"),
    ("in the epidermis", "through the epidermis"),
    ("U.S.", "the US"),
    ("Tesla's coil", "a Tesla coil"),
    ("10,000", "10000 people"),
    ("ten thousand", "10,000 people"),
    ("1.5 million", "1,500,000"),
    ("21st century", "the twenty-first century"),
    ("61 percent", "It was 61%"),
    ("8 November 2010", "On November 8th, 2010"),
    ("Super Bowl L or 50", "Super Bowl L (the 50th)"),
    ("the 1980s", "during the 1980s"),
    ("Faith alone", "Faith"),
    ("two thirds", "2/3"),
    ("A", "The letter A"),
    ("C++", "C"),
    ("+", "+"),
    ("北京", "北京市"),
    ("Große Straße", "grosse strasse"),
]
WRONG = [
    ("Denver Broncos", "Carolina Panthers"),
    ("Denver Broncos", "The Broncos lost to Seattle"),
    ("8 November 2010", "28 November 2010"),
    ("8 November 2010", "8 November 2011"),
    ("21", "twenty or one"),
    ("1.5 million", "1.5 billion"),
    ("10,000", "10"),
    ("A", "The letter B"),
    ("+", "-"),
    ("Otrar", ""),
    ("Otrar", " \n"),
    ("Otrar", "of the in"),
    ("art", "party"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_right(gold, answer):
    assert grade_answer(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_wrong(gold, answer):
    assert not grade_answer(gold, answer)


def test_three_words_in_five_are_enough_and_one_in_two_is_not():
    gold = "alpha beta gamma delta epsilon"
    assert grade_answer(gold, "alpha, beta, gamma and zeta")
    assert not grade_answer(gold, "alpha, beta, zeta and eta")
    assert not grade_answer("alpha beta", "alpha zeta")
    assert grade_answer("alpha beta", "alpha")
    assert not grade_answer("alpha beta gamma", "alpha")


def test_words_of_the_question_need_no_repetition():
    assert grade_answer(
        "the Chagres river", "I believe it's the Chagres.", "Which river was dammed?"
    )
    assert not grade_answer("the Chagres river", "Some river", "Which river was dammed?")
    assert grade_answer("tea", "Tea, I think", "Tea or coffee?")
    assert not grade_answer("tea", "Coffee, I think", "Tea or coffee?")


def test_words_lose_accents_marks_and_endings():
    assert words("Tesla’s U.S. “Café”, 1980s & 21st—10,000!") == [
        *("tesla", "us", "cafe", "1980", "21", "10000"),
    ]


def test_an_empty_gold_is_never_right():
    assert not grade_answer("", "")
    assert not grade_answer(" ", "anything")


def test_of_several_gold_answers_any_will_do():
    golds = ["Saint Bernadette Soubirous", "a girl of fourteen"]
    assert grade_answer(golds, "Bernadette Soubirous")
    assert grade_answer(tuple(golds), "a girl of 14")
    assert not grade_answer(golds, "Bernadette, a nun")
    # Half of one and half of the other make no answer.
    assert not grade_answer(["red apple", "green pear"], "red pear")
    assert grade_answer(["", "Otrar"], "Otrar")
    assert not grade_answer(["", " "], "Otrar")
    assert not grade_answer([], "Otrar")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("zero", "0"),
        ("seventeen", "17"),
        ("forty-two", "42"),
        ("one hundred", "100"),
        ("one hundred and five", "105"),
        ("two hundred thousand and sixty", "200060"),
        ("three million four hundred thousand", "3400000"),
        ("a hundred", "a 100"),
        ("1.5 million", "1500000"),
        ("2 hundred", "200"),
        ("3.25", "3.25"),
        ("two three", "2 3"),
        ("twenty thirty", "20 30"),
        ("twenty and thirty", "20 and 30"),
        ("twenty-fifth", "25"),
        ("thirtieth", "30"),
        ("ten cats and nine dogs", "10 cats and 9 dogs"),
        ("007", "7"),
        ("12345678901234567890", "12345678901234567890"),
    ],
)
def test_numbers_are_written_in_one_way(text, numbers):
    assert " ".join(number_words_to_digits(words(text))) == numbers


@given(st.integers(0, 999_999_999))
def test_numbers_in_words_come_back_in_digits(number):
    def below_thousand(n):
        units = "zero one two three four five six seven eight nine ten eleven twelve thirteen "
        units = (units + "fourteen fifteen sixteen seventeen eighteen nineteen").split()
        tens = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
        if n >= 100:
            rest = f" and {below_thousand(n % 100)}" if n % 100 else ""
            return f"{units[n // 100]} hundred{rest}"
        if n >= 20:
            return tens[n // 10] + (f"-{units[n % 10]}" if n % 10 else "")
        return units[n]

    parts = [
        (number // 10**6, " million"),
        (number // 1000 % 1000, " thousand"),
        (number % 1000, ""),
    ]
    text = " ".join(below_thousand(n) + scale for n, scale in parts if n) or "zero"
    assert content_words(text) == [str(number)]
    assert grade_answer(f"{number:,}", text)


@given(st.text(st.characters()), st.text(st.characters()), st.text(st.characters()))
def test_any_text_is_graded(gold, answer, question):
    assert grade_answer(gold, answer, question) in (True, False)
    assert grade_answer(gold, gold, question) == bool(gold.strip())
    assert not grade_answer(gold, "", question)
    assert not grade_answer("", answer, question)


def test_thousands_of_answers_a_second():
    answer = "The town of Otrar, which the Mongols took in 1219 after a siege of five months."
    start = time.process_time()
    for _ in range(500):
        grade_answer("the fortress of Otrar", answer, "Which town did the Mongols take?")
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "unit", ["a", "1", "a ", "one ", "1,", ".", "a.", "\ud800", "́", "million "]
)
def test_a_megabyte_is_graded_quickly(unit):
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    grade_answer(text, text, text)
    assert time.process_time() - start < 1.0


def test_threads_do_not_disturb_each_other():
    texts = [f"{'ab' * n}{ending}" for n in range(1, 400) for ending in ("ational", "iveness")]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            threaded = list(pool.map(content_words, texts))
    finally:
        sys.setswitchinterval(interval)
    _stem.cache_clear()
    assert threaded == [content_words(text) for text in texts]
