"""Rescore any lm-eval results on the leaderboard's rules: its metrics per document, recomputed from logged samples.

Reads what lm-eval logs for this project's tasks and for its own (``arc_challenge``, ``hellaswag``, ``mmlu_<subject>``,
``truthfulqa_mc1``, ``truthfulqa_mc2``, ``winogrande``, ``gsm8k``), the older names ``hendrycksTest-<subject>``,
``truthfulqa_mc`` and ``harness|<task>|<shots>``, and lighteval's ``leaderboard|<task>|<shots>``. Values are fractions
in [0, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.benchmark import Benchmark
from smaug_eval.leaderboard.benchmarks import benchmark_of, named_task
from smaug_eval.leaderboard.intervals import Values
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.samples import END_TOKENS, generation_settings, repeats_of, stops_of

RECOMPUTED = "recomputed from samples"
AS_REPORTED = "taken as reported"

_ARCHIVED = re.compile(r"(?P<suite>harness|leaderboard)\|(?P<task>[^|]+)\|(?P<shots>\d+)(?:\|\d+)?")
_OLD_HARNESS = "harness 0.2 or 0.3"
_LIGHTEVAL = "lighteval's implementation of the task"
_BOS_NOTES: dict[bool | None, list[str]] = {
    True: ["not comparable: a BOS token before every prompt"],
    False: [],
    None: ["whether a BOS token was added is not recorded; the leaderboard added none"],
}


@dataclass(frozen=True)
class Rescored:
    """Hold one of the leaderboard's tasks, from somebody's results.

    Attributes:
        entry: lm-eval's ``results`` of the task, as this project's task would have reported them.
        documents: Metric to one value per document (see :func:`document_metrics`); empty without samples.
        how: ``RECOMPUTED`` or ``AS_REPORTED``.
        notes: What does not compare with the leaderboard's own numbers.
    """

    entry: Mapping[str, Any]
    documents: Mapping[str, Values]
    how: str
    notes: tuple[str, ...] = field(default=())


def leaderboard_task(name: str) -> TaskSpec | None:
    """Return the benchmark's task that results called ``name`` measure; None where there is none."""
    found = named_task(_plain_name(name))
    return None if found is None else found[1]


def _plain_name(name: str) -> str:
    archived = _ARCHIVED.fullmatch(name)
    return archived["task"] if archived else name


class Reported(NamedTuple):
    """Hold a benchmark's headline metric as some harness reports it.

    Attributes:
        metric: The leaderboard's name of it.
        key: Its key in the results.
        notes: How it is not the leaderboard's.
    """

    metric: str
    key: str
    notes: tuple[str, ...]


def reported_metric(name: str, spec: TaskSpec, entry: Mapping[str, Any]) -> Reported | None:
    """Return the headline metric in the results of one of the leaderboard's benchmarks; None where they lack it.

    Args:
        name: The task's name in the results.
        spec: The leaderboard's task, as :func:`leaderboard_task` gives it.
        entry: lm-eval's ``results[name]``.
    """
    benchmark = benchmark_of(spec.form)
    if name in benchmark.partial_names:
        return None
    metric, keys = next(iter(benchmark.reported.items()))
    key = _reported_key(keys, entry)
    return None if key is None else Reported(metric, key, _key_notes(benchmark, key))


def _reported_key(keys: Sequence[str], entry: Mapping[str, Any]) -> str | None:
    return next((key for key in keys if isinstance(entry.get(key), (int, float))), None)


def _key_notes(benchmark: Benchmark, key: str, reason: str = "") -> tuple[str, ...]:
    note = benchmark.key_notes.get(key)
    return () if note is None else (note.format(reason=reason),)


def rescore(
    name: str,
    entry: Mapping[str, Any],
    settings: Mapping[str, Any],
    samples: Iterable[Mapping[str, Any]] | None,
    *,
    documents: int | None = None,
    unsampled: str = "there are no samples",
) -> Rescored | None:
    """Rescore a task's results on the leaderboard's rules.

    Args:
        name: The task's name in the results.
        entry: lm-eval's ``results[name]``.
        settings: ``num_fewshot``, ``task_version``, ``harness``, ``config`` with ``model_args``, and, where used,
            ``chat_template_sha`` and ``system_instruction_sha``.
        samples: The lines of its samples file, None where there is none.
        documents: Documents scored; None where only ``entry`` may say how many.
        unsampled: Why ``samples`` is None, as notes say it.

    Returns:
        None where the leaderboard has no such task, or the entry neither its metric nor samples to compute it from
        (TruthfulQA's mc1 alone says nothing of mc2).

    Raises:
        SmaugError: a sample is not in lm-eval's format.
    """
    spec = leaderboard_task(name)
    if spec is None:
        return None
    notes = prompt_notes(name, spec, settings)
    benchmark = benchmark_of(spec.form)
    headline = next(iter(benchmark.reported))
    if samples is not None:
        lines = iter(samples)  # one at a time: HellaSwag's hold hundreds of megabytes of prompts
        first = list(islice(lines, 1))
        values = document_metrics(spec, chain(first, lines))
        if headline in values:
            return Rescored(summary(values), values, RECOMPUTED, (*notes, *_stop_notes(spec, first)))
    if name in benchmark.partial_names:
        return None
    reason = f", since {unsampled}" if samples is None else ""
    return _as_reported(name, spec, entry, notes, documents, reason)


