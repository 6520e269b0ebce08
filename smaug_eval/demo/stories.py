"""Generate stories with a predictable ending (HellaSwag's form) and pronoun riddles (Winogrande's form)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from smaug_eval.demo.facts import FOODS, JOBS, PETS, STREETS
from smaug_eval.demo.lexicon import words
from smaug_eval.demo.people import PEOPLE, Person

Row = dict[str, Any]
Item = TypeVar("Item")

OBJECTS = words(
    "box chair lamp boat door table basket clock wheel gate bench drum bottle kettle ladder mirror saddle suitcase "
    "shelf stove trunk wagon tent bell"
)


@dataclass(frozen=True)
class Activity:
    """Describe what somebody does to ``{thing}``: the preparation, which gives it away, and the ending."""

    label: str
    preparation: str
    ending: str


ACTIVITIES = (
    Activity("Washing", "fills a bucket with soap and water for the {thing}", "washes the {thing} until it is clean."),
    Activity("Painting", "opens a can of blue paint for the {thing}", "paints the {thing} with a big brush."),
    Activity("Mending", "brings glue and a hammer for the broken {thing}", "mends the {thing} so that it works again."),
    Activity("Selling", "writes a price on a card for the {thing}", "sells the {thing} to a neighbour."),
    Activity("Wrapping", "cuts paper and ribbon for the {thing}", "wraps the {thing} as a present."),
    Activity("Measuring", "takes a ruler and a notebook for the {thing}", "measures the {thing} and writes it down."),
    Activity("Drawing", "sharpens a pencil and sits down in front of the {thing}", "draws the {thing} on a page."),
    Activity("Moving", "calls two strong friends because of the {thing}", "carries the {thing} to the other room."),
    Activity("Hiding", "digs a deep hole behind the house for the {thing}", "hides the {thing} under the earth."),
    Activity("Covering", "finds an old blanket for the {thing}", "covers the {thing} against the rain."),
    Activity("Decorating", "picks flowers and leaves for the {thing}", "decorates the {thing} for the feast."),
    Activity("Locking", "looks for the right key for the {thing}", "locks the {thing} for the night."),
)


@dataclass(frozen=True)
class Habit:
    """Describe what every villager does differently and one must know: ``ending`` names the villager's ``{y}``."""

    label: str
    preparation: str
    ending: str
    values: dict[str, str] = field(hash=False)


HABITS = (
    Habit("Working", "gets up early and walks to work", "works all day as a {y}.", JOBS),
    Habit("Feeding", "comes home in the evening with food for the pet", "feeds the {y}.", PETS),
    Habit("Eating", "is hungry and sits down at the table", "eats a big plate of {y}.", FOODS),
    Habit("Going home", "says goodbye to everybody and leaves the feast", "walks home to {y} Street.", STREETS),
)


@dataclass(frozen=True)
class Scene:
    """Describe an activity with one object, done by anybody."""

    activity: Activity
    thing: str

    def row(self, rng: random.Random, number: int) -> Row:
        """Return HellaSwag's columns; wrong endings take the story's other object, another activity, or both."""
        person = rng.choice(PEOPLE)
        other_thing = rng.choice([thing for thing in OBJECTS if thing != self.thing])
        other_activity = rng.choice([activity for activity in ACTIVITIES if activity is not self.activity])
        endings = [
            activity.ending.format(thing=thing)
            for activity in (self.activity, other_activity)
            for thing in (self.thing, other_thing)
        ]
        preparation = self.activity.preparation.format(thing=self.thing)
        story = f"{person.name} walks past the {other_thing} and {preparation}."
        return _ending_row(rng, number, self.activity.label, story, person, endings)


@dataclass(frozen=True)
class Routine:
    """Describe a villager's habit."""

    habit: Habit
    person: Person

    def row(self, rng: random.Random, number: int) -> Row:
        """Return HellaSwag's columns; wrong endings are other villagers' habits."""
        true_value = self.habit.values[self.person.name]
        others = sorted(set(self.habit.values.values()) - {true_value})
        endings = [self.habit.ending.format(y=value) for value in (true_value, *rng.sample(others, 3))]
        story = f"{self.person.name} {self.habit.preparation}."
        return _ending_row(rng, number, self.habit.label, story, self.person, endings)


def _ending_row(rng: random.Random, number: int, label: str, story: str, person: Person, endings: list[str]) -> Row:
    """Shuffle ``endings``, of which the first is the true one."""
    shuffled = rng.sample(endings, len(endings))
    return {
        "ind": number,
        "activity_label": label,
        "ctx_a": story,
        "ctx_b": person.they,
        "endings": shuffled,
        "label": str(shuffled.index(endings[0])),
    }


@dataclass(frozen=True)
class Riddle:
    """Hold a sentence about two candidates; ``first`` fits ``{a}`` in the blank and ``second`` fits ``{b}``."""

    beginning: str
    first: str
    second: str


