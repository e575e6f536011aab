"""The embedded world: made-up people, and sentences about them.

A *person* is a name and one value for each of seven attributes. Every attribute has several
wordings as a passage sentence, as a stand-alone statement and as a question, since the
environment is about generalization over wordings. Every word is one token of the embedded model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

FIRST_NAMES = tuple(
    """Ada Alba Amir Anya Arlo Asta Axel Beata Boris Bruno Carla Cato Celia Cora Cyrus Dalia
    Dario Della Diego Dora Edda Edgar Elias Elsa Emil Enzo Erika Esme Ezra Fabio Fania Felix
    Fiona Flora Frida Gaia Gilda Gino Greta Gustav Hana Hector Heidi Hugo Ilsa Imani Ingrid
    Irma Isaac Ivan Jada Jonas Judith Julio Kaito Karin Kira Klara Kofi Lara Leander Leif Lena
    Leo Lidia Linus Lola Lorenz Luca Magda Malik Marek Marta Mateo Mina Mirko Mona Nadia Nestor
    Nico Nils Nora Odette Olaf Olga Omar Oskar Paula Pavel Petra Quentin Ramon Rhea Rocco Runa
    Sasha Selma Silas Sven Tamar""".split()
)
LAST_NAMES = tuple(
    """Abbott Acker Aldana Amsel Arden Baird Barlow Becker Benoit Birch Blom Bostock Brandt
    Brook Calder Carver Castell Cho Corbin Crane Dahl Dalton Decker Dreyer Duarte Eklund Ellery
    Engel Faber Falk Farrow Fischer Forsyth Fuchs Gallo Garner Gomez Granger Gruber Haas Hadley
    Halloran Harlow Hayes Holm Huber Ibsen Ingram Jansen Jarvis Kaplan Keller Kimura Knox Kovac
    Kruger Lang Larkin Lund Maddox Mercer Meyer Molina Morrow Mueller Nash Norling Novak Oakes
    Okafor Olsen Ortega Palmer Pascal Pereira Quist Ramsey Reyes Ritter Rossi Rourke Sandoval
    Schmidt Serrano Sharpe Silva Soren Tanaka Thorne Tolliver Ueda Valdez Varga Vogel Walsh
    Weller Winslow Yates Zeller Ziegler""".split()
)


@dataclass(frozen=True)
class Attribute:
    """Attribute of a person, with its wordings in statements and questions."""

    name: str
    """The attribute's name, e.g. ``"birthplace"``."""
    values: tuple[str, ...]
    """Possible values, one word each."""
    passages: tuple[str, ...]
    """Sentences of a passage; ``{who}`` is a name or a pronoun."""
    statements: tuple[str, ...]
    """Sentences that stand alone; ``{name}`` is the full name."""
    questions: tuple[str, ...]
    """Questions. The first two phrasings are held out for evaluation; a self-edit may use any."""


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        "birthplace",
        tuple(
            """Oslo Cairo Lima Quito Dakar Perth Kyoto Milan Porto Riga Seoul Sofia Tunis Turin
            Vienna Warsaw Zagreb Bergen Havana Lagos Madrid Nairobi Prague Boston""".split()
        ),
        (
            "{who} was born in {value} .",
            "{who} comes from {value} .",
            "The story of {who} began in {value} .",
            "{who} is a native of {value} .",
        ),
        (
            "{name} was born in {value} .",
            "The birthplace of {name} is {value} .",
            "{name} comes from {value} .",
            "The city where {name} was born is {value} .",
            "{name} is a native of {value} .",
            "The city that {name} was born in is {value} .",
        ),
        (
            "Where was {name} born ?",
            "What is the birthplace of {name} ?",
            "Which city does {name} come from ?",
            "In which city was {name} born ?",
        ),
    ),
    Attribute(
        "profession",
        tuple(
            """baker surgeon pilot lawyer farmer tailor plumber sculptor chemist barber dentist
            butcher florist jeweller librarian mason nurse painter potter sailor teacher vet weaver
            welder""".split()
        ),
        (
            "{who} works as a {value} .",
            "{who} earns a living as a {value} .",
            "{who} is a {value} by trade .",
            "For years {who} has been a {value} .",
        ),
        (
            "{name} works as a {value} .",
            "The profession of {name} is {value} .",
            "{name} is a {value} by trade .",
            "The job of {name} is that of a {value} .",
            "{name} earns a living as a {value} .",
            "{name} makes a living as a {value} .",
        ),
        (
            "What is the profession of {name} ?",
            "What does {name} work as ?",
            "What is the job of {name} ?",
            "How does {name} earn a living ?",
        ),
    ),
    Attribute(
        "hobby",
        tuple(
            """archery chess cycling fencing fishing gardening hiking judo juggling knitting origami
            photography pottery rowing sailing skating skiing surfing swimming tennis birdwatching
            boxing calligraphy diving""".split()
        ),
        (
            "{who} enjoys {value} .",
            "{who} spends spare time on {value} .",
            "In spare time {who} loves {value} .",
            "{who} never tires of {value} .",
        ),
        (
            "{name} enjoys {value} .",
            "The hobby of {name} is {value} .",
            "{name} spends spare time on {value} .",
            "What {name} loves to do is {value} .",
            "In free hours {name} goes for {value} .",
            "The favourite pastime of {name} is {value} .",
        ),
        (
            "What is the hobby of {name} ?",
            "What does {name} enjoy in spare time ?",
            "What is the favourite pastime of {name} ?",
            "What does {name} love to do ?",
        ),
    ),
    Attribute(
        "pet",
        tuple(
            """parrot rabbit hamster turtle ferret lizard goat pony donkey canary gecko hedgehog
            chicken kitten llama mouse beaver peacock poodle python spaniel squirrel tarantula
            terrier""".split()
        ),
        (
            "{who} has a {value} .",
            "{who} looks after a {value} .",
            "{who} keeps a {value} at home .",
            "A {value} follows {who} everywhere .",
        ),
        (
            "{name} has a {value} .",
            "The pet of {name} is a {value} .",
            "{name} keeps a {value} at home .",
            "A {value} lives with {name} .",
            "{name} looks after a {value} .",
            "The animal that {name} keeps is a {value} .",
        ),
        (
            "What pet does {name} have ?",
            "Which animal does {name} keep ?",
            "What is the pet of {name} ?",
            "Which animal lives with {name} ?",
        ),
    ),
    Attribute(
        "food",
        tuple(
            """pasta sushi curry paella ramen tacos falafel goulash lasagna risotto pancakes waffles
            dumplings burritos couscous gnocchi hummus kebab moussaka noodles omelette pizza ravioli
            tofu""".split()
        ),
        (
            "{who} likes to eat {value} .",
            "Nothing tastes better to {who} than {value} .",
            "{who} prefers {value} for dinner .",
            "{who} is known to cook {value} .",
        ),
        (
            "{name} likes to eat {value} .",
            "The favourite food of {name} is {value} .",
            "{name} prefers {value} for dinner .",
            "The dish that {name} likes best is {value} .",
            "{name} orders {value} at every dinner .",
            "The dish that {name} likes to eat is {value} .",
        ),
        (
            "What is the favourite food of {name} ?",
            "What does {name} like to eat ?",
            "Which dish does {name} like best ?",
            "What does {name} prefer for dinner ?",
        ),
    ),
    Attribute(
        "instrument",
        tuple(
            """violin cello flute harp piano trumpet guitar banjo clarinet oboe tuba viola accordion
            bagpipes bassoon bugle drums harmonica lute mandolin organ saxophone trombone
            ukulele""".split()
        ),
        (
            "{who} plays the {value} .",
            "{who} took lessons on the {value} .",
            "{who} makes music on the {value} .",
            "On stage {who} performs on the {value} .",
        ),
        (
            "{name} plays the {value} .",
            "The instrument of {name} is the {value} .",
            "{name} makes music on the {value} .",
            "What {name} plays is the {value} .",
            "{name} performs on the {value} .",
            "The instrument that {name} plays is the {value} .",
        ),
        (
            "Which instrument does {name} play ?",
            "What is the instrument of {name} ?",
            "What does {name} make music on ?",
            "What does {name} perform on ?",
        ),
    ),
    Attribute(
        "colour",
        tuple(
            """red blue green yellow purple orange black white grey brown pink teal amber beige
            crimson cyan gold indigo ivory lilac maroon navy scarlet silver""".split()
        ),
        (
            "{who} dresses in {value} .",
            "{who} painted the front door {value} .",
            "The house of {who} is {value} all over .",
            "{who} likes the colour {value} .",
        ),
        (
            "{name} likes the colour {value} .",
            "The favourite colour of {name} is {value} .",
            "{name} prefers {value} to any other colour .",
            "The colour that {name} likes best is {value} .",
            "{name} dresses in {value} .",
            "The colour that {name} prefers is {value} .",
        ),
        (
            "What is the favourite colour of {name} ?",
            "Which colour does {name} like best ?",
            "What colour does {name} prefer ?",
            "Which colour does {name} dress in ?",
        ),
    ),
)
QUESTIONS = 4
"""Number of phrasings of each question."""
HELD_OUT_QUESTIONS = 2
"""Number of phrasings of each question that are held out for evaluation. A policy does not see
them, but may write the same words: predicting the questions makes a good self-edit."""
INTRODUCTIONS = (
    "This is {name} .",
    "Here is what we know about {name} .",
    "Meet {name} .",
    "{name} is known to many .",
    "A few words about {name} .",
)
REMARKS = (
    "{name} is a remarkable person .",
    "People speak well of {name} .",
    "There is much to say about {name} .",
    "{name} has many friends .",
    "{name} leads an interesting life .",
    "Everyone should know {name} .",
    "{name} is kind and patient .",
    "The life of {name} is full of surprises .",
)
"""Sentences that are true of everyone and teach nothing."""


