"""From a pair source to ``train.jsonl``, ``eval.jsonl``, ``questions.json`` and ``stats.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, Field

from smaug_eval.digests import sha256_of_file
from smaug_eval.errors import SmaugError
from smaug_eval.files import read_json, sha256_of_text, write_json, write_text
from trainers.config import ArcPairs, HellaSwagPairs, MetaMathPairs, MixturePairs, RowPairs, SourcedPairs
from trainers.pairs.choices import arc_pairs, hellaswag_pairs
from trainers.pairs.metamath import metamath_pairs
from trainers.pairs.mixture import BuiltSet, mixture_pairs
from trainers.pairs.pair import Pair, PairSet, reasons_of
from trainers.pairs.read import pairs_of_file
from trainers.pairs.rows import row_pairs
from trainers.pairs.sources import benchmark_warnings
from trainers.pairs.stats import Measures, load_tokenizer, measured_characters, measured_tokens

TRAIN_FILE = "train.jsonl"
EVAL_FILE = "eval.jsonl"
QUESTIONS_FILE = "questions.json"
STATS_FILE = "stats.json"


class PairStats(BaseModel):
    """What a pair set holds and what was left out."""

    source: str = Field(description="The kind of pair source.")
    path: str = Field(description="The file or Hub data set that was read, or the names of a mixture's sets.")
    rows: int = Field(description="Rows read; of a mixture, pairs of its sets.")
    train: int = Field(description="Training pairs written.")
    eval: int = Field(description="Held-out pairs written.")
    dropped: dict[str, int] = Field(description="Rows and pairs left out, by reason.")
    formats: dict[str, int] = Field(description="Ready-made rows by the format they were found to have.")
    parts: dict[str, int] = Field(description="Training pairs of a mixture by the set they come from.")
    warnings: list[str] = Field(description="What a reader of scores must know of the pairs.")
    characters: Measures = Field(description="Lengths and distances of the training pairs in characters.")
    tokenizer: str | None = Field(description="The tokenizer asked for.")
    tokens: Measures | None = Field(description="Lengths and distances of the training pairs in its tokens.")
    train_sha256: str = Field(description="SHA-256 of train.jsonl.")
    eval_sha256: str = Field(description="SHA-256 of eval.jsonl.")


def build_pairs(
    config: SourcedPairs | MixturePairs,
    *,
    data_root: Path | None,
    out_dir: Path,
    sets: Mapping[str, Path] | None = None,
    tokenizer: str | None = None,
) -> PairStats:
    """Build a pair set and write it; the same configuration and rows give the same bytes.

    Args:
        config: The pair source.
        data_root: Mirror of the Hub, or None for the Hub itself.
        out_dir: Where ``train.jsonl``, ``eval.jsonl`` (one ``{"prompt", "chosen", "rejected"}`` object a line, texts or
            lists of messages), ``questions.json`` (a digest of each pair's question) and ``stats.json`` go. Each is
            complete or absent; ``stats.json`` is written last.
        sets: Folders of the built sets that a mixture draws from, by name.
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of a tokenizer, to count tokens too.

    Raises:
        SmaugError: the source cannot be read, holds a broken row, or leaves no pair to train on.
    """
    counter = None if tokenizer is None else load_tokenizer(tokenizer)
    pairs = _read(config, data_root, sets or {})
    path = " + ".join(sorted(config.sets)) if isinstance(config, MixturePairs) else config.path
    if not pairs.train:
        raise _nothing_left(path, pairs)
    _write_pairs(out_dir / TRAIN_FILE, pairs.train)
    _write_pairs(out_dir / EVAL_FILE, pairs.eval)
    write_json(out_dir / QUESTIONS_FILE, {"train": _digests(pairs.train), "eval": _digests(pairs.eval)})
    stats = PairStats(
        source=config.source,
        path=path,
        rows=pairs.rows,
        train=len(pairs.train),
        eval=len(pairs.eval),
        dropped=dict(sorted(pairs.dropped.items())),
        formats=dict(sorted(pairs.formats.items())),
        parts=pairs.parts,
        warnings=[] if isinstance(config, MixturePairs) else benchmark_warnings(config),
        characters=measured_characters(pairs.train),
        tokenizer=tokenizer,
        tokens=None if counter is None else measured_tokens(pairs.train, counter),
        train_sha256=sha256_of_file(out_dir / TRAIN_FILE),
        eval_sha256=sha256_of_file(out_dir / EVAL_FILE),
    )
    write_json(out_dir / STATS_FILE, stats.model_dump(mode="json"))
    return stats


def _read(config: SourcedPairs | MixturePairs, data_root: Path | None, sets: Mapping[str, Path]) -> PairSet:
    if isinstance(config, MetaMathPairs):
        return metamath_pairs(config, data_root=data_root)
    if isinstance(config, ArcPairs):
        return arc_pairs(config, data_root=data_root)
    if isinstance(config, HellaSwagPairs):
        return hellaswag_pairs(config, data_root=data_root)
    if isinstance(config, RowPairs):
        return row_pairs(config, data_root=data_root)
    return mixture_pairs(config, {name: _built(sets[name]) for name in config.sets})


def _built(folder: Path) -> BuiltSet:
    """The pairs that :func:`build_pairs` wrote; each one's question is the digest of it."""
    questions = read_json(folder / QUESTIONS_FILE)
    sides = []
    for side, name in (("train", TRAIN_FILE), ("eval", EVAL_FILE)):
        path = folder / name
        pairs = pairs_of_file(path) if path.stat().st_size else []
        if len(pairs) != len(questions[side]):
            raise SmaugError(
                f"{path} has {len(pairs)} pairs, but {QUESTIONS_FILE} has {len(questions[side])}",
                fix="delete the folder, and build the pair set again",
            )
        sides.append([replace(pair, question=digest) for pair, digest in zip(pairs, questions[side], strict=True)])
    return BuiltSet(*sides)


def _digests(pairs: Sequence[Pair]) -> list[str]:
    """A digest of each question, whatever its letters' case and spaces; of a mixture's pairs it is one already."""
    return [sha256_of_text(" ".join(pair.question.casefold().split()))[:16] for pair in pairs]


def _nothing_left(path: str, pairs: PairSet) -> SmaugError:
    return SmaugError(
        f"{path}: of {pairs.rows} rows no pair is left to train on "
        f"({len(pairs.eval)} held out; {reasons_of(pairs.dropped)})",
        fix="lower holdout in the pair set, or give more rows",
    )


def _write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    write_text(path, "".join(json.dumps(pair.row(), ensure_ascii=False) + "\n" for pair in pairs))
