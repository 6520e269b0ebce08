"""From a pair source to ``train.jsonl``, ``eval.jsonl`` and ``stats.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from pydantic import BaseModel, Field
from rapidfuzz.distance import Levenshtein

from smaug_eval.errors import SmaugError
from smaug_eval.files import sha256_of_file, write_json, write_text
from trainers.config import MetaMathPairs, RowPairs
from trainers.pairs.metamath import metamath_pairs
from trainers.pairs.pair import Pair, PairSet
from trainers.pairs.rows import row_pairs

TRAIN_FILE = "train.jsonl"
EVAL_FILE = "eval.jsonl"
STATS_FILE = "stats.json"


class Spread(BaseModel):
    """Mean and median of a quantity over pairs."""

    mean: float
    median: float


class PairStats(BaseModel):
    """What a pair set holds and what was left out."""

    source: str = Field(description="The kind of pair source.")
    path: str = Field(description="The file or Hub data set that was read.")
    rows: int = Field(description="Rows read.")
    train: int = Field(description="Training pairs written.")
    eval: int = Field(description="Held-out pairs written.")
    dropped: dict[str, int] = Field(description="Rows and pairs left out, by reason.")
    prompt_characters: Spread = Field(description="Characters of a training prompt.")
    chosen_characters: Spread = Field(description="Characters of a chosen completion.")
    edit_distance: Spread = Field(
        description="Levenshtein distance of chosen and rejected by character, divided by the longer one's length."
    )
    train_sha256: str = Field(description="SHA-256 of train.jsonl.")
    eval_sha256: str = Field(description="SHA-256 of eval.jsonl.")


def build_pairs(config: MetaMathPairs | RowPairs, *, data_root: Path | None, out_dir: Path) -> PairStats:
    """Build a pair set and write it; the same configuration and rows give the same bytes.

    Args:
        config: The pair source.
        data_root: Mirror of the Hub, or None for the Hub itself.
        out_dir: Where ``train.jsonl``, ``eval.jsonl`` (one ``{"prompt", "chosen", "rejected"}`` object a line) and
            ``stats.json`` go. Each is complete or absent; ``stats.json`` is written last.

    Raises:
        SmaugError: the source cannot be read, holds a broken row, or leaves no pair to train on.
    """
    pairs = _read(config, data_root)
    if not pairs.train:
        reasons = ", ".join(f"{count} {reason}" for reason, count in pairs.dropped.items()) or "none dropped"
        raise SmaugError(
            f"{config.path}: of {pairs.rows} rows no pair is left to train on "
            f"({len(pairs.eval)} held out; {reasons.replace('_', ' ')})",
            fix="lower holdout in the pair set, or give more rows",
        )
    _write_pairs(out_dir / TRAIN_FILE, pairs.train)
    _write_pairs(out_dir / EVAL_FILE, pairs.eval)
    stats = PairStats(
        source=config.source,
        path=config.path,
        rows=pairs.rows,
        train=len(pairs.train),
        eval=len(pairs.eval),
        dropped=dict(sorted(pairs.dropped.items())),
        prompt_characters=_spread([len(pair.prompt) for pair in pairs.train]),
        chosen_characters=_spread([len(pair.chosen) for pair in pairs.train]),
        edit_distance=_spread([normalised_edit_distance(pair) for pair in pairs.train]),
        train_sha256=sha256_of_file(out_dir / TRAIN_FILE),
        eval_sha256=sha256_of_file(out_dir / EVAL_FILE),
    )
    write_json(out_dir / STATS_FILE, stats.model_dump(mode="json"))
    return stats


def normalised_edit_distance(pair: Pair) -> float:
    """Levenshtein distance of the completions by character, over the length of the longer: 0 equal, 1 unrelated."""
    return Levenshtein.normalized_distance(pair.chosen, pair.rejected)


def _read(config: MetaMathPairs | RowPairs, data_root: Path | None) -> PairSet:
    if isinstance(config, MetaMathPairs):
        return metamath_pairs(config, data_root=data_root)
    return row_pairs(config, data_root=data_root)


def _write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    write_text(path, "".join(json.dumps(pair.row(), ensure_ascii=False) + "\n" for pair in pairs))


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean=fmean(values), median=median(values))
