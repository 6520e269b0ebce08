"""Describe the pair sets of a recipe, as data: where pairs come from and how they are made. Free of torch.

:data:`SOURCES` holds one entry per kind of source that makes pairs from rows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, field_validator, model_validator

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import unreadable_kind
from smaug_eval.common.settings import ADDED, Strict
from smaug_eval.common.suggest import nearest
from smaug_eval.common.tables import Table
from smaug_eval.trainers.pairs.files import FORMATS, is_local, is_saved

if TYPE_CHECKING:
    from smaug_eval.trainers.pairs.pair import PairSet


_ROW_COLUMNS = (
    *(
        "prompt",
        "chosen",
        "rejected",
        "completion",
        "label",
        "system",
        "question",
        "input",
        "preferred_output",
        "non_preferred_output",
    ),
    *("tools", "documents", "chat_template_kwargs"),
)
"""Columns of ready-made rows, in any of their forms."""


class ChesKeys(Strict):
    """Keep the pairs whose completions a model represents least alike, by their CHES."""

    keep: float = Field(gt=0, lt=1, description="Share of the training pairs to keep: those with the lowest scores.")
    normalised: bool = Field(
        True, description="Whether the score is normalised by the lengths of the completions, as the paper filters by."
    )


class _PairSetKeys(Strict):
    """What every pair set has: how many pairs to keep for evaluation, and a seed."""

    holdout: NonNegativeInt = Field(
        64, description="Pairs kept for evaluation, drawn at random; they share no question with the training pairs."
    )
    seed: NonNegativeInt = Field(42, description="Seed of every random choice made for this pair set.")
    allow_leaks: list[str] = Field(
        default_factory=list,
        description="Benchmark tasks whose evaluated documents may stand in the training pairs: a warning instead of "
        "an error.",
    )
    ches: ChesKeys | None = Field(
        None,
        description="Train on the pairs with the lowest centred hidden embedding similarity (CHES, arXiv 2410.08847) "
        "alone, such as {keep: 0.05}: before its first step, each training on this set scores the pairs by the model "
        "that it starts from. All pairs if empty.",
        json_schema_extra=ADDED,
    )


class SourcedPairs(_PairSetKeys):
    """Configure a pair set made from rows: where they are, and how many pairs to use."""

    source: str
    path: str = Field(
        min_length=1,
        description="A .jsonl, .json, .csv or .tsv file (also .gz or .zst), a .parquet or .arrow file, a pattern such "
        "as data/*.jsonl, a folder that save_to_disk wrote, or the id of a data set on the Hub.",
    )
    config: str | None = Field(
        None, description="Configuration of the Hub data set (default: the known set's own, else default)."
    )
    split: str | None = Field(
        None, description="Split of the Hub data set to train on (default: the known set's own, else train)."
    )
    revision: str | None = Field(
        None,
        min_length=1,
        description="Branch, tag or commit of the Hub data set (default: main, as it is when the run is prepared).",
    )
    eval_path: str | None = Field(None, description="File to draw the held-out pairs from; the training rows if empty.")
    eval_split: str | None = Field(
        None,
        description="Split of the Hub data set to draw the held-out pairs from (default: the known set's own, else the "
        "training split).",
    )
    limit: PositiveInt | None = Field(None, description="Training pairs to keep, from the beginning; all if empty.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Columns under other names, such as prompt: instruction; by the name here, the name in the rows.",
        json_schema_extra=ADDED,
    )

    @property
    def is_file(self) -> bool:
        """Return whether ``path`` names rows on this machine rather than a data set on the Hub."""
        return is_local(self.path)

    @model_validator(mode="after")
    def _keys_fit_the_path(self) -> SourcedPairs:
        splits = () if is_saved(Path(self.path)) else ("split", "eval_split")
        useless = ("config", "revision", *splits) if self.is_file else ("eval_path",)
        given = [key for key in useless if getattr(self, key) is not None]
        if given:
            kind = "a file" if self.is_file else f"a Hub data set (not {FORMATS})"
            raise ValueError(f"{', '.join(given)} has no meaning where path is {kind}: remove it")
        if self.eval_path is not None and not is_local(self.eval_path):
            raise ValueError(f"eval_path must be {FORMATS}")
        if end := unreadable_kind(self.path):
            raise ValueError(f"path: {end} files are archives or can run code; give {FORMATS}")
        return self


class _ExampleSource(SourcedPairs):
    """A pair set whose prompts begin with solved examples."""

    shots: tuple[NonNegativeInt, NonNegativeInt] = Field(
        (0, 4), description="Fewest and most solved examples before the question; the number is drawn for each row."
    )

    @model_validator(mode="after")
    def _shots_in_order(self) -> _ExampleSource:
        if self.shots[0] > self.shots[1]:
            raise ValueError(f"shots must be [fewest, most], not {list(self.shots)}")
        return self


class MetaMathPairs(_ExampleSource):
    """Configure pairs made from GSM8K or MetaMathQA rows by falsifying one or more intermediate results.

    Source: the MetaMath_DPO_FewShot construction of arXiv 2402.13228.
    """

    source: Literal["metamath"] = Field(
        description="metamath: falsify one intermediate result of a GSM8K-format solution."
    )
    annotations: Literal["strip", "keep"] = Field(
        "strip",
        description="GSM8K's <<48/2=24>> annotations: strip removes them, keep falsifies them together with the text.",
    )
    falsify: PositiveInt | Literal["all"] = Field(
        1,
        description="Places of the solution that are falsified, as far as it has them: one intermediate result, then "
        "the others, then its other numbers, then words, exchanged for those of other solutions; all but the final "
        "answer if all. Prompts, chosen answers and the held-out questions are the same whatever the number.",
    )

    @field_validator("falsify", mode="before")
    @classmethod
    def _some_places_or_all(cls, value: object) -> object:
        if value != "all" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{value!r} is no number of places: give 1, 2, ... or all")
        return value


class ArcPairs(_ExampleSource):
    """Configure pairs made from ARC rows: the correct choice against each wrong one.

    Source: the ARC_DPO_FewShot construction of arXiv 2402.13228.
    """

    source: Literal["arc"] = Field(description="arc: the correct choice of an ARC question against each wrong one.")
    path: str = Field("allenai/ai2_arc", min_length=1, description="Rows of ARC: a file, or a Hub data set.")


class HellaSwagPairs(_ExampleSource):
    """Configure pairs made from HellaSwag rows: the correct ending against each wrong one.

    Source: the HellaSwag_DPO_FewShot construction of arXiv 2402.13228.
    """

    source: Literal["hellaswag"] = Field(
        description="hellaswag: the correct ending of a HellaSwag text against each wrong one."
    )
    path: str = Field(
        "Rowan/hellaswag",
        min_length=1,
        description="Rows of HellaSwag: a file, or a Hub data set.",
    )


class RowPairs(SourcedPairs):
    """Configure ready-made preference rows, as text or as chat messages."""

    source: Literal["rows"] = Field(
        description="rows: ready-made prompt, chosen, rejected rows, text or chat; or prompt, completion, label."
    )
    format: Literal[
        "auto",
        "text",
        "chat",
        "ultrafeedback",
        "orca",
        "truthy",
        "openai",
        "messages",
        "sharegpt",
        "alpaca",
        "argilla",
        "hh",
        "nectar",
        "unpaired",
    ] = Field(
        "auto",
        description="Columns of the rows; auto detects each row's by its columns and the kinds of their values. "
        "unpaired: prompt, completion and label (true or false), for loss: kto.",
    )
    weight: str | None = Field(
        None,
        min_length=1,
        description="Column with the factor of each pair's loss, a number from 0 on; every pair weighs 1 if empty.",
        json_schema_extra=ADDED,
    )
    drop_equal: bool | None = Field(
        None,
        description="Drop and count rows whose chosen equals their rejected, instead of refusing the file "
        "(default: true for a Hub data set).",
    )
    drop_empty: bool | None = Field(
        None,
        description="Drop and count rows with an empty completion, instead of refusing the file "
        "(default: true for a Hub data set).",
    )

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name not in _ROW_COLUMNS:
                raise ValueError(f"columns.{name}: rows have no such column{nearest(name, _ROW_COLUMNS)}")
        return value

    @model_validator(mode="after")
    def _hub_rows_cannot_be_mended(self) -> RowPairs:
        self.drop_equal = not self.is_file if self.drop_equal is None else self.drop_equal
        self.drop_empty = not self.is_file if self.drop_empty is None else self.drop_empty
        return self


def measured_rows(path: str, **settings: Any) -> RowPairs:
    """Configure ready-made rows that are looked at rather than trained on: unusable ones are left out, all are kept.

    Args:
        path: A file, a pattern, a folder, or a Hub data set.
        **settings: Further fields.

    Raises:
        SmaugError: a field has a value that it cannot have.
    """
    try:
        return RowPairs(source="rows", path=path, holdout=0, drop_equal=True, drop_empty=True, **settings)
    except ValidationError as error:
        said = "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors())
        raise SmaugError(f"pairs {path}: {said}", fix="correct the option or argument") from None


class MixturePairs(_PairSetKeys):
    """Configure pairs drawn from other pair sets of the recipe."""

    source: Literal["mixture"] = Field(description="mixture: pairs drawn from other pair sets of the recipe.")
    sets: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        min_length=1, description="Names of the pair sets, each with its weight: its share of the pairs."
    )
    count: PositiveInt | None = Field(
        None, description="Training pairs to draw, without replacement; until the first set is exhausted if empty."
    )


@dataclass(frozen=True)
class PairSource:
    """Name what belongs to one kind of pair source.

    Attributes:
        config: Its keys in a recipe; ``source`` is the literal that names it.
        maker: The function that makes the pairs, as ``module:function``, imported when it is needed: it takes the
            configuration and ``data_root``, and returns a :class:`~smaug_eval.trainers.pairs.pair.PairSet`.
    """

    config: type[SourcedPairs]
    maker: str

    def make(self, config: SourcedPairs, data_root: Path | None) -> PairSet:
        """Make the pairs of a set."""
        module, _, name = self.maker.partition(":")
        function: Callable[..., PairSet] = getattr(importlib.import_module(module), name)
        return function(config, data_root=data_root)


SOURCES = Table(
    "pair_sources",
    PairSource,
    {
        "metamath": PairSource(MetaMathPairs, "smaug_eval.trainers.pairs.metamath:metamath_pairs"),
        "arc": PairSource(ArcPairs, "smaug_eval.trainers.pairs.choices:arc_pairs"),
        "hellaswag": PairSource(HellaSwagPairs, "smaug_eval.trainers.pairs.choices:hellaswag_pairs"),
        "rows": PairSource(RowPairs, "smaug_eval.trainers.pairs.rows:row_pairs"),
    },
)
"""Every kind of source by its name in recipes; a mixture draws from sets made by these."""
