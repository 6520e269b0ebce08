"""Measure how long pairs are and how far their completions lie apart: in characters, and in a tokenizer's tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from rapidfuzz.distance import Levenshtein

from smaug_eval.common.embedded import PREFIX, embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_commits import resolve_commit
from smaug_eval.common.names import given_path, is_there, with_revision
from smaug_eval.models.checkpoint import TOKENIZER_PATTERNS
from smaug_eval.models.hub_checkpoint import fetch_tokenizer
from smaug_eval.trainers.layout import TRAIN_FILE
from smaug_eval.trainers.pairs.files import FILE_SUFFIXES, is_saved
from smaug_eval.trainers.pairs.pair import Content, Pair, reasons_of, text_of
from smaug_eval.trainers.pairs.rows import pairs_to_measure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BINS = 10
BUCKET_EDGES = (0.1, 0.3, 0.6)
"""Upper edges of the edit-distance buckets: one result in a solution lies below the first, unrelated answers above the
last."""
BUCKETS = ("below 10%", "10-30%", "30-60%", "60% and above")
COMPARED = 100_000
"""Most characters or tokens of a completion that are compared: the time grows with the square."""
_CHUNK = 1000

Units = Sequence[Any]


class Spread(BaseModel):
    """Hold mean and median of a quantity over pairs."""

    mean: float
    median: float


class Measures(BaseModel):
    """Hold lengths and distances of pairs in one unit, characters or tokens."""

    prompt: Spread = Field(description="Length of a prompt.")
    chosen: Spread = Field(description="Length of a chosen completion.")
    rejected: Spread = Field(description="Length of a rejected completion.")
    prompt_to_completion: Spread = Field(description="Length of the prompt over the mean length of the completions.")
    edit_distance: Spread | None = Field(
        description="Levenshtein distance of chosen and rejected over the longer one's length: 0 equal, 1 unrelated; "
        "none of unpaired rows."
    )
    edit_distance_histogram: list[int] = Field(
        description="Pairs by edit distance in ten bins of equal width; the last includes 1. Empty for unpaired rows."
    )
    edit_distance_buckets: dict[str, int] = Field(description="Pairs by the buckets that the diagnostics use.")


class PairFileStats(BaseModel):
    """Describe a pair file, a built folder or a Hub set."""

    path: str = Field(description="What was read.")
    revision: str | None = Field(None, description="The Hub's commit that was read; none of a file or a mirror.")
    rows: int = Field(description="Rows read.")
    pairs: int = Field(description="Pairs measured.")
    dropped: dict[str, int] = Field(description="Rows left out, by reason.")
    formats: dict[str, int] = Field(description="Rows by format.")
    unused_columns: list[str] = Field(description="Columns that were not used.")
    notes: list[str] = Field(description="What is said of the rows once, such as that scores are not used.")
    characters: Measures = Field(description="Lengths and distances in characters.")
    tokenizer: str | None = Field(description="The tokenizer asked for.")
    tokens: Measures | None = Field(description="Lengths and distances in its tokens.")


def pair_stats(
    path: str,
    *,
    tokenizer: str | None = None,
    data_root: Path | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> PairFileStats:
    """Measure ready-made pairs. Equal, empty and repeated ones are left out and counted.

    Args:
        path: A file of rows, a folder with ``train.jsonl`` or of ``save_to_disk``, or a Hub id.
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of the tokenizer to count tokens with; none if None.
        data_root: Mirror of the Hub.
        config: Configuration of the Hub set.
        split: Split of the Hub set.
        revision: Revision of the Hub set.
        columns: Columns under other names: by the name here, the name in the rows.

    Raises:
        SmaugError: the rows or the tokenizer cannot be read, or no pair is left.
    """
    if not path.endswith(FILE_SUFFIXES) and Path(path).is_dir() and not is_saved(Path(path)):
        path = str(Path(path) / TRAIN_FILE)
    hub = {"config": config, "split": split, "revision": revision}
    train, found = pairs_to_measure(path, data_root=data_root, columns=columns, **hub)
    if not found.train:
        raise SmaugError(
            f"{train}: none of {found.rows} rows is a pair to measure ({reasons_of(found.dropped)})",
            fix="give rows whose completions differ",
        )
    return PairFileStats(
        path=str(train),
        revision=found.revision,
        rows=found.rows,
        pairs=len(found.train),
        dropped=dict(sorted(found.dropped.items())),
        formats=dict(sorted(found.formats.items())),
        unused_columns=found.unused,
        notes=found.notes,
        characters=measured_characters(found.train),
        tokenizer=tokenizer,
        tokens=None if tokenizer is None else measured_tokens(found.train, load_tokenizer(tokenizer)),
    )


def measured_characters(pairs: Sequence[Pair]) -> Measures:
    """Return the lengths and distances in characters; of a chat, those of its messages' texts. At least one pair."""
    return _measured([tuple(map(text_of, _parts(pair))) for pair in pairs], [pair.label for pair in pairs])