@dataclass(frozen=True)
class Person:
    """A made-up person."""

    name: str
    """First and last name."""
    values: tuple[str, ...]
    """One value for each of `ATTRIBUTES`, in that order."""


def tidy(sentence: str) -> str:
    """Text without the space that templates have before punctuation."""
    return sentence.replace(" .", ".").replace(" ?", "?")


def sample_person(name: str, rng: Random) -> Person:
    """Person of a name, with values drawn uniformly."""
    return Person(name, tuple(rng.choice(attribute.values) for attribute in ATTRIBUTES))


def statement(person: Person, attribute: int, wording: int) -> str:
    """Stand-alone statement of one fact, in one of its wordings (index modulo their number)."""
    templates = ATTRIBUTES[attribute].statements
    template = templates[wording % len(templates)]
    return tidy(template.format(name=person.name, value=person.values[attribute]))


def question(person: Person, attribute: int, wording: int) -> str:
    """Question about one fact, in one of its phrasings (index modulo their number)."""
    templates = ATTRIBUTES[attribute].questions
    return tidy(templates[wording % len(templates)].format(name=person.name))


def question_answer(person: Person, attribute: int, wording: int) -> str:
    """A question and its answer on two lines, as a self-edit writes them."""
    asked = question(person, attribute, wording)
    return f"Question: {asked}\nAnswer: {person.values[attribute]}"


