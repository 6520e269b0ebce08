"""Choose the metric that stands for a task, its unit, and whether more of it is better."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.columns import PERCENT, PLAIN, Unit
from smaug_eval.results.json_files import as_number, mapping

NO_FILTER = "none"

TEXT_KEYS = frozenset({"alias", "name"})
"""What entries hold of a task's name."""
_NOT_METRICS = TEXT_KEYS | frozenset(
    {"sample_len", "sample_count", "samples", "num_examples", "num_samples", "completion_rate", " "}
)
_COUNTS = re.compile(r"(?:num|n)_.*|.*_count|count|total(?:_.*)?|correct|solved(?:_avg)?", re.I)
"""Numbers of documents or repetitions, which stand for a task only where nothing else does."""
_STD_ERR = "_std_err"
"""How evalchemy ends names of standard errors; their means end in ``_avg``."""
_LOWER = re.compile(
    r".*(?:perplexity|(?:^|[_-])ppl|bits_per_(?:byte|char|token)|(?:^|[_-])bp[bc]$|loss|nll|negative_log_likelihood"
    r"|(?:^|[_-])(?:mae|mse|rmse|mape|wer|cer|ter|ece|brier)|brier_score|mean_(?:absolute|squared)_error"
    r"|error_rate|calibration_error|edit_distance|levenshtein|toxicity|hallucination|perplexities).*",
    re.I,
)
_HIGHER = re.compile(
    r".*(?:acc(?:uracy)?(?![a-z])|exact_match|extractive_match|multiple_choice_grade|mc[12](?![0-9])|f1|precision|recall"
    r"|bleu|rouge|chrf|meteor|bert_?score|pass[@_]|maj[@_]|mcc|matthews|pearson|spearman|ndcg|mrr|map(?![a-z])|anls|iou"
    r"|contains|(?:best_)?exact|win_?rate|prompt-level|instruction-level|(?:^|[_-])(?:em|q?p?em|score|grade|reward|judge)(?![a-z])).*",
    re.I,
)
_FRACTION = re.compile(
    r"(?:.*[_-])?acc(?:uracy)?(?:[_-].*)?|(?:.*[_-])?(?:exact_match|extractive_match|em|qem|pem|pqem|f1|precision|recall|mc1|mc2)"
    r"(?:[_-].*)?|multiple_choice_grade|(?:pass|maj)[@_].*|prompt-level.*|instruction-level.*|(?:truthfulqa_)?mc[12]|contains"
    r"|pct_.*",
    re.I,
)
_NEVER_FRACTION = re.compile(r".*_(?:diff|max)(?:_.*)?|.*mutual_info.*", re.I)


class Metric(NamedTuple):
    """Name one number that lm-eval reports for a task, in lm-eval's own unit."""

    name: str
    filter: str
    value: float
    stderr: float

    @property
    def key(self) -> str:
        """Name and filter as one text."""
        return f"{self.name},{self.filter or NO_FILTER}"

    @property
    def label(self) -> str:
        """Return the name, with the filter where there is one."""
        return self.name if self.filter in {NO_FILTER, ""} else f"{self.name} ({self.filter})"


