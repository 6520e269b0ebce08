"""Generate the world's simple facts and questions about them, free (ARC's form) and with lettered choices (MMLU's).

A fact is held out of a form when the training text never asks its question in that form's phrasing; every fact is
stated in plain sentences.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from smaug_eval.demo.lexicon import members, pairs, words
from smaug_eval.demo.people import PEOPLE

N_CHOICES = 4
ANSWER_KEYS = "ABCD"


@dataclass(frozen=True)
class Relation:
    """Describe facts of one kind, ``{x}`` to ``{y}``.

    ``asked`` is the phrasing of ARC's form, ``quizzed`` that of MMLU's. ``statements`` say the same
    in the training text.
    """

    subject: str
    statements: tuple[str, ...]
    asked: str
    quizzed: str
    pairs: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class Fact:
    """Hold one pair of a relation."""

    relation: Relation
    x: str
    y: str

    def statement(self, rng: random.Random) -> str:
        """Return the fact as a sentence."""
        return rng.choice(self.relation.statements).format(x=self.x, y=self.y)

    @property
    def question(self) -> str:
        """Return the phrasing of ARC's form."""
        return self.relation.asked.format(x=self.x)

    @property
    def quiz_question(self) -> str:
        """Return the phrasing of MMLU's form."""
        return self.relation.quizzed.format(x=self.x)

    def choices(self, rng: random.Random) -> list[str]:
        """Return the answer among three other values of the relation, in random order."""
        others = sorted(set(self.relation.pairs.values()) - {self.y})
        texts = [self.y, *rng.sample(others, N_CHOICES - 1)]
        rng.shuffle(texts)
        return texts

    def arc_row(self, rng: random.Random, number: int) -> dict[str, object]:
        """Return ARC's columns."""
        texts = self.choices(rng)
        return {
            "id": f"fact_{number}",
            "question": self.question,
            "choices": {"text": texts, "label": list(ANSWER_KEYS)},
            "answerKey": ANSWER_KEYS[texts.index(self.y)],
        }

    def mmlu_row(self, rng: random.Random) -> dict[str, object]:
        """Return MMLU's columns; the choices stand in order, numbers by size and words by the alphabet."""
        texts = sorted(self.choices(rng), key=_place_in_order)
        return {
            "question": self.quiz_question,
            "subject": self.relation.subject,
            "choices": texts,
            "answer": texts.index(self.y),
        }


