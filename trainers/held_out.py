"""Record the held-out pairs each time they are scored: rows of ``diagnostics.jsonl``, and a warning.

At the end of a training ``held_out.jsonl`` says of every held-out single completion and of every pair what the training
did to it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smaug_eval.common.files import GrowingFile, write_text
from smaug_eval.trainers.diagnostics import (
    Floats,
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
from smaug_eval.trainers.layout import DIAGNOSTICS_FILE, HELD_OUT_FILE, HeldOutLine, LabelledLine
from smaug_eval.trainers.pairs.stats import edit_count
from smaug_eval.trainers.probes import Ches
from smaug_eval.trainers.reference import TokenLogProbs
from smaug_eval.trainers.tokenization import EncodedPair
from smaug_eval.trainers.training_log import Row, read_log
from smaug_eval.trainers.unpaired import Rejoined


class HeldOutWatch:
    """Diagnose the held-out pairs at every scoring, and keep one row of each in ``diagnostics.jsonl``.

    After the last step :func:`held_out_rows` go to ``held_out.jsonl``.

    A row holds ``step``; ``profile`` (:func:`smaug_eval.trainers.diagnostics.profile` of ``reference`` and ``policy``);
    ``buckets``, for each edit-distance bucket the mean log-ratios and the share below the reference;
    ``gradient_cosine`` with ``mean`` and ``each`` (a number or None for each sampled pair), None where it is switched
    off; ``ches`` of the untrained policy, with ``mean``, ``mean_normalised`` and ``normalised`` (one for each pair), in
    the row of step 0 alone; and ``warning``, a sentence or None.

    Args:
        pairs: The held-out pairs.
        reference: Their log-probabilities under the reference.
        folder: Where the file goes.
        step: The step that training continues from; later rows of an earlier attempt are removed. None for a new run.
        loss: Name of the loss, for the warning.
        cosines: Gives the gradient cosines of some held-out pairs under the policy as it is; None for none.
        ches: Gives the CHES of the held-out pairs under the policy as it is, or None; None for none.
        on_warning: Receives the first warning of a training, unless it is about the end, which the result reports.
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
        self._cosines = cosines
        self._ches = ches
        self._writes = writes
        self._rows = _DiagnosticsRows(self._path, step, loss, on_warning, writes=writes)

    def look(self, step: int, steps: int, policy: TokenLogProbs, *, kept: bool | None = None) -> dict[str, float]:
        """Add a row; returns the numbers for the training log's own row.

        Args:
            step: Optimiser steps taken.
            steps: Optimiser steps in all.
            policy: The pairs' log-probabilities under the policy now.
            kept: Whether these may be the weights that the training leaves; None for those of the last step.

        Returns:
            :func:`smaug_eval.trainers.diagnostics.changes`; ``log_ratios/chosen_se``, the standard error of the mean
            log-ratio of chosen (with at least two pairs); ``gradient_cosine``, the mean (where it is defined); at step
            0 ``ches`` and ``ches_normalised``, the means.
        """
        ratios = log_ratios(policy, self._reference)
        rho_w = ratios["log_ratio_chosen"]
        cosines = None if self._cosines is None else list(self._cosines())
        defined = [value for value in cosines or () if value is not None]
        mean_cosine = float(np.mean(defined)) if defined else None
        warning = self._rows.warning(rho_w, step, steps)
        scores = self._ches_row() if step == 0 else None
        self._rows.append(
            {
                "step": step,
                **_by_place(policy, self._reference, self._pairs, self._distances),
                "gradient_cosine": None if cosines is None else {"mean": mean_cosine, "each": cosines},
                "ches": scores,
                "warning": warning,
            }
        )
        if (step >= steps if kept is None else kept) and self._writes:
            _write_lines(self._path, held_out_rows(policy, self._reference, self._pairs))
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


