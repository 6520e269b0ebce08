"""Look up single documents of results that are there already: their values, and what the model was shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.merging import merge_models, names_on_page, with_distinct_labels
from smaug_eval.results.sample_index import sample_value, scanned
from smaug_eval.results.sources import read_sources
from smaug_eval.results.task_results import TaskResult


class ScoredDocument(NamedTuple):
    """Hold a document's value.

    Attributes:
        number: The document's, in its task.
        value: Of the metric.
        shown: Hashes of the document, the prompt and the right answer.
    """

    number: int
    value: float
    shown: tuple[str, str, str]


def scored_samples(rows: Iterable[Mapping[str, Any]], metric: str, per_entry: float = 0.0) -> Iterator[ScoredDocument]:
    """Read what lm-eval logged of documents.

    Args:
        rows: Samples.
        metric: ``name`` or ``name,filter``; of several names with ``+`` between them the values are added.
        per_entry: What an entry counts of a value that is a list.

    Raises:
        SmaugError: a sample lacks the metric.
    """
    name, _, filter_name = metric.partition(",")
    for row in rows:
        if filter_name and row.get("filter", filter_name) != filter_name:
            continue
        parts = name.split("+")
        if "doc_id" not in row or not all(part in row for part in parts):
            raise SmaugError(f"a sample has no {name}", fix="name a metric that lm-eval logs for each document")
        shown = (str(row.get("doc_hash")), str(row.get("prompt_hash")), str(row.get("target_hash")))
        yield ScoredDocument(int(row["doc_id"]), sum(_value(row[part], per_entry) for part in parts), shown)


def _value(logged: Any, per_entry: float) -> float:
    if isinstance(logged, list) and per_entry:
        return per_entry * sum(map(sample_value, logged))
    return sample_value(logged.item() if hasattr(logged, "item") else logged)  # numpy's, where it comes from no file


def only_model(path: Path) -> tuple[str, Mapping[str, TaskResult]]:
    """Return the one model of a run or of results, and its results by task.

    Raises:
        SmaugError: nothing can be read, or there are several models.
    """
    models = merge_models(with_distinct_labels(read_sources([path])))
    if len(models) != 1:
        raise SmaugError(
            f"against: {path} holds {len(models)} models: {', '.join(models)}",
            fix=f"name the folder of one of them{_example(path, models)}",
        )
    return next(iter(models.items()))


def _example(path: Path, models: Iterable[str]) -> str:
    found = next((folder for name in models if (folder := path / "eval" / name).is_dir()), None)
    return "" if found is None else f", such as {found}"


def baseline_on_page(run: Path, kept: Path) -> str:
    """Return what the one model of results is called on a page that also shows a run."""
    sources = with_distinct_labels(read_sources([run, kept]))
    label, (model, *_) = sources[-1].label, sources[-1].results
    return names_on_page(sources)[label][model]


def check_kept(path: Path, tasks: Mapping[str, int]) -> dict[str, Path]:
    """Make sure that results hold every document of some tasks; return the samples files.

    Args:
        path: Of the results.
        tasks: Task to the number of its documents.

    Raises:
        SmaugError: a task, its samples or some of its documents are missing.
    """
    _, results = only_model(path)
    found = {}
    for task, size in tasks.items():
        result = results.get(task)
        if result is None or not isinstance(result.samples, Path):
            raise SmaugError(
                f"against: {path} has no {'results' if result is None else 'samples'} of {task}",
                fix="evaluate the baseline on the same suite and tasks, with samples",
            )
        if result.n is not None and result.n < size:
            raise SmaugError(
                f"against: {path} has {result.n:,} of {size:,} documents of {task}",
                fix="evaluate the baseline in full, or name it as a model, which is scored as far as it is needed",
            )
        found[task] = result.samples
    return found


class KeptValues:
    """Keep the values of results, read task by task.

    Args:
        path: Of the results.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _, self._results = only_model(path)
        self._read: dict[tuple[str, str], dict[int, ScoredDocument]] = {}

    def of(self, keys: Iterable[tuple[str, int]], metric: str, per_entry: float = 0.0) -> list[ScoredDocument]:
        """Return documents' values, in order.

        Args:
            keys: Task and number of each.
            metric: As of :func:`scored_samples`, like ``per_entry``.
            per_entry: As there.

        Raises:
            SmaugError: one is missing.
        """
        found = []
        for task, number in keys:
            known = self._of_task(task, metric, per_entry)
            if number not in known:
                raise SmaugError(
                    f"against: {self._path} lacks document {number} of {task}", fix="evaluate the baseline in full"
                )
            found.append(known[number])
        return found

    def _of_task(self, task: str, metric: str, per_entry: float) -> dict[int, ScoredDocument]:
        if (task, metric) not in self._read:
            samples = self._results[task].samples
            rows = () if samples is None else scanned(samples).rows()
            self._read[task, metric] = {each.number: each for each in scored_samples(rows, metric, per_entry)}
        return self._read[task, metric]
