"""Ready-made preference rows: text or chat, in the forms of :mod:`trainers.pairs.formats`."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from smaug_eval.errors import SmaugError
from trainers.config import RowPairs
from trainers.pairs.formats import AUTO, UnusableRow, pair_of_row
from trainers.pairs.pair import Pair, PairSet, draw_questions, is_empty, without_questions
from trainers.pairs.read import raw_rows
from trainers.pairs.sources import Location, known_format, locations


def row_pairs(config: RowPairs, *, data_root: Path | None) -> PairSet:
    """Read, check and split ready-made pairs; see :func:`trainers.pairs.pair.question_of` for a pair's question.

    Raises:
        SmaugError: a row does not fit its format, has an empty completion (unless ``drop_empty``), or its two
            completions are equal (unless ``drop_equal``).
    """
    train_rows, eval_rows = locations(config)
    result = PairSet([], [], 0)
    pairs = _checked(train_rows, config, data_root, result)
    candidates = _checked(eval_rows, config, data_root, result) if eval_rows else pairs
    drawn = set(
        draw_questions((pair.question for pair in candidates), config.holdout, random.Random(f"{config.seed}:holdout"))
    )
    result.eval = [pair for pair in candidates if pair.question in drawn][: config.holdout]
    train = without_questions(pairs, drawn)
    used_up = len(pairs) - len(train) - (len(result.eval) if candidates is pairs else 0)
    if used_up:
        result.dropped["shares_a_held_out_question"] += used_up
    result.train = train[: config.limit]
    return result


def _checked(location: Location, config: RowPairs, data_root: Path | None, result: PairSet) -> list[Pair]:
    """The usable pairs of one file or split; adds what was read and left out to ``result``."""
    form = (known_format(location) or AUTO) if config.format == AUTO else config.format
    dropped: Counter[str] = result.dropped
    seen: set[Pair] = set()
    pairs: list[Pair] = []
    for where, row in raw_rows(location, data_root=data_root):
        result.rows += 1
        try:
            pair, found = pair_of_row(where, row, form)
        except UnusableRow as error:
            dropped[error.reason] += 1
            continue
        result.formats[found] += 1
        if is_empty(pair.chosen) or is_empty(pair.rejected):
            _refuse_empty(where, pair, config)
            dropped["empty_completion"] += 1
        elif pair.chosen == pair.rejected:
            _refuse_equal(where, config)
            dropped["chosen_equals_rejected"] += 1
        elif pair in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(pair)
            pairs.append(pair)
    return pairs


def _refuse_empty(where: str, pair: Pair, config: RowPairs) -> None:
    if not config.drop_empty:
        raise SmaugError(
            f"{where}: {'chosen' if is_empty(pair.chosen) else 'rejected'} is empty",
            fix="remove the row, or set drop_empty: true in the pair set to drop and count such rows",
        )


def _refuse_equal(where: str, config: RowPairs) -> None:
    if not config.drop_equal:
        raise SmaugError(
            f"{where}: chosen equals rejected, so the pair teaches nothing",
            fix="remove the row, or set drop_equal: true in the pair set to drop and count such rows",
        )
