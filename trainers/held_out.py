"""What is learned of the held-out pairs each time they are scored: rows of ``diagnostics.jsonl``, and a warning.

At the end of a training ``held_out.jsonl`` says of every held-out pair what the training did to it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smaug_eval.files import GrowingFile, write_text
from trainers.diagnostics import (
    by_bucket,
    changes,
    differences,
    edit_distances,
    falling_warning,
    log_ratios,
    mean_and_error,
    profile,
    regions_of,
)
from trainers.journal import Row, read_log
from trainers.pairs.stats import edit_count
from trainers.probes import Ches
from trainers.reference import TokenLogProbs
from trainers.tokenization import EncodedPair

DIAGNOSTICS_FILE = "diagnostics.jsonl"
HELD_OUT_FILE = "held_out.jsonl"


class HeldOutWatch:
    """Diagnoses the held-out pairs at every scoring, and keeps one row of each in ``diagnostics.jsonl``.

    After the last step :func:`held_out_rows` go to ``held_out.jsonl``.

    A row holds ``step``; ``profile`` (:func:`trainers.diagnostics.profile` of ``reference`` and ``policy``);
    ``buckets``, for each edit-distance bucket the mean log-ratios and the share below the reference;
    ``gradient_cosine`` with ``mean`` and ``each`` (a number or None for each sampled pair), None where it is switched
    off; ``ches`` of the untrained policy, with ``mean``, ``mean_normalised`` and ``normalised`` (one for each pair), in
    the row of step 0 alone; and ``warning``, a sentence or None.

    Args:
        pairs: The held-out pairs.
        reference: What the reference thinks of them.
        folder: Where the file goes.
        step: The step that training continues from; later rows of an earlier attempt are removed. None for a new run.
        loss: Name of the loss, for the warning.
        cosines: Gives the gradient cosines of some held-out pairs under the policy as it is; None for none.
        ches: Gives the CHES of the held-out pairs under the policy as it is, or None; None for none.
        on_warning: Receives the first warning of a training, unless it is about the end, which the result tells.
        writes: Whether this process writes and warns; one of several does.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        reference: TokenLogProbs,
        *,
        folder: Path,
        step: int | None,
        loss: str,
        cosines: Callable[[], Sequence[float | None]] | None,
        ches: Callable[[], Sequence[Ches] | None] | None,
        on_warning: Callable[[str], None],
        writes: bool = True,
    ) -> None:
        self._pairs = pairs
        self._reference = reference
        self._distances = edit_distances(pairs)
        self._path = folder / DIAGNOSTICS_FILE
        self._loss = loss
        self._cosines = cosines
        self._ches = ches
        self._on_warning = on_warning
        self._writes = writes
        self._rows: list[Row] = [] if step is None else [row for row in read_log(self._path) if row["step"] <= step]
        if writes:
            write_text(self._path, "".join(map(_line, self._rows)))

    def look(self, step: int, steps: int, policy: TokenLogProbs) -> dict[str, float]:
        """Add a row; returns the numbers for the training log's own row.

        Args:
            step: Optimiser steps taken.
            steps: Optimiser steps in all.
            policy: What the policy thinks of the pairs now.

        Returns:
            :func:`trainers.diagnostics.changes`; ``log_ratios/chosen_se``, the standard error of the mean log-ratio of
            chosen (with at least two pairs); ``gradient_cosine``, the mean (where it is defined); at step 0 ``ches``
            and ``ches_normalised``, the means.
        """
        ratios = log_ratios(policy, self._reference)
        rho_w = ratios["log_ratio_chosen"]
        cosines = None if self._cosines is None else list(self._cosines())
        defined = [value for value in cosines or () if value is not None]
        mean_cosine = float(np.mean(defined)) if defined else None
        warning = falling_warning(rho_w, what=f"step {step} of {steps}: {self._loss}")
        if warning and step < steps and self._writes and not any(row["warning"] for row in self._rows):
            self._on_warning(warning)
        scores = self._ches_row() if step == 0 else None
        self._append(
            {
                "step": step,
                "profile": profile({"reference": self._reference, "policy": policy}, self._pairs),
                "buckets": by_bucket(self._distances, ratios),
                "gradient_cosine": None if cosines is None else {"mean": mean_cosine, "each": cosines},
                "ches": scores,
                "warning": warning,
            }
        )
        if step >= steps and self._writes:
            rows = held_out_rows(policy, self._reference, self._pairs)
            write_text(self._path.with_name(HELD_OUT_FILE), "".join(map(_line, rows)))
        _, error = mean_and_error(rho_w)
        numbers = {"log_ratios/chosen_se": error, "gradient_cosine": mean_cosine}
        if scores is not None:
            numbers |= {"ches": scores["mean"], "ches_normalised": scores["mean_normalised"]}
        return changes(policy, self._reference, self._pairs) | {k: v for k, v in numbers.items() if v is not None}

    def _ches_row(self) -> dict[str, Any] | None:
        found = None if self._ches is None else self._ches()
        if found is None:
            return None
        normalised = [float(each.normalised) for each in found]
        mean = float(np.mean([each.score for each in found]))
        return {"mean": mean, "mean_normalised": float(np.mean(normalised)), "normalised": normalised}

    def _append(self, row: Row) -> None:
        self._rows.append(row)
        if self._writes:
            stream = GrowingFile(self._path)
            stream.append(_line(row).encode())
            stream.close()