def document_metrics(spec: TaskSpec, samples: Iterable[Mapping[str, Any]]) -> dict[str, Values]:
    """Compute every metric of a task per document.

    Of the benchmark's own metrics (``measure`` in its file) those that every sample tells; of a document with several
    sampled answers the mean.

    Raises:
        SmaugError: a sample is not in lm-eval's format.
    """
    measure = benchmark_of(spec.form).measure
    stops = spec.generation.stops if spec.generation else ()
    rows: dict[Any, dict[str, float]] = {}
    for number, sample in enumerate(samples, start=1):
        try:
            key = sample["doc_id"]
            if key not in rows:  # a task with several filters logs every document once per filter
                found = [measure(each, stops) for each in repeats_of(sample)]
                rows[key] = {name: fmean(one[name] for one in found) for name in set.intersection(*map(set, found))}
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            lacking = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise SmaugError(
                f"samples of {spec.name}, line {number}: not in lm-eval's format ({lacking})",
                fix="leave the file out, or evaluate again",
            ) from error
    names = set.intersection(*(set(row) for row in rows.values())) if rows else set()
    return {name: np.array([row[name] for row in rows.values()]) for name in sorted(names)}


def summary(documents: Mapping[str, Values]) -> dict[str, Any]:
    """Summarise a task's values per document as lm-eval's ``results``: means, standard errors, number of documents."""
    entry: dict[str, Any] = {}
    for name, values in documents.items():
        entry["sample_len"] = len(values)
        entry[f"{name},none"] = float(values.mean())
        entry[f"{name}_stderr,none"] = standard_error(values)
    return entry


def standard_error(values: Values) -> float | str:
    """Sample standard deviation / sqrt(n); lm-eval's "N/A" for a single value."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else "N/A"


def _as_reported(
    name: str, spec: TaskSpec, entry: Mapping[str, Any], notes: Sequence[str], documents: int | None, reason: str
) -> Rescored | None:
    benchmark = benchmark_of(spec.form)
    found: dict[str, Any] = {}
    all_notes = list(notes)
    for metric, keys in benchmark.reported.items():
        if (key := _reported_key(keys, entry)) is None:
            continue
        reported, comma, filter_name = key.partition(",")
        found[f"{metric},none"] = entry[key]
        found[f"{metric}_stderr,none"] = entry.get(f"{reported}_stderr{comma}{filter_name}", "N/A")
        if metric == benchmark.metric:
            all_notes += _key_notes(benchmark, key, reason)
    if f"{benchmark.metric},none" not in found:
        return None
    count = entry.get("sample_len") if documents is None else documents
    if not isinstance(count, int):  # older versions do not say
        count = spec.official_rows
        if not name.startswith("harness|"):  # the leaderboard's own files are of all documents
            all_notes.append("number of documents not recorded, taken as the official one")
    return Rescored({**found, "sample_len": count}, {}, AS_REPORTED, tuple(all_notes))


def prompt_notes(name: str, spec: TaskSpec, settings: Mapping[str, Any]) -> list[str]:
    """Say how the prompts of an evaluation differ from the leaderboard's, from its settings.

    Args:
        name: The task's name in the results.
        spec: The leaderboard's task.
        settings: As for :func:`rescore`.
    """
    archived = _ARCHIVED.fullmatch(name)
    shots = int(archived["shots"]) if archived else settings.get("num_fewshot")
    benchmark = benchmark_of(spec.form)
    is_old_name = benchmark.is_old(name)
    is_old = name.startswith("harness|") or is_old_name or settings.get("harness") == _OLD_HARNESS
    notes = []
    if shots is None:
        notes.append("number of shots not recorded")
    elif shots != spec.num_fewshot:
        notes.append(f"not comparable: {shots} shots, the leaderboard's {spec.num_fewshot}")
    elif shots and spec.draws_shots and not is_old and archived is None:
        notes.append("not the leaderboard's shots: lm-eval's own draw")
    if archived and archived["suite"] == "leaderboard":
        notes.append(_LIGHTEVAL)
    version = settings.get("task_version")
    if is_old_name and isinstance(version, (int, float)) and version in benchmark.old_versions:
        notes.append(benchmark.old_versions[int(version)])
    if not is_old and archived is None:
        notes += _BOS_NOTES[_adds_bos(settings)]
    additions = {"chat_template_sha": "a chat template", "system_instruction_sha": "a system prompt"}
    return notes + [f"not comparable: with {words}" for key, words in additions.items() if settings.get(key)]


def _adds_bos(settings: Mapping[str, Any]) -> bool | None:
    """Return whether lm-eval was set to begin prompts with a BOS token; None where it left that to the tokenizer."""
    config = settings.get("config")
    arguments = config.get("model_args") if isinstance(config, Mapping) else None
    if isinstance(arguments, str):  # as older versions wrote them
        arguments = dict(part.partition("=")[::2] for part in arguments.split(","))
    value = str(arguments.get("add_bos_token")) if isinstance(arguments, Mapping) else ""
    return {"true": True, "false": False}.get(value.lower())


def _stop_notes(spec: TaskSpec, first: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where generation ended otherwise than on the leaderboard, in a way that cutting the text cannot mend."""
    if spec.generation is None or not first:
        return []
    settings = generation_settings(first[0])
    others = [stop for stop in stops_of(settings) if stop not in (*spec.generation.stops, *END_TOKENS)]
    notes = [f"not comparable: generation stopped at {', '.join(map(repr, others))}, too"] if others else []
    tokens = settings.get("max_gen_toks", spec.generation.max_new_tokens)
    if tokens != spec.generation.max_new_tokens:
        notes.append(f"at most {tokens} new tokens, the leaderboard's {spec.generation.max_new_tokens}")
    return notes
