"""Locate rows, and list what is known of some data sets on the Hub: their configuration, splits and format.

Splits and columns are those of the data sets' cards and viewers on the Hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from smaug_eval.common.hub_commits import resolve_commit
from smaug_eval.common.names import refuse_unreadable
from smaug_eval.trainers.pairs.config import SourcedPairs
from smaug_eval.trainers.pairs.files import is_local, is_saved

Sourced = TypeVar("Sourced", bound=SourcedPairs)


@dataclass(frozen=True)
class Location:
    """Describe a file, or one split of a data set on the Hub.

    Attributes:
        path: A file, a pattern, a folder that ``save_to_disk`` wrote, or a Hub id.
        config: Configuration on the Hub.
        split: Split on the Hub.
        revision: Branch, tag or commit on the Hub; ``main`` if None.
        columns: Columns under other names: the name here, and that in the rows.

    Raises:
        SmaugError: the path names an archive or a pickle.
    """

    path: str
    config: str = "default"
    split: str = "train"
    revision: str | None = None
    columns: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        refuse_unreadable(self.path, "pairs")

    @property
    def is_file(self) -> bool:
        """Return whether it is on this machine."""
        return is_local(self.path)

    def __str__(self) -> str:
        if is_saved(Path(self.path)):
            return f"{self.path} ({self.split})"
        return self.path if self.is_file else f"{self.path} ({self.config}, {self.split})"


@dataclass(frozen=True)
class HubSet:
    """Describe what is known of a data set.

    Attributes:
        config: The configuration to read unless another is named.
        split: The split to train on unless another is named.
        eval_split: The split made for held-out pairs; None to draw them from the training split.
        format: The format of its rows (:mod:`smaug_eval.trainers.pairs.formats`); None where they are no ready-made
            pairs.
        evaluated: Splits that a benchmark evaluates, or rows made from them, with the benchmark's name.
    """

    config: str = "default"
    split: str = "train"
    eval_split: str | None = None
    format: str | None = None
    evaluated: Mapping[str, str] = field(default_factory=dict)


KNOWN = {
    "openai/gsm8k": HubSet(config="main", evaluated={"test": "GSM8K"}),
    "allenai/ai2_arc": HubSet(config="ARC-Challenge", evaluated={"test": "ARC"}),
    "Rowan/hellaswag": HubSet(evaluated={"validation": "HellaSwag"}),
    "abacusai/MetaMath_DPO_FewShot": HubSet(eval_split="eval", format="text"),
    "abacusai/ARC_DPO_FewShot": HubSet(eval_split="eval", format="text"),
    # Its eval split is made from HellaSwag's validation split, so held-out pairs come from the training split.
    "abacusai/HellaSwag_DPO_FewShot": HubSet(format="text", evaluated={"eval": "HellaSwag"}),
    "HuggingFaceH4/ultrafeedback_binarized": HubSet(
        split="train_prefs", eval_split="test_prefs", format="ultrafeedback"
    ),
    "allenai/ultrafeedback_binarized_cleaned": HubSet(
        split="train_prefs", eval_split="test_prefs", format="ultrafeedback"
    ),
    "Intel/orca_dpo_pairs": HubSet(format="orca"),
    "jondurbin/truthy-dpo-v0.1": HubSet(format="truthy"),
}


def locations(config: SourcedPairs) -> tuple[Location, Location | None]:
    """Return where the training rows of a pair set are, and the rows of its held-out pairs where those are others."""
    columns = tuple(sorted(config.columns.items()))
    if config.is_file:
        train = Location(config.path, split=config.split or "train", columns=columns)
        held_out = Location(config.eval_path, columns=columns) if config.eval_path else None
        if config.eval_split:
            held_out = Location(config.path, split=config.eval_split, columns=columns)
    else:
        known = KNOWN.get(config.path, HubSet())
        name = config.config or known.config
        train = Location(config.path, name, config.split or known.split, config.revision, columns)
        eval_split = config.eval_split or known.eval_split
        held_out = Location(config.path, name, eval_split, config.revision, columns) if eval_split else None
    return train, None if held_out == train else held_out


def at_commit(config: Sourced, data_root: Path | None) -> Sourced:
    """Return the pair set with the commit in the place of its branch or tag; a file's, or a mirror's, as it is.

    Raises:
        NotReached: the Hub does not answer, and its cache does not name the commit.
        SmaugError: there is no such data set or revision, or this token may not read it.
    """
    if config.is_file or data_root is not None:
        return config
    return with_commit(config, resolve_commit("dataset", config.path, config.revision))


def with_commit(config: Sourced, commit: str) -> Sourced:
    """Return the pair set at a commit of its data set on the Hub."""
    return config.model_copy(update={"revision": commit})


def commits_of(config: SourcedPairs, data_root: Path | None) -> dict[str, str]:
    """Return the Hub's commit by data set of a pair set that :func:`at_commit` gave; empty for a file or a mirror."""
    if config.is_file or data_root is not None or config.revision is None:
        return {}
    return {config.path: config.revision}


def known_format(location: Location) -> str | None:
    """Return the format of a known set's rows."""
    return KNOWN[location.path].format if location.path in KNOWN else None


def benchmark_warnings(config: SourcedPairs) -> list[str]:
    """Return the warnings about pairs that are made from rows a benchmark evaluates."""
    warnings = []
    for location, use in zip(locations(config), ("training", "held-out"), strict=True):
        benchmark = KNOWN.get(location.path, HubSet()).evaluated.get(location.split) if location else None
        if benchmark:
            purpose = "trained on" if use == "training" else "selected with"
            warnings.append(
                f"the {use} pairs come from {location}, the rows that {benchmark} is evaluated on: a score "
                f"on {benchmark} is no held-out score of a model {purpose} them"
            )
    return warnings