def metrics_of(entry: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics in one ``results[task]``.

    Keys are ``metric,filter`` and ``metric_stderr,filter``, or, before lm-eval 0.4, ``metric`` and ``metric_stderr``.
    """
    metrics = []
    for key, value in entry.items():
        name, _, filter_name = key.partition(",")
        if key in _NOT_METRICS or name.endswith(("_stderr", _STD_ERR)) or isinstance(value, bool):
            continue
        if isinstance(value, int | float) or value in ("N/A", None):
            stderr_key = f"{name}_stderr,{filter_name}" if filter_name else f"{name}_stderr"
            stderr = entry.get(stderr_key, entry.get(f"{name.removesuffix('_avg')}{_STD_ERR}"))
            metrics.append(Metric(name, filter_name, _finite(value), as_number(stderr)))
    return metrics


def _finite(value: object) -> float:
    """An infinite number, such as the perplexity of a model that diverged, is none that differences are taken of."""
    number = as_number(value)
    return number if math.isfinite(number) else math.nan


def label_of(key: str) -> str:
    """Word a metric's ``name,filter`` as people read it."""
    name, _, filter_name = key.partition(",")
    return name if filter_name in {NO_FILTER, ""} else f"{name} ({filter_name})"


def metric_in(metrics: Iterable[Metric], key: str) -> Metric | None:
    """Find the metric called ``name`` or ``name,filter``; of a bare name the one without a filter, else the first."""
    name, _, filter_name = key.partition(",")
    own = [metric for metric in metrics if metric.name == name]
    wanted = filter_name or NO_FILTER
    exact = next((metric for metric in own if (metric.filter or NO_FILTER) == wanted), None)
    return exact or (own[0] if own and not filter_name else None)


def headline(metrics: Sequence[Metric], configured: Sequence[str] = ()) -> Metric | None:
    """Return the metric that stands for a task: the first that its configuration lists, else its first.

    Metrics without a value, and numbers of documents, stand back where there is another.

    Args:
        metrics: In the order of the file.
        configured: Names of the task's metrics in its own order, where the file holds its configuration.
    """
    order = {name: place for place, name in reversed(list(enumerate(configured)))}
    known = [metric for metric in metrics if math.isfinite(metric.value)] or list(metrics)
    known = [metric for metric in known if not _COUNTS.fullmatch(metric.name)] or known
    return min(known, key=lambda metric: order.get(metric.name, len(order)), default=None)


def configured_metrics(config: Mapping[str, Any]) -> list[str]:
    """List the names of the metrics in a task's configuration, in its order; functions have no name here."""
    listed = config.get("metric_list")
    names = (mapping(each).get("metric") for each in (listed if isinstance(listed, list) else ()))
    return [name for name in names if isinstance(name, str)]


def recorded_directions(document: Mapping[str, Any], task: str) -> dict[str, bool]:
    """Map metrics to whether more is better, as a file says: ``higher_is_better``, else the task's configuration."""
    config = mapping(mapping(document.get("configs")).get(task))
    listed = config.get("metric_list")
    found = {
        str(mapping(each)["metric"]): mapping(each).get("higher_is_better")
        for each in (listed if isinstance(listed, list) else ())
        if "metric" in mapping(each)
    }
    found |= mapping(mapping(document.get("higher_is_better")).get(task))
    return {name: value for name, value in found.items() if isinstance(value, bool)}


def higher_is_better(name: str, recorded: Mapping[str, bool]) -> bool | None:
    """Return whether more of a metric is better; None where neither the file nor the table of known metrics says so.

    Args:
        name: The metric's, without its filter.
        recorded: As :func:`recorded_directions` gives it.
    """
    if name in recorded:
        return recorded[name]
    if _LOWER.fullmatch(name):
        return False
    return True if _HIGHER.fullmatch(name) else None


def unit_of(name: str, values: Iterable[float]) -> Unit:
    """Return the unit of a metric: percent for shares whose values lie in [0, 1], else lm-eval's own.

    Args:
        name: The metric's, without its filter.
        values: Those of every model on the page.
    """
    if not _FRACTION.fullmatch(name) or _NEVER_FRACTION.fullmatch(name):
        return PLAIN
    return PERCENT if all(0 <= value <= 1 for value in values if math.isfinite(value)) else PLAIN


class MetricChoice(NamedTuple):
    """Hold a metric that the user named to stand for tasks: for one, or, without ``task``, for all that have it."""

    task: str
    metric: str


def chosen_metrics(given: Iterable[str]) -> list[MetricChoice]:
    """Read ``--metric`` options: ``METRIC``, ``METRIC,FILTER`` or ``TASK=METRIC[,FILTER]``.

    Raises:
        SmaugError: one names no metric.
    """
    choices = []
    for text in given:
        task, equals, metric = text.rpartition("=")
        if not metric.strip() or (equals and not task.strip()):
            raise SmaugError(f"--metric {text}: no metric", fix="write METRIC, METRIC,FILTER or TASK=METRIC[,FILTER]")
        choices.append(MetricChoice(task.strip(), metric.strip()))
    return choices