def held_out_rows(policy: TokenLogProbs, reference: TokenLogProbs, pairs: Sequence[EncodedPair]) -> list[Row]:
    """What a training did to each pair, in the order of the pairs.

    Returns:
        Of each pair ``pair``, a name that depends on prompt and chosen answer alone (``-2``, ``-3`` follow where a set
        has several pairs of the same ones), so that it is the same in all trainings and at all edit distances;
        ``edit_distance``, of the token ids as in :func:`trainers.diagnostics.edit_distances`, and ``edits``, the
        Levenshtein distance in tokens; ``chosen_tokens``; ``common``, the leading tokens that both completions share;
        in nats ``chosen`` and ``rejected``, the log-ratios of the completions to the reference, ``chosen_before``,
        ``chosen_at`` (None where chosen has no token there) and ``chosen_after``, the part of chosen's from the tokens
        before, at and after the first that differs, and ``reference_chosen``, the log-probability of chosen under the
        reference.
    """
    ratios = log_ratios(policy, reference)
    reference_chosen, _ = reference.sums
    seen: Counter[str] = Counter()
    rows = []
    for index, (pair, change) in enumerate(zip(pairs, differences(policy, reference, "chosen"), strict=True)):
        name = _pair_name(pair)
        seen[name] += 1
        before, at, after = (float(part.sum()) if len(part) else None for part in regions_of(change, pair))
        rows.append(
            {
                "pair": name if seen[name] == 1 else f"{name}-{seen[name]}",
                "edit_distance": edit_distances([pair])[0],
                "edits": edit_count(pair.chosen.tolist(), pair.rejected.tolist()),
                "chosen_tokens": len(pair.chosen),
                "common": pair.common,
                "chosen": float(ratios["log_ratio_chosen"][index]),
                "rejected": float(ratios["log_ratio_rejected"][index]),
                "chosen_before": before or 0.0,
                "chosen_at": at,
                "chosen_after": after or 0.0,
                "reference_chosen": float(reference_chosen[index]),
            }
        )
    return rows


def _pair_name(pair: EncodedPair) -> str:
    """A digest of prompt and chosen answer, by their token ids."""
    return hashlib.sha256(json.dumps([pair.prompt.tolist(), pair.chosen.tolist()]).encode()).hexdigest()[:16]


def last_diagnosis(folder: Path) -> Row | None:
    """The newest row of ``diagnostics.jsonl``; None where there is none, as in a training without held-out pairs."""
    rows = read_log(folder / DIAGNOSTICS_FILE)
    return rows[-1] if rows else None


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