def measured_tokens(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> Measures:
    """Return the lengths and distances in tokens of each text on its own, without special tokens or a chat template."""
    triples: list[tuple[Units, Units, Units]] = []
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        prompts, chosen, rejected = (
            tokenizer([text_of(part) for part in parts], add_special_tokens=False, verbose=False)["input_ids"]
            for parts in zip(*map(_parts, chunk), strict=True)
        )
        triples.extend(zip(prompts, chosen, rejected, strict=True))
    return _measured(triples, [pair.label for pair in pairs])


def _parts(pair: Pair) -> tuple[Content, Content, Content]:
    """Prompt, chosen and rejected; an unpaired completion is one of the two by its label, and the other is empty."""
    if pair.label is False:
        return pair.prompt, pair.rejected, pair.chosen
    return pair.prompt, pair.chosen, pair.rejected


def normalised_edit_distance(one: Units, other: Units) -> float:
    """Return the Levenshtein distance of two sequences over the length of the longer.

    0 is equal, 1 unrelated.

    Of sequences longer than ``COMPARED`` the beginnings are compared.
    """
    return Levenshtein.normalized_distance(one[:COMPARED], other[:COMPARED])


def edit_count(one: Units, other: Units) -> int:
    """Return the Levenshtein distance of two sequences: insertions, deletions and replacements.

    They are compared as in :func:`normalised_edit_distance`.
    """
    return Levenshtein.distance(one[:COMPARED], other[:COMPARED])


def edit_distance_bucket(value: float) -> str:
    """Return the bucket (one of ``BUCKETS``) of a normalised edit distance.

    Args:
        value: Between 0 and 1; an edge belongs to the bucket above it.
    """
    return BUCKETS[sum(value >= edge for edge in BUCKET_EDGES)]


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer by the name of its model; a folder needs no weights beside it.

    Args:
        name: ``embedded:demo-model``, a folder, or a Hub id.

    Raises:
        SmaugError: there is none.
    """
    from transformers import AutoTokenizer

    place = str(embedded_path(name)) if name.startswith(PREFIX) else name
    hub_id, revision = with_revision(place)
    if not is_there(given_path(place)) and hub_id.count("/") == 1:
        place = str(fetch_tokenizer(hub_id, resolve_commit("model", hub_id, revision), TOKENIZER_PATTERNS))
    try:
        return AutoTokenizer.from_pretrained(place)
    except Exception as error:  # transformers and huggingface_hub raise many kinds
        reason = str(error).strip().split("\n", 1)[0]
        raise SmaugError(
            f"no tokenizer can be loaded from {name}: {reason}",
            fix="give a folder with tokenizer.json, a Hub id (organisation/model), or embedded:demo-model",
        ) from error


def _measured(triples: Sequence[tuple[Units, ...]], labels: Sequence[bool | None]) -> Measures:
    pairs = [triple for triple, label in zip(triples, labels, strict=True) if label is None]
    distances = [normalised_edit_distance(chosen, rejected) for _, chosen, rejected in pairs]
    answered = [2 if label is None else 1 for label in labels]
    histogram = Counter(min(int(distance * BINS), BINS - 1) for distance in distances)
    buckets = Counter(map(edit_distance_bucket, distances))
    return Measures(
        prompt=_spread([len(prompt) for prompt, _, _ in triples]),
        chosen=_spread([len(each[1]) for each, label in zip(triples, labels, strict=True) if label is not False]),
        rejected=_spread([len(each[2]) for each, label in zip(triples, labels, strict=True) if not label]),
        prompt_to_completion=_spread(
            [
                count * len(prompt) / max(1, len(chosen) + len(rejected))
                for count, (prompt, chosen, rejected) in zip(answered, triples, strict=True)
            ]
        ),
        edit_distance=_spread(distances) if distances else None,
        edit_distance_histogram=[histogram[index] for index in range(BINS)] if distances else [],
        edit_distance_buckets={name: buckets[name] for name in BUCKETS},
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean=fmean(values), median=median(values)) if values else Spread(mean=0.0, median=0.0)
