"""Put the results of several sampled answers to the same documents together, in lm-eval's own form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from smaug_eval.stats.repeats import majority_at_k, pass_at_k, repeated_mean

NO_ANSWERS = ("", "[invalid]", "[no match]")
"""What lm-eval's filters give where a text holds no answer; such samples abstain from a vote."""


def generates(results: Mapping[str, Any]) -> bool:
    """Return whether some task of lm-eval's results has generated answers; others are the same each time."""
    return any(config.get("output_type") == "generate_until" for config in results["configs"].values())


def merged(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge lm-eval's results of several repeats.

    Numbers become means over repeats, standard errors those of documents and repeats together
    (:func:`~smaug_eval.stats.repeats.repeated_mean`). Each logged document has the mean of its values, all its texts,
    and the values one by one under ``repeats``.

    Args:
        runs: Results of each repeat, samples included; of the same tasks and documents.

    Returns:
        The results, with what the repeats say of each task's metrics under ``repeats``.
    """
    first = dict(runs[0])
    first["samples"] = {task: _rows([run["samples"][task] for run in runs]) for task in first["samples"]}
    first["repeats"] = {task: _told(rows, len(runs)) for task, rows in first["samples"].items()}
    tables = ("results", "groups")
    for table in [name for name in tables if first.get(name)]:
        first[table] = {
            task: _entry([run[table][task] for run in runs], first["repeats"].get(task, {})) for task in first[table]
        }
    return first


def repeat_notes(told: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what belongs beside the scores of each task with repeats."""
    notes = []
    for task, metrics in told.items():
        for name, each in metrics.items():
            text = f"{task} {name}: mean of {each['repeats']} sampled answers"
            text += f", {each['between_repeats']:.4f} between repeats"
            if each["stderr"] is not None:
                parts = f"documents {each['stderr_documents']:.4f}, repeats {each['stderr_repeats']:.4f}"
                text += f", standard error {each['stderr']:.4f} ({parts})"
            for kind in ("pass", "maj"):
                if found := each.get(f"{kind}@k"):
                    text += f", {kind}@{max(map(int, found))} {found[max(found, key=int)]:.4f}"
            notes.append(text)
    return notes


def _rows(repeats: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The logged documents of a task, each with the values of all repeats."""
    by_place = [{(row["doc_id"], row.get("filter")): row for row in rows} for rows in repeats]
    return [_row([rows[place] for rows in by_place]) for place in by_place[0]]


def _row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row = dict(rows[0])
    values = {name: [each[name] for each in rows] for name in _metrics(rows[0])}
    row["repeats"] = {"values": values, "answers": [_answer(each) for each in rows]}
    row |= {name: fmean(map(float, found)) for name, found in values.items()}
    # As lm-eval logs a task with repeats of its own: all texts of one request side by side.
    row["resps"] = [[text for each in rows for text in each["resps"][place]] for place in range(len(row["resps"]))]
    return row


def _metrics(row: Mapping[str, Any]) -> list[str]:
    """The metrics of a logged document that are numbers."""
    return [name for name in row.get("metrics", ()) if isinstance(row.get(name), bool | int | float)]


def _answer(row: Mapping[str, Any]) -> str | None:
    """What a filter took from a text; None where that is no text, as after a filter that makes lists."""
    found = row.get("filtered_resps")
    while isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    return found if isinstance(found, str) else None


def _told(rows: Sequence[Mapping[str, Any]], repeats: int) -> dict[str, Any]:
    """What the repeats say of each metric of a task, under lm-eval's ``metric,filter``."""
    found: dict[str, Any] = {}
    for chosen in dict.fromkeys(row.get("filter", "none") for row in rows):
        own = [row for row in rows if row.get("filter", "none") == chosen]
        for name in _metrics(own[0]):
            values = [list(map(float, row["repeats"]["values"][name])) for row in own]
            mean = repeated_mean(values)
            told: dict[str, Any] = {
                "repeats": repeats,
                "documents": len(own),
                "mean": mean.mean,
                "stderr": mean.stderr,
                "stderr_documents": mean.stderr_documents,
                "stderr_repeats": mean.stderr_repeats,
                "between_repeats": mean.between_repeats,
                "per_repeat": list(mean.per_repeat),
            }
            if all(value in (0.0, 1.0) for each in values for value in each):
                sizes = _sizes(repeats)
                told["pass@k"] = {
                    str(k): fmean(pass_at_k(repeats, int(sum(each)), k) for each in values) for k in sizes
                }
                votes = [_votes(row["repeats"]["answers"], each) for row, each in zip(own, values, strict=True)]
                if all(each is not None for each in votes):
                    told["maj@k"] = {
                        str(k): fmean(
                            majority_at_k(*each, k, repeats - sum(each[0].values())) for each in votes if each
                        )
                        for k in sizes
                    }
            found[f"{name},{chosen}"] = told
    return found


def _votes(answers: Sequence[str | None], values: Sequence[float]) -> tuple[Counter[Any], dict[Any, float]] | None:
    """Votes and score of each answer to a document; None where the answers are no texts."""
    if any(answer is None for answer in answers):
        return None
    given = [(answer, value) for answer, value in zip(answers, values, strict=True) if answer not in NO_ANSWERS]
    scores: dict[Any, list[float]] = {}
    for answer, value in given:
        scores.setdefault(answer, []).append(value)
    return Counter(answer for answer, _ in given), {answer: fmean(each) for answer, each in scores.items()}


def _sizes(repeats: int) -> list[int]:
    """The powers of two up to the number of repeats, and that number."""
    return sorted({2**power for power in range(int(math.log2(repeats)) + 1)} | {repeats})


def _entry(entries: Sequence[Mapping[str, Any]], told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One task's or group's numbers: means over repeats."""
    found = dict(entries[0])
    for key, value in entries[0].items():
        values = [each for entry in entries if isinstance(each := entry.get(key), int | float)]
        if not isinstance(value, float) or len(values) < len(entries):
            continue
        name, _, chosen = key.partition(",")
        found[key] = fmean(values)
        of = told.get(f"{name.removesuffix('_stderr')},{chosen}") if name.endswith("_stderr") else None
        if of is not None and of["stderr"] is not None:
            found[key] = of["stderr"]
    return found
