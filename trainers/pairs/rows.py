"""Ready-made preference rows: ``prompt``, ``chosen``, ``rejected``."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from smaug_eval.errors import SmaugError
from trainers.config import RowPairs
from trainers.pairs.pair import Pair, PairSet, draw_questions, without_questions
from trainers.pairs.read import Row, read_rows

COLUMNS = ("prompt", "chosen", "rejected")


def row_pairs(config: RowPairs, *, data_root: Path | None) -> PairSet:
    """Read, check and split ready-made pairs; the question of a pair is its whole prompt.

    Raises:
        SmaugError: a row is broken, has an empty completion, or its two completions are equal (unless ``drop_equal``).
    """
    dropped: Counter[str] = Counter()
    rows = read_rows(config.path, COLUMNS, data_root=data_root, config=config.config, split=config.split)
    pairs = _checked(rows, config.drop_equal, dropped)
    count = len(rows)
    if config.eval_path or config.eval_split:
        eval_rows = read_rows(
            config.eval_path or config.path, COLUMNS, data_root=data_root, config=config.config, split=config.eval_split
        )
        count += len(eval_rows)
        candidates = _checked(eval_rows, config.drop_equal, dropped)
    else:
        candidates = pairs
    drawn = set(
        draw_questions((pair.question for pair in candidates), config.holdout, random.Random(f"{config.seed}:holdout"))
    )
    held_out = [pair for pair in candidates if pair.question in drawn][: config.holdout]
    train = without_questions(pairs, drawn)
    used_up = len(pairs) - len(train) - (len(held_out) if candidates is pairs else 0)
    if used_up:
        dropped["shares_a_held_out_question"] += used_up
    return PairSet(train=train[: config.limit], eval=held_out, rows=count, dropped=dropped)


def _checked(rows: list[Row], drop_equal: bool, dropped: Counter[str]) -> list[Pair]:
    seen: set[Pair] = set()
    pairs: list[Pair] = []
    for row in rows:
        _refuse_empty(row)
        pair = Pair(**row.values, question=row.values["prompt"])
        if pair.chosen == pair.rejected:
            _refuse_equal(row, drop_equal)
            dropped["chosen_equals_rejected"] += 1
        elif pair in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(pair)
            pairs.append(pair)
    return pairs


def _refuse_empty(row: Row) -> None:
    for column in ("chosen", "rejected"):
        if not row.values[column].strip():
            raise SmaugError(f"{row.where}: {column} is empty", fix="remove the row or give it a completion")


def _refuse_equal(row: Row, drop_equal: bool) -> None:
    if not drop_equal:
        raise SmaugError(
            f"{row.where}: chosen equals rejected, so the pair teaches nothing",
            fix="remove the row, or set drop_equal: true in the pair set to drop and count such rows",
        )
