"""What is learned of the held-out pairs each time they are scored: rows of ``diagnostics.jsonl``, and a warning."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smaug_eval.files import GrowingFile, write_text
from trainers.diagnostics import (
    by_bucket,
    changes,
    edit_distances,
    falling_warning,
    log_ratios,
    mean_and_error,
    profile,
)
from trainers.journal import Row, read_log
from trainers.probes import Ches
from trainers.reference import TokenLogProbs
from trainers.tokenization import EncodedPair

DIAGNOSTICS_FILE = "diagnostics.jsonl"


class HeldOutWatch:
    """Diagnoses the held-out pairs at every scoring, and keeps one row of each in ``diagnostics.jsonl``.

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


def last_diagnosis(folder: Path) -> Row | None:
    """The newest row of ``diagnostics.jsonl``; None where there is none, as in a training without held-out pairs."""
    rows = read_log(folder / DIAGNOSTICS_FILE)
    return rows[-1] if rows else None


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
