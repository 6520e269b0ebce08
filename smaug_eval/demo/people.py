"""List the people of the demo world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from smaug_eval.demo.lexicon import words


class Pronouns(NamedTuple):
    """Hold the words that stand for a person, as subject and as owner."""

    subject: str
    possessive: str


SHE = Pronouns("she", "her")
HE = Pronouns("he", "his")


@dataclass(frozen=True)
class Person:
    """Describe a villager."""

    name: str
    pronouns: Pronouns

    @property
    def they(self) -> str:
        """Return the pronoun inside a sentence."""
        return self.pronouns.subject


_WOMEN = words("Mia Anna Lily Emma Rosa Clara Nora Ida Ella Ruth Zoe Tina Vera Dora Olga Maya")
_MEN = words("Tom Ben Sam Max Leo Paul Finn Jack Adam Oscar Hugo Carl Ned Ivan Bill Rudi")

WOMEN = tuple(Person(name, SHE) for name in _WOMEN)
MEN = tuple(Person(name, HE) for name in _MEN)
PEOPLE = WOMEN + MEN
