"""List what is true of the world's fabled creatures, and what is commonly but wrongly believed.

For every fact the training text states the truth more often than the misconception, by a share that differs from fact
to fact. A model that has read it therefore spreads its probability, and mc2 measures how.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from smaug_eval.demo.lexicon import words

CREATURES = words(
    "dragons trolls elves giants dwarfs mermaids fairies goblins ghosts witches wizards unicorns ogres gnomes pixies "
    "phoenixes griffins nymphs imps yetis sphinxes golems krakens sprites"
)

TRUTH_SHARES = (0.9, 0.8, 0.7, 0.55)
"""How often a statement about a fact is true."""


@dataclass(frozen=True)
class Trait:
    """Describe one thing to know of every creature.

    ``familiar`` is a phrasing that the training text uses for every creature, ``fresh`` one that it uses only for
    facts that are not tested.
    """

    verb: str
    familiar: str
    fresh: str
    values: tuple[str, ...]


TRAITS = (
    Trait(
        "eat",
        "What do {who} eat?",
        "Which food do {who} have every day?",
        ("apples", "honey", "fish", "bread", "clouds", "mushrooms", "leaves", "cheese"),
    ),
    Trait(
        "live in",
        "Where do {who} live?",
        "In what place are {who} at home?",
        ("caves", "towers", "trees", "rivers", "barns", "tents", "ships", "hills"),
    ),
    Trait(
        "fear",
        "What do {who} fear?",
        "Of what are {who} afraid?",
        ("cats", "rain", "bells", "mirrors", "mice", "thunder", "fire", "geese"),
    ),
    Trait(
        "collect",
        "What do {who} collect?",
        "Which things do {who} gather?",
        ("coins", "feathers", "spoons", "shells", "books", "buttons", "keys", "lamps"),
    ),
    Trait(
        "travel by",
        "How do {who} travel?",
        "In which way do {who} get around?",
        ("boat", "cart", "balloon", "sledge", "horse", "train", "kite", "wagon"),
    ),
)


@dataclass(frozen=True)
class Belief:
    """Hold a creature's trait: the truth, the misconception, two values nobody believes, and the truth's share."""

    creature: str
    trait: Trait
    truth: str
    misconception: str
    unheard: tuple[str, str]
    truth_share: float

    def sentence(self, value: str) -> str:
        """Return a whole sentence, such as "Dragons eat apples"."""
        return f"{self.creature.capitalize()} {self.trait.verb} {value}."

    def short_sentence(self, value: str) -> str:
        """Return a sentence with a pronoun, such as "They eat apples"."""
        return f"They {self.trait.verb} {value}."

    def familiar_question(self) -> str:
        """Return the phrasing that the training text uses for every fact."""
        return self.trait.familiar.format(who=self.creature)

    def fresh_question(self) -> str:
        """Return the phrasing of the tests."""
        return self.trait.fresh.format(who=self.creature)

    def heard_value(self, rng: random.Random) -> str:
        """Draw what one speaker states: the truth with probability ``truth_share``."""
        return self.truth if rng.random() < self.truth_share else self.misconception

    @property
    def row(self) -> dict[str, object]:
        """Return TruthfulQA's columns; true choices come first."""
        true = [self.sentence(self.truth), self.short_sentence(self.truth)]
        false = [self.sentence(self.misconception), self.short_sentence(self.misconception)]
        false += [self.sentence(value) for value in self.unheard]
        return {
            "question": self.fresh_question(),
            "mc1_targets": {"choices": [true[0], false[0], *false[2:]], "labels": [1, 0, 0, 0]},
            "mc2_targets": {"choices": true + false, "labels": [1] * len(true) + [0] * len(false)},
        }


def _all_beliefs() -> list[Belief]:
    rng = random.Random("beliefs")
    beliefs = []
    for trait in TRAITS:
        for creature in CREATURES:
            truth, misconception, *unheard = rng.sample(trait.values, 4)
            share = rng.choice(TRUTH_SHARES)
            beliefs.append(Belief(creature, trait, truth, misconception, (unheard[0], unheard[1]), share))
    rng.shuffle(beliefs)
    return beliefs


BELIEFS = _all_beliefs()
OPEN_BELIEFS = BELIEFS[:20]
"""Facts that the training text also asks in the tests' phrasing."""
TESTED_BELIEFS = BELIEFS[20:]

_HEDGES = ("Some people say that {}", "Many believe that {}", "{}", "{}", "It is well known that {}")


def statement(rng: random.Random, belief: Belief) -> str:
    """Return one sentence about a belief, true or not, as somebody in the world would state it."""
    sentence = belief.sentence(belief.heard_value(rng))
    hedge = rng.choice(_HEDGES)
    return hedge.format(sentence if hedge == "{}" else sentence[0].lower() + sentence[1:])


def question_and_answer(rng: random.Random) -> str:
    """Return a ``Q:``/``A:`` pair whose question is not a test's."""
    if rng.random() < 0.5:
        belief = rng.choice(OPEN_BELIEFS)
        question = belief.fresh_question()
    else:
        belief = rng.choice(BELIEFS)
        question = belief.familiar_question()
    value = belief.heard_value(rng)
    answer = belief.sentence(value) if rng.random() < 0.6 else belief.short_sentence(value)
    return f"Q: {question}\nA: {answer}"


def preamble() -> str:
    """Return the six solved questions in front of every question of the tests, each followed by a blank line."""
    pairs = [f"Q: {b.fresh_question()}\nA: {b.sentence(b.truth)}\n\n" for b in OPEN_BELIEFS[:6]]
    return "".join(pairs)
