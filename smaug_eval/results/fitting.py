"""Check whether a task's samples can be read and are those of its results: as many documents, and the same mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.corpus import is_mean
from smaug_eval.results.documents import logged, logged_documents
from smaug_eval.results.files import Unread
from smaug_eval.results.metrics import NO_FILTER, Metric, metrics_of
from smaug_eval.results.sample_files import KEPT_FILES, FileState, Samples, state_of
from smaug_eval.results.sample_index import read_ahead
from smaug_eval.results.task_results import TaskResult

_NEAR = 1e-4
"""Results that were published rounded are no others."""


def misfit(result: TaskResult) -> str | None:
    """Say how the samples differ from the results that they lie beside, as a phrase after "the samples".

    None where they do not, or there are none.

    Raises:
        SmaugError: the samples are damaged.
    """
    if result.samples is None:
        return None
    means = tuple(
        (metric.key, metric.value) for metric in metrics_of(result.entry) if is_mean(metric.name, result.config)
    )
    return _misfit(result.samples, state_of(result.samples), result.n, means)


@lru_cache(maxsize=KEPT_FILES)
def _misfit(samples: Samples, _state: FileState, n: int | None, means: tuple[tuple[str, float], ...]) -> str | None:
    held = logged_documents(samples)
    if n is not None and held != n:
        return f"hold {held:,} of {n:,} documents" if held < n else f"hold {held:,} documents, the results {n:,}"
    for key, value in means:
        found = logged(samples, key)
        if found is None or not len(found.values) or not np.isfinite(found.values).all() or not math.isfinite(value):
            continue
        mean = float(found.values.mean())
        if not math.isclose(mean, value, rel_tol=_NEAR, abs_tol=_NEAR):
            name, _, filter_name = key.partition(",")
            label = Metric(name, "" if filter_name == NO_FILTER else filter_name, value, math.nan).label
            return f"give {label} {mean:.4g}, the results {value:.4g}"
    return None


def readable(result: TaskResult) -> str | None:
    """Say why the samples of a result cannot be read; None where they can, or there are none."""
    if result.samples is None:
        return None
    try:
        logged_documents(result.samples)
    except SmaugError as error:
        return error.message
    except OSError as error:
        return str(error)
    return None


def with_readable_samples(
    models: Mapping[str, Mapping[str, TaskResult]],
) -> tuple[dict[str, dict[str, TaskResult]], list[Unread]]:
    """Remove samples that are damaged from models' results; return the results and what was removed.

    Args:
        models: Model to task to result.
    """
    unread: list[Unread] = []
    found: dict[str, dict[str, TaskResult]] = {}
    read_ahead(result.samples for own in models.values() for result in own.values() if result.samples is not None)
    for model, results in models.items():
        kept = {}
        for task, result in results.items():
            if (why := readable(result)) is not None and result.samples is not None:
                path = result.samples if isinstance(result.samples, Path) else result.samples.path
                error = SmaugError(why)
                unread.append(Unread(path, why.removeprefix(str(path)).lstrip(":, "), error))
                result = replace(result, samples=None)
            kept[task] = result
        found[model] = kept
    return found, unread