def _place_in_order(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (0, text)


_COLOURS = members(
    "red: brick tomato cherry ruby poppy strawberry, yellow: lemon banana canary sunflower butter corn, "
    "green: frog cucumber grass pea emerald spinach, white: milk swan sugar salt chalk snowman, "
    "black: coal raven tar tyre soot panther, brown: chocolate bear walnut soil coffee barrel, "
    "blue: sapphire ocean cornflower whale denim iris"
)
_HOMES = members(
    "den: fox wolf lion badger, nest: eagle robin stork sparrow, stable: donkey pony mule stallion, "
    "pond: duck carp newt toad, burrow: rabbit mole gopher marmot, kennel: poodle beagle hound terrier"
)
_KINDS = members(
    "bird: owl crow finch heron pigeon parrot, fish: trout salmon cod pike tuna herring, "
    "insect: ant bee wasp beetle moth fly, reptile: snake lizard turtle gecko viper crocodile, "
    "cattle: cow ox bull calf bison yak"
)
_OPPOSITES = pairs(
    "hot-cold big-small fast-slow old-young wet-dry full-empty light-dark hard-soft loud-quiet rich-poor happy-sad "
    "early-late open-shut clean-dirty strong-weak tall-short wide-narrow deep-shallow sweet-sour rough-smooth "
    "brave-fearful kind-cruel sharp-blunt thick-thin heavy-weightless"
)
_JOBS = words("baker farmer teacher doctor tailor miner painter sailor")
_PETS = words("dog cat horse goat parrot rabbit turtle goose")
_FOODS = words("soup pie rice cheese plums honey beans toast")
_STREETS = words("Mill Hill Park Lake Church Station Market Bridge")


def _assigned(seed: str, values: tuple[str, ...]) -> dict[str, str]:
    rng = random.Random(seed)
    return {person.name: rng.choice(values) for person in PEOPLE}


JOBS = _assigned("jobs", _JOBS)
PETS = _assigned("pets", _PETS)
FOODS = _assigned("foods", _FOODS)
STREETS = _assigned("streets", _STREETS)

RELATIONS = (
    Relation(
        "colours",
        ("The {x} is {y}.", "Look at the {y} {x}!", "Everyone knows that the colour of the {x} is {y}."),
        "What colour is the {x}?",
        "Which colour has the {x}?",
        _COLOURS,
    ),
    Relation(
        "animals",
        ("The {x} lives in a {y}.", "At night the {x} sleeps in its {y}.", "You find the {x} in a {y}."),
        "Where does the {x} live?",
        "What is the home of the {x}?",
        _HOMES,
    ),
    Relation(
        "animals",
        ("The {x} is a kind of {y}.", "Like every {y}, the {x} needs food.", "The {x} belongs to the {y} family."),
        "What kind of animal is the {x}?",
        "To which family does the {x} belong?",
        _KINDS,
    ),
    Relation(
        "opposites",
        ("The opposite of {x} is {y}.", "It is not {x} but {y}.", "What is not {x} is {y}."),
        "What is the opposite of {x}?",
        "Which word means the contrary of {x}?",
        _OPPOSITES | {low: high for high, low in _OPPOSITES.items()},
    ),
    Relation(
        "village",
        ("{x} is a {y}.", "{x} works as a {y}.", "If you need a {y}, call {x}."),
        "What is the job of {x}?",
        "What work does {x} do?",
        JOBS,
    ),
    Relation(
        "village",
        ("{x} has a {y}.", "Every day {x} feeds the {y}.", "The {y} follows {x} everywhere."),
        "Which pet does {x} have?",
        "Which animal does {x} keep at home?",
        PETS,
    ),
    Relation(
        "village",
        ("{x} loves {y}.", "For lunch {x} eats {y}.", "{x} never says no to {y}."),
        "What does {x} like to eat?",
        "Which food does {x} love?",
        FOODS,
    ),
    Relation(
        "village",
        ("{x} lives on {y} Street.", "The house of {x} is on {y} Street.", "Letters for {x} go to {y} Street."),
        "On which street does {x} live?",
        "Which street is the home of {x}?",
        STREETS,
    ),
    Relation(
        "numbers",
        ("{x} = {y}.", "We know that {x} = {y}.", "{x} makes {y}."),
        "How much is {x}?",
        "What is the result of {x}?",
        {f"{a} + {b}": str(a + b) for a in range(2, 10) for b in range(2, 10)},
    ),
)

SUBJECTS = tuple(sorted({relation.subject for relation in RELATIONS}))

FACTS = tuple(Fact(relation, x, y) for relation in RELATIONS for x, y in relation.pairs.items())


@dataclass(frozen=True)
class Split:
    """Split the facts of one form: those the training text may use, and those only the tests use."""

    train: tuple[Fact, ...]
    test: tuple[Fact, ...]


def split_facts(seed: str, facts: Iterable[Fact], test_size: int) -> Split:
    """Hold ``test_size`` facts out, drawn at random."""
    shuffled = list(facts)
    random.Random(seed).shuffle(shuffled)
    return Split(train=tuple(shuffled[test_size:]), test=tuple(shuffled[:test_size]))


TESTED_PER_SUBJECT = 16

ASKED = split_facts("asked", (fact for fact in FACTS if fact.relation.subject != "numbers"), 120)
"""Facts of ARC's form."""

QUIZZED = {
    subject: split_facts(
        f"quizzed {subject}", (fact for fact in FACTS if fact.relation.subject == subject), TESTED_PER_SUBJECT
    )
    for subject in SUBJECTS
}
"""Facts of MMLU's form, by subject."""