_RIDDLES_OF_PEOPLE = (
    Riddle("{a} thanked {b} because _", "was grateful.", "had helped a lot."),
    Riddle("{a} asked {b} a question because _", "did not know the answer.", "was very wise."),
    Riddle("{a} gave bread to {b} because _", "had too much of it.", "was hungry."),
    Riddle("{a} carried {b} home because _", "was strong.", "was too tired to walk."),
    Riddle("{a} waited for {b} because _", "was early.", "was late again."),
    Riddle("{a} won the race against {b} because _", "ran faster.", "fell down on the way."),
    Riddle("{a} paid {b} because _", "had ordered the work.", "had done the work."),
    Riddle("{a} taught {b} to swim because _", "was a good swimmer.", "was afraid of water."),
)
_RIDDLES_OF_THINGS = (
    Riddle("The {a} did not fit into the {b} because the _", "was too big.", "was too small."),
    Riddle("We could not see the {a} behind the {b} because the _", "was so tiny.", "was so tall."),
    Riddle("We sold the {a} and kept the {b} because the _", "was not needed.", "was still useful."),
    Riddle("The {a} broke when it hit the {b} because the _", "was made of glass.", "was made of iron."),
)

Cast = tuple[str, str]
"""The two candidates in the order in which the sentence names them."""


def riddle_row(rng: random.Random, riddle: Riddle, cast: Cast) -> Row:
    """Return Winogrande's columns."""
    right = rng.randrange(2)
    beginning = riddle.beginning.format(a=cast[0], b=cast[1])
    options = list(cast)
    rng.shuffle(options)
    return {
        "sentence": f"{beginning} {(riddle.first, riddle.second)[right]}",
        "option1": options[0],
        "option2": options[1],
        "answer": str(options.index(cast[right]) + 1),
    }


def pet_row(rng: random.Random, cast: Cast) -> Row:
    """Return Winogrande's columns for a riddle that only knowledge of the villagers' pets solves."""
    right = rng.randrange(2)
    owner = cast[right]
    return {
        "sentence": f"{cast[0]} and {cast[1]} went home, where _ fed the {PETS[owner]}.",
        "option1": cast[0],
        "option2": cast[1],
        "answer": str(right + 1),
    }


def _names(people: Iterable[Person]) -> list[str]:
    return [person.name for person in people]


def _casts(candidates: Sequence[str]) -> list[Cast]:
    return [(a, b) for a in candidates for b in candidates if a != b]


_PEOPLE_CASTS = _casts(_names(PEOPLE))
_PET_CASTS = [(a, b) for a, b in _PEOPLE_CASTS if PETS[a] != PETS[b]]
_THING_CASTS = _casts(OBJECTS)


@dataclass(frozen=True)
class Casts:
    """Hold the pairs of candidates from which one split's riddles are drawn; splits share none."""

    people: tuple[Cast, ...]
    pets: tuple[Cast, ...]
    things: tuple[Cast, ...]

    def row(self, rng: random.Random) -> Row:
        """Draw a riddle."""
        kind = rng.random()
        if kind < 0.35:
            return pet_row(rng, rng.choice(self.pets))
        if kind < 0.75:
            return riddle_row(rng, rng.choice(_RIDDLES_OF_PEOPLE), rng.choice(self.people))
        return riddle_row(rng, rng.choice(_RIDDLES_OF_THINGS), rng.choice(self.things))


def _held_out(seed: str, items: list[Item], share: float) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Train and test parts, drawn at random."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    count = round(share * len(shuffled))
    return tuple(shuffled[count:]), tuple(shuffled[:count])


_SPLITS = [
    _held_out(seed, casts, 0.2)
    for seed, casts in (("people", _PEOPLE_CASTS), ("pets", _PET_CASTS), ("things", _THING_CASTS))
]
TRAIN_CASTS, TEST_CASTS = (Casts(*(pair[part] for pair in _SPLITS)) for part in (0, 1))


@dataclass(frozen=True)
class Stories:
    """Hold the stories of one split; splits share none."""

    scenes: tuple[Scene, ...]
    routines: tuple[Routine, ...]

    def draw(self, rng: random.Random) -> Scene | Routine:
        """Draw one of either kind, with equal chances."""
        return rng.choice(self.scenes) if rng.random() < 0.5 else rng.choice(self.routines)


def _split_stories() -> tuple[Stories, Stories]:
    train_scenes, test_scenes = _held_out(
        "scenes", [Scene(activity, thing) for activity in ACTIVITIES for thing in OBJECTS], 0.25
    )
    train_routines, test_routines = _held_out(
        "routines", [Routine(habit, person) for habit in HABITS for person in PEOPLE], 0.4
    )
    return Stories(train_scenes, train_routines), Stories(test_scenes, test_routines)


TRAIN_STORIES, TEST_STORIES = _split_stories()
