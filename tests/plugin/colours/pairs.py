"""A pair source: rows with a thing, its colour and another colour."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from smaug_eval.trainers.pairs.config import PairSource, SourcedPairs
from smaug_eval.trainers.pairs.pair import Pair, PairSet, split_pairs
from smaug_eval.trainers.pairs.read import raw_rows
from smaug_eval.trainers.pairs.sources import locations


class ColourPairs(SourcedPairs):
    """The keys of a pair set in a recipe."""

    source: Literal["colours"] = Field(description="colours: the colour of a thing against another one.")


def colour_pairs(config: ColourPairs, *, data_root: Path | None) -> PairSet:
    """Make one pair of each row."""
    rows = [row for _, row in raw_rows(locations(config)[0], data_root=data_root)]
    pairs = [
        Pair(f"The {row['thing']} is", f" {row['colour']}", f" {row['other']}", question=row["thing"]) for row in rows
    ]
    return split_pairs(config, PairSet([], [], rows=len(rows)), pairs)


SOURCE = PairSource(ColourPairs, "colours.pairs:colour_pairs")
