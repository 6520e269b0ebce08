"""Where rows are, and what is known of some data sets on the Hub: their configuration, splits and format.

Splits and columns are those of the data sets' cards and viewers on the Hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from smaug_eval.names import refuse_unreadable
from trainers.config import FILE_SUFFIXES, SourcedPairs


@dataclass(frozen=True)
class Location:
    """A file, or one split of a data set on the Hub.

    Attributes:
        path: A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file, or a Hub id.
        config: Configuration on the Hub.
        split: Split on the Hub.
        revision: Branch, tag or commit on the Hub; the newest if None.

    Raises:
        SmaugError: the path names an archive or a pickle.
    """

    path: str
    config: str = "default"
    split: str = "train"
    revision: str | None = None

    def __post_init__(self) -> None:
        refuse_unreadable(self.path, "pairs")

    @property
    def is_file(self) -> bool:
        """Whether it is a local file, by its suffix."""
        return self.path.endswith(FILE_SUFFIXES)

    def __str__(self) -> str:
        return self.path if self.is_file else f"{self.path} ({self.config}, {self.split})"


@dataclass(frozen=True)
class HubSet:
    """What is known of a data set.

    Attributes:
        config: The configuration to read unless another is asked for.
        split: The split to train on unless another is asked for.
        eval_split: The split made for held-out pairs; None to draw them from the training split.
        format: The format of its rows (:mod:`trainers.pairs.formats`); None where they are no ready-made pairs.
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
    """Where the training rows of a pair set are, and the rows of its held-out pairs where those are others."""
    if config.is_file:
        train = Location(config.path)
        held_out = Location(config.eval_path) if config.eval_path else None
    else:
        known = KNOWN.get(config.path, HubSet())
        name = config.config or known.config
        train = Location(config.path, name, config.split or known.split, config.revision)
        eval_split = config.eval_split or known.eval_split
        held_out = Location(config.path, name, eval_split, config.revision) if eval_split else None
    return train, None if held_out == train else held_out


def known_format(location: Location) -> str | None:
    """The format of a known set's rows."""
    return KNOWN[location.path].format if location.path in KNOWN else None


def benchmark_warnings(config: SourcedPairs) -> list[str]:
    """What to tell the reader of pairs that are made from rows a benchmark evaluates."""
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