class _DiagnosticsRows:
    """The rows of ``diagnostics.jsonl``, of which the first with a warning gives it to the user.

    Args:
        path: The file.
        step: The step that training continues from; later rows of an earlier attempt are removed. None for a new run.
        loss: Name of the loss, for the warning.
        on_warning: Receives the first warning of a training, unless it is about the end, which the result reports.
        writes: Whether this process writes and warns.
    """

    def __init__(
        self, path: Path, step: int | None, loss: str, on_warning: Callable[[str], None], *, writes: bool
    ) -> None:
        self._path, self._loss, self._on_warning, self._writes = path, loss, on_warning, writes
        self._rows: list[Row] = [] if step is None else [row for row in read_log(path) if row["step"] <= step]
        if writes:
            write_text(path, "".join(map(_line, self._rows)))

    def warning(self, ratios: Floats, step: int, steps: int) -> str | None:
        """Return the warning of a scoring, and give the first one to the user."""
        found = falling_warning(ratios, what=f"step {step} of {steps}: {self._loss}")
        if found and step < steps and self._writes and not any(row["warning"] for row in self._rows):
            self._on_warning(found)
        return found

    def append(self, row: Row) -> None:
        """Add a row to the file."""
        self._rows.append(row)
        if self._writes:
            stream = GrowingFile(self._path)
            stream.append(_line(row).encode())
            stream.close()


