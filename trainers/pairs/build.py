"""Build ``train.jsonl``, ``eval.jsonl``, ``questions.json`` and ``stats.json`` from a pair source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, Field

from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import open_atomically, read_json, sha256_of_text, write_json
from smaug_eval.trainers.layout import EVAL_FILE, QUESTIONS_FILE, STATS_FILE, TRAIN_FILE
from smaug_eval.trainers.pairs.config import (
    SOURCES,
    MixturePairs,
    RowPairs,
    SourcedPairs,
)
from smaug_eval.trainers.pairs.mixture import BuiltSet, mixture_pairs
from smaug_eval.trainers.pairs.pair import Pair, PairSet, reasons_of
from smaug_eval.trainers.pairs.read import pairs_of_file
from smaug_eval.trainers.pairs.sources import at_commit, benchmark_warnings, commits_of
from smaug_eval.trainers.pairs.stats import Measures, load_tokenizer, measured_characters, measured_tokens
from smaug_eval.trainers.shortfalls import built_warnings


class PairStats(BaseModel):
    """Hold what a pair set contains and what was left out."""

    source: str = Field(description="The kind of pair source.")
    path: str = Field(description="The file or Hub data set that was read, or the names of a mixture's sets.")
    revision: str | None = Field(None, description="The Hub's commit that was read; none of a file or a mirror.")
    rows: int = Field(description="Rows read; of a mixture, pairs of its sets.")
    train: int = Field(description="Training pairs written.")
    eval: int = Field(description="Held-out pairs written.")
    dropped: dict[str, int] = Field(description="Rows and pairs left out, by reason.")
    formats: dict[str, int] = Field(description="Ready-made rows by the format they were found to have.")
    parts: dict[str, int] = Field(description="Training pairs of a mixture by the set they come from.")
    warnings: list[str] = Field(description="What a reader of scores must know of the pairs.")
    unused_columns: list[str] = Field(description="Columns of ready-made rows that were not used.")
    notes: list[str] = Field(description="What is said of the rows once, such as that scores are not used.")
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
    if not isinstance(config, MixturePairs):
        config = at_commit(config, data_root)
    pairs = _read(config, data_root, sets or {})
    path = " + ".join(sorted(config.sets)) if isinstance(config, MixturePairs) else config.path
    if not pairs.train:
        raise _nothing_left(path, pairs, config)
    _write_pairs(out_dir / TRAIN_FILE, pairs.train)
    _write_pairs(out_dir / EVAL_FILE, pairs.eval)
    write_json(out_dir / QUESTIONS_FILE, {"train": _digests(pairs.train), "eval": _digests(pairs.eval)})
    stats = PairStats(
        source=config.source,
        path=path,
        revision=None if isinstance(config, MixturePairs) else commits_of(config, data_root).get(path),
        rows=pairs.rows,
        train=len(pairs.train),
        eval=len(pairs.eval),
        dropped=dict(sorted(pairs.dropped.items())),
        formats=dict(sorted(pairs.formats.items())),
        parts=pairs.parts,
        warnings=[
            *([] if isinstance(config, MixturePairs) else benchmark_warnings(config)),
            *built_warnings(Path(path).name, pairs.rows, len(pairs.train) + len(pairs.eval), pairs.dropped),
        ],
        unused_columns=pairs.unused,
        notes=pairs.notes,
        characters=measured_characters(pairs.train),
        tokenizer=tokenizer,
        tokens=None if counter is None else measured_tokens(pairs.train, counter),
        train_sha256=sha256_of_file(out_dir / TRAIN_FILE),
        eval_sha256=sha256_of_file(out_dir / EVAL_FILE),
    )
    write_json(out_dir / STATS_FILE, stats.model_dump(mode="json"))
    return stats


def _read(config: SourcedPairs | MixturePairs, data_root: Path | None, sets: Mapping[str, Path]) -> PairSet:
    if isinstance(config, MixturePairs):
        return mixture_pairs(config, {name: _built(sets[name]) for name in config.sets})
    return SOURCES[config.source].make(config, data_root)


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


def _nothing_left(path: str, pairs: PairSet, config: SourcedPairs | MixturePairs) -> SmaugError:
    return SmaugError(
        f"{path}: of {pairs.rows} rows no pair is left to train on "
        f"({len(pairs.eval)} held out; {reasons_of(pairs.dropped)})",
        fix=_what_would_leave_some(pairs, config),
    )


def _what_would_leave_some(pairs: PairSet, config: SourcedPairs | MixturePairs) -> str:
    """The fix for the reason that took most pairs away."""
    shared = pairs.dropped["shares_a_held_out_question"]
    usable = len(pairs.eval) + shared
    others = {reason: count for reason, count in pairs.dropped.items() if reason != "shares_a_held_out_question"}
    reason = max(others, key=lambda name: others[name], default="")
    if others.get(reason, 0) > usable:
        return _FIXES.get(reason, "give rows that can be used; the reasons are named above")
    if len({pair.question for pair in pairs.eval}) == 1:
        fix = "set holdout: 0 in the pair set: all pairs ask the same question, so that holding one out takes all"
        is_file = isinstance(config, RowPairs) and config.is_file
        return f"{fix}; or give eval_path, held-out rows of their own" if is_file else fix
    return (
        f"set holdout (now {config.holdout}) in the pair set to fewer than the {usable} pairs there are, for example "
        f"{max(1, usable // 10)}, or to 0 for no held-out pairs"
    )


_FIXES = {
    "prompt_differs_from_messages": "give the column prompt as a list of messages; or leave it out, where the messages "
    "of chosen and rejected begin with the prompt",
    "chosen_equals_rejected": "give rows whose completions differ",
    "empty_completion": "give rows whose completions say something",
    "duplicate": "give rows that are not all the same",
}


def _write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    with open_atomically(path) as file:
        for pair in pairs:
            file.write(f"{json.dumps(pair.row(), ensure_ascii=False)}\n".encode())