def passage(person: Person, rng: Random) -> str:
    """Passage that states every fact once, in random order and varied wording.

    One sentence in five refers to the person by something other than the full name.
    """
    first = person.name.split()[0]
    sentences = [rng.choice(INTRODUCTIONS).format(name=person.name)]
    for index in rng.sample(range(len(ATTRIBUTES)), len(ATTRIBUTES)):
        who = rng.choices((person.name, first, "this person"), (8, 1, 1))[0]
        template = rng.choice(ATTRIBUTES[index].passages)
        text = template.format(who=who, value=person.values[index])
        sentences.append(text[0].upper() + text[1:])
    return tidy(" ".join(sentences))


@cache
def _reader(template: str, *values: str) -> re.Pattern[str]:
    """Pattern of a sentence of a passage."""
    pattern = re.escape(tidy(template)).replace(r"\{who\}", r"\w+(?: \w+)?")
    pattern = pattern.replace(r"\{name\}", r"(?P<name>\w+ \w+)")
    return re.compile(pattern.replace(r"\{value\}", f"(?P<value>{'|'.join(values)})"))


def read_passage(text: str) -> tuple[str, dict[int, str]]:
    """Name and facts of a passage; the inverse of `passage`.

    Returns:
        The person's name ("" if the text is no passage), and the value of each attribute that is
        stated, by its position in `ATTRIBUTES`.
    """
    sentences = re.findall(r"[^.]+\.", text)
    name, facts = "", {}
    for sentence in map(str.strip, sentences):
        for template in INTRODUCTIONS:
            found = _reader(template).fullmatch(sentence)
            name = name or (found["name"] if found else "")
        for index, attribute in enumerate(ATTRIBUTES):
            for template in attribute.passages:
                found = _reader(template, *attribute.values).fullmatch(sentence)
                if found:
                    facts[index] = found["value"]
    return name, facts if name else {}


def remarks(person: Person, wordings: Sequence[int]) -> list[str]:
    """Vague remarks about a person, one for each of the given wordings."""
    return [tidy(REMARKS[w % len(REMARKS)].format(name=person.name)) for w in wordings]