class LabelledWatch:
    """Watch the desirable ones of held-out unpaired completions; keep one row of each scoring in ``diagnostics.jsonl``.

    A row holds ``step`` and ``warning``, as those of :class:`HeldOutWatch` do, and of completions that were pairs
    ``profile`` and ``buckets`` of these. After the last step :func:`labelled_rows` go to ``held_out.jsonl``, followed
    by :func:`held_out_rows` of the pairs.

    Args:
        pairs: The held-out completions.
        reference: Their log-probabilities under the reference.
        rejoined: The pairs among them.
        folder: Where the file goes.
        step: The step that training continues from; later rows of an earlier attempt are removed. None for a new run.
        loss: Name of the loss, for the warning.
        on_warning: Receives the first warning of a training, unless it is about the end, which the result reports.
        writes: Whether this process writes and warns; one of several does.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        reference: TokenLogProbs,
        rejoined: Rejoined,
        *,
        folder: Path,
        step: int | None,
        loss: str,
        on_warning: Callable[[str], None],
        writes: bool = True,
    ) -> None:
        self._pairs, self._rejoined = pairs, rejoined
        self._before = rejoined.scores(reference)
        self._distances = edit_distances(rejoined.pairs)
        self._desirable = np.array([bool(pair.label) for pair in pairs])
        self._reference = reference
        self._path, self._writes = folder / DIAGNOSTICS_FILE, writes
        self._rows = _DiagnosticsRows(folder / DIAGNOSTICS_FILE, step, loss, on_warning, writes=writes)

    def look(self, step: int, steps: int, policy: TokenLogProbs, *, kept: bool | None = None) -> dict[str, float]:
        """Add a row, if any completion is desirable; returns the numbers for the training log's own row.

        Args:
            step: Optimiser steps taken.
            steps: Optimiser steps in all.
            policy: The completions' log-probabilities under the policy now.
            kept: As of :meth:`HeldOutWatch.look`.

        Returns:
            ``log_ratios/chosen_se``, with at least two desirable completions; of completions that were pairs
            :func:`smaug_eval.trainers.diagnostics.changes`.
        """
        pairs, after = self._rejoined.pairs, self._rejoined.scores(policy)
        if (step >= steps if kept is None else kept) and self._writes:
            completions = labelled_rows(policy, self._reference, self._pairs, self._rejoined.completions)
            _write_lines(self._path, [*completions, *held_out_rows(after, self._before, pairs)])
        ratios = log_ratios(policy, self._reference)["log_ratio_chosen"][self._desirable]
        if not len(ratios):
            return {}
        places = _by_place(after, self._before, pairs, self._distances) if pairs else {}
        self._rows.append({"step": step, **places, "warning": self._rows.warning(ratios, step, steps)})
        _, error = mean_and_error(ratios)
        return changes(after, self._before, pairs) | ({} if error is None else {"log_ratios/chosen_se": error})


def _by_place(
    policy: TokenLogProbs, reference: TokenLogProbs, pairs: Sequence[EncodedPair], distances: Sequence[float]
) -> Row:
    """What a row says of pairs by position and by edit distance."""
    return {
        "profile": profile({"reference": reference, "policy": policy}, pairs),
        "buckets": by_bucket(distances, log_ratios(policy, reference)),
    }


def held_out_rows(policy: TokenLogProbs, reference: TokenLogProbs, pairs: Sequence[EncodedPair]) -> list[HeldOutLine]:
    """Return what a training did to each pair, in the order of the pairs."""
    ratios = log_ratios(policy, reference)
    reference_chosen, _ = reference.sums
    seen: Counter[str] = Counter()
    rows = []
    for index, (pair, change) in enumerate(zip(pairs, differences(policy, reference, "chosen"), strict=True)):
        name = _pair_name(pair)
        seen[name] += 1
        before, at, after = (float(part.sum()) if len(part) else None for part in regions_of(change, pair))
        rows.append(
            HeldOutLine(
                pair=name if seen[name] == 1 else f"{name}-{seen[name]}",
                edit_distance=edit_distances([pair])[0],
                edits=edit_count(pair.chosen.tolist(), pair.rejected.tolist()),
                chosen_tokens=len(pair.chosen),
                common=pair.common,
                chosen=float(ratios["log_ratio_chosen"][index]),
                rejected=float(ratios["log_ratio_rejected"][index]),
                chosen_before=before or 0.0,
                chosen_at=at,
                chosen_after=after or 0.0,
                reference_chosen=float(reference_chosen[index]),
            )
        )
    return rows


def labelled_rows(
    policy: TokenLogProbs, reference: TokenLogProbs, pairs: Sequence[EncodedPair], in_pairs: Collection[int]
) -> list[LabelledLine]:
    """Return what a training did to each single completion, in the order of the completions.

    Args:
        policy: The completions' log-probabilities after it.
        reference: Those before it.
        pairs: The completions.
        in_pairs: Numbers of those that are of a pair with a line of its own.
    """
    ratios = log_ratios(policy, reference)["log_ratio_chosen"]
    before, _ = reference.sums
    seen: Counter[str] = Counter()
    rows = []
    for index, pair in enumerate(pairs):
        name = _pair_name(pair)
        seen[name] += 1
        rows.append(
            LabelledLine(
                completion=name if seen[name] == 1 else f"{name}-{seen[name]}",
                label=bool(pair.label),
                tokens=len(pair.chosen),
                log_ratio=float(ratios[index]),
                reference=float(before[index]),
                in_pair=index in in_pairs,
            )
        )
    return rows


def _write_lines(path: Path, rows: Sequence[HeldOutLine | LabelledLine]) -> None:
    """Write ``held_out.jsonl`` beside ``diagnostics.jsonl``."""
    write_text(path.with_name(HELD_OUT_FILE), "".join(_line(row.as_json()) for row in rows))


def _pair_name(pair: EncodedPair) -> str:
    """A digest of prompt and chosen answer, by their token ids."""
    return hashlib.sha256(json.dumps([pair.prompt.tolist(), pair.chosen.tolist()]).encode()).hexdigest()[:16]


def last_diagnosis(folder: Path, step: int | None = None) -> Row | None:
    """Return the newest row of ``diagnostics.jsonl``, or that of a step.

    None where there is none, as in a training without held-out pairs.
    """
    rows = [row for row in read_log(folder / DIAGNOSTICS_FILE) if step is None or row["step"] == step]
    return rows[-1] if rows else None


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
