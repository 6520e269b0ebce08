"""Any lm-eval results in the leaderboard's terms: its metrics per document, recomputed from logged samples.

Reads what lm-eval 0.4.13 logs for this project's tasks and for its own (``arc_challenge``, ``hellaswag``,
``mmlu_<subject>``, ``truthfulqa_mc1``, ``truthfulqa_mc2``, ``winogrande``, ``gsm8k``), and the older names
``hendrycksTest-<subject>``, ``truthfulqa_mc`` and ``harness|<task>|<shots>``. Values are fractions in [0, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import forms, v1
from smaug_eval.leaderboard.forms import Row
from smaug_eval.leaderboard.intervals import Values
from smaug_eval.leaderboard.metrics import final_answer, flexible_extract, mc1, mc2, mc2_masked, strict_match
from smaug_eval.leaderboard.protocol import TaskSpec

RECOMPUTED = "recomputed from samples"
AS_REPORTED = "taken as reported"

_NAMES = {
    "arc_challenge": v1.ARC.name,
    "arc:challenge": v1.ARC.name,
    "hellaswag": v1.HELLASWAG.name,
    "truthfulqa_mc": v1.TRUTHFULQA.name,
    "truthfulqa:mc": v1.TRUTHFULQA.name,
    "truthfulqa_mc1": v1.TRUTHFULQA.name,
    "truthfulqa_mc2": v1.TRUTHFULQA.name,
    "winogrande": v1.WINOGRANDE.name,
    "gsm8k": v1.GSM8K.name,
}
_ARCHIVED = re.compile(r"harness\|(?P<task>[^|]+)\|(?P<shots>\d+)")
_SUBJECT = re.compile(r"(?:mmlu_|hendrycksTest-)(?P<subject>\w+)")
_OLD_TASKS = re.compile(r"harness\||hendrycksTest-|truthfulqa_mc$")
_ENDS_WITH_ANSWER = re.compile(r"#### \-?[0-9\.\,]+\s*$")
_BOS_NOTES: dict[bool | None, list[str]] = {
    True: ["not comparable: a BOS token before every prompt"],
    False: [],
    None: ["whether a BOS token was added is not recorded; the leaderboard added none"],
}
_END_TOKENS = ("</s>", "<|im_end|>")  # of lm-eval's list of stops; the leaderboard stopped at the model's own
_MODERN_STOPS = ("Question:", *_END_TOKENS)

# Metrics as other versions call them, best first, where the results have no samples.
_REPORTED: dict[str, dict[str, tuple[str, ...]]] = {
    "arc": {"acc_norm": ("acc_norm,none", "acc_norm"), "acc": ("acc,none", "acc")},
    "hellaswag": {"acc_norm": ("acc_norm,none", "acc_norm"), "acc": ("acc,none", "acc")},
    "mmlu": {"acc": ("acc,none", "acc")},
    "truthfulqa": {"mc2": ("mc2,none", "mc2", "acc,none", "acc"), "mc1": ("mc1,none", "mc1")},
    "winogrande": {"acc": ("acc,none", "acc")},
    "gsm8k": {"acc": ("acc,none", "acc", "exact_match,strict-match")},
}
_GOLD: dict[str, Callable[[Row], int]] = {
    "arc": forms.arc_gold,
    "hellaswag": lambda row: int(row["label"]),
    "mmlu": lambda row: int(row["answer"]),
    "winogrande": forms.winogrande_gold,
}


@dataclass(frozen=True)
class Rescored:
    """One of the leaderboard's tasks, from somebody's results.

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
    """The leaderboard's task that results called ``name`` measure; None where it has no such task."""
    if archived := _ARCHIVED.fullmatch(name):
        name = archived["task"]
    if subject := _SUBJECT.fullmatch(name):
        return v1.TASKS.get(f"{v1.NAME}_mmlu_{subject['subject']}")
    return v1.TASKS.get(_NAMES.get(name, ""))


def rescore(
    name: str, entry: Mapping[str, Any], settings: Mapping[str, Any], samples: Iterable[Mapping[str, Any]] | None
) -> Rescored | None:
    """A task's results in the leaderboard's terms.

    Args:
        name: The task's name in the results.
        entry: lm-eval's ``results[name]``.
        settings: ``num_fewshot``, ``config`` with ``model_args``, and, where used, ``chat_template_sha`` and
            ``system_instruction_sha``.
        samples: The lines of its samples file, None where there is none.

    Returns:
        None where the leaderboard has no such task, or the entry neither its metric nor samples to compute it from
        (TruthfulQA's mc1 alone says nothing of mc2).

    Raises:
        SmaugError: a sample is not in lm-eval's format.
    """
    spec = leaderboard_task(name)
    if spec is None:
        return None
    notes = _prompt_notes(spec, name, settings)
    headline = next(iter(_REPORTED[spec.form.name]))
    if samples is not None:
        lines = iter(samples)  # one at a time: HellaSwag's hold hundreds of megabytes of prompts
        first = list(islice(lines, 1))
        values = document_metrics(spec, chain(first, lines))
        if headline in values:
            return Rescored(summary(values), values, RECOMPUTED, (*notes, *_stop_notes(spec, first)))
    if name == "truthfulqa_mc1":
        return None
    return _as_reported(spec, entry, notes)


def document_metrics(spec: TaskSpec, samples: Iterable[Mapping[str, Any]]) -> dict[str, Values]:
    """Every metric of a task per document.

    ``acc`` and, for choices of text, ``acc_norm``; ``mc1``, ``mc2`` and ``mc2_masked`` as far as the samples hold
    their choices and labels; for generated solutions ``acc`` (of the text up to the leaderboard's stops),
    ``acc_unstopped`` (the same rule on the whole text), ``strict_match``, ``flexible_extract``, and ``open`` and
    ``open_flexible``: 1 where the leaderboard's stops may have cut what lm-eval 0.4.13 would have gone on to read.

    Raises:
        SmaugError: a sample is not in lm-eval's format.
    """
    measure = _MEASURES[spec.form.name]
    rows: dict[Any, dict[str, float]] = {}
    for number, sample in enumerate(samples, start=1):
        try:
            key = sample["doc_id"]
            if key not in rows:  # a task with several filters logs every document once per filter
                rows[key] = measure(spec, sample)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise SmaugError(
                f"samples of {spec.name}, line {number}: not in lm-eval's format ({error!r})",
                fix="leave the file out, or evaluate again",
            ) from error
    names = set.intersection(*(set(row) for row in rows.values())) if rows else set()
    return {name: np.array([row[name] for row in rows.values()]) for name in sorted(names)}


def summary(documents: Mapping[str, Values]) -> dict[str, Any]:
    """lm-eval's ``results`` of a task from its values per document: means, standard errors, number of documents."""
    entry: dict[str, Any] = {}
    for name, values in documents.items():
        entry["sample_len"] = len(values)
        entry[f"{name},none"] = float(values.mean())
        entry[f"{name}_stderr,none"] = standard_error(values)
    return entry


def standard_error(values: Values) -> float | str:
    """Sample standard deviation / sqrt(n); lm-eval's "N/A" for a single value."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else "N/A"


def _as_reported(spec: TaskSpec, entry: Mapping[str, Any], notes: Sequence[str]) -> Rescored | None:
    found: dict[str, Any] = {}
    told = list(notes)
    for metric, keys in _REPORTED[spec.form.name].items():
        key = next((key for key in keys if isinstance(entry.get(key), (int, float))), None)
        if key is None:
            continue
        name, comma, filter_name = key.partition(",")
        found[f"{metric},none"] = entry[key]
        found[f"{metric}_stderr,none"] = entry.get(f"{name}_stderr{comma}{filter_name}", "N/A")
        if filter_name == "strict-match":
            told.append("lm-eval's strict-match, since there are no samples: other stops, a period at the end ignored")
        elif spec.form is forms.TRUTHFULQA and metric == "mc2" and name == "acc":
            told.append("lm-eval's label-masked mc2, since there are no samples")
    headline = next(iter(_REPORTED[spec.form.name]))
    if f"{headline},none" not in found:
        return None
    count = entry.get("sample_len")
    if not isinstance(count, int):  # older versions do not say
        count = spec.official_rows
        told.append("number of documents not recorded, taken as the official one")
    return Rescored({**found, "sample_len": count}, {}, AS_REPORTED, tuple(told))


def _prompt_notes(spec: TaskSpec, name: str, settings: Mapping[str, Any]) -> list[str]:
    """What the settings of an evaluation say of its prompts against the leaderboard's."""
    archived = _ARCHIVED.fullmatch(name)
    shots = int(archived["shots"]) if archived else settings.get("num_fewshot")
    notes = []
    if shots is None:
        notes.append("number of shots not recorded")
    elif shots != spec.num_fewshot:
        notes.append(f"not comparable: {shots} shots, the leaderboard's {spec.num_fewshot}")
    elif shots and spec.draws_shots and not _OLD_TASKS.match(name):
        notes.append("not the leaderboard's shots: lm-eval's own draw")
    if not _OLD_TASKS.match(name):
        notes += _BOS_NOTES[_adds_bos(settings)]
    additions = {"chat_template_sha": "a chat template", "system_instruction_sha": "a system prompt"}
    return notes + [f"not comparable: with {words}" for key, words in additions.items() if settings.get(key)]


def _adds_bos(settings: Mapping[str, Any]) -> bool | None:
    """Whether lm-eval was told to begin prompts with a BOS token; None where it left that to the tokenizer."""
    config = settings.get("config")
    arguments = config.get("model_args") if isinstance(config, Mapping) else None
    if isinstance(arguments, str):  # as older versions wrote them
        arguments = dict(part.partition("=")[::2] for part in arguments.split(","))
    value = str(arguments.get("add_bos_token")) if isinstance(arguments, Mapping) else ""
    return {"true": True, "false": False}.get(value.lower())


def _stop_notes(spec: TaskSpec, first: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where generation was ended otherwise than on the leaderboard, in a way that cutting the text cannot mend."""
    if spec.generation is None or not first:
        return []
    settings = _generation_settings(first[0])
    others = [stop for stop in _stops(settings) if stop not in (*spec.generation.stops, *_END_TOKENS)]
    notes = [f"not comparable: generation stopped at {', '.join(map(repr, others))}, too"] if others else []
    tokens = settings.get("max_gen_toks", spec.generation.max_new_tokens)
    if tokens != spec.generation.max_new_tokens:
        notes.append(f"at most {tokens} new tokens, the leaderboard's {spec.generation.max_new_tokens}")
    return notes


def _arguments(sample: Mapping[str, Any]) -> list[list[Any]]:
    arguments = sample["arguments"]
    if isinstance(arguments, Mapping):
        return [list(arguments[f"gen_args_{index}"].values()) for index in range(len(arguments))]
    return [list(each) for each in arguments]


def _generation_settings(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    values = _arguments(sample)[0]
    return values[1] if len(values) > 1 and isinstance(values[1], Mapping) else {}


def _stops(settings: Mapping[str, Any]) -> list[str]:
    until = settings.get("until", [])
    return [until] if isinstance(until, str) else list(until)


def _log_likelihoods(sample: Mapping[str, Any]) -> list[float]:
    return [float(response[0]) for response in sample["filtered_resps"]]


def _pick(log_likelihoods: Sequence[float]) -> int:
    return int(np.argmax(log_likelihoods))  # ties go to the first, as in both versions


def _measure_choice(spec: TaskSpec, sample: Mapping[str, Any]) -> dict[str, float]:
    form, document = spec.form.name, sample["doc"]
    gold = document["gold"] if isinstance(document.get("gold"), int) else _GOLD[form](document)
    values = _log_likelihoods(sample)
    found = {"acc": float(_pick(values) == gold)}
    if spec.form in (forms.ARC, forms.HELLASWAG):
        texts = [str(arguments[1]).removeprefix(" ") for arguments in _arguments(sample)]
        per_character = [value / max(1, len(text)) for value, text in zip(values, texts, strict=True)]
        found["acc_norm"] = float(_pick(per_character) == gold)
    return found


def _measure_truth(_spec: TaskSpec, sample: Mapping[str, Any]) -> dict[str, float]:
    document, values = sample["doc"], _log_likelihoods(sample)
    if "n_mc1" in document:  # this project's documents: mc1's answers, then mc2's
        n_mc1 = document["n_mc1"]
        found = {"mc1": mc1(values[:n_mc1]), "mc2": mc2(values[n_mc1:], document["n_true"])}
        if "labels" in document:
            found["mc2_masked"] = mc2_masked(values[n_mc1:], document["labels"])
        return found
    labels = list(document["mc2_targets"]["labels"])
    continuations = [str(arguments[1]).removeprefix(" ") for arguments in _arguments(sample)]
    if continuations == list(document["mc2_targets"]["choices"]):
        return {"mc2": mc2(values, labels.index(0)), "mc2_masked": mc2_masked(values, labels)}
    return {"mc1": mc1(values)}


def _measure_solution(spec: TaskSpec, sample: Mapping[str, Any]) -> dict[str, float]:
    text, answer = str(sample["resps"][0][0]), sample["doc"]["answer"]
    stops = spec.generation.stops if spec.generation else ()
    gold = final_answer(answer)
    if gold is None:
        raise ValueError("the answer has no '#### <number>'")
    stopped = text
    for stop in stops:
        stopped = stopped.split(stop)[0]
    was_stopped = any(stop in _stops(_generation_settings(sample)) for stop in stops if stop not in _MODERN_STOPS)
    number = final_answer(text)
    return {
        "acc": float(final_answer(stopped) == gold),
        "acc_unstopped": float(number == gold),
        "strict_match": strict_match(text, answer),
        "flexible_extract": flexible_extract(text, answer),
        # The first match stays the first, whatever would have followed.
        "open": float(was_stopped and number is None),
        # Nothing after the number but blanks: the model had moved on to the next question, or ended.
        "open_flexible": float(was_stopped and not _ENDS_WITH_ANSWER.search(text)),
    }


_MEASURES: dict[str, Callable[[TaskSpec, Mapping[str, Any]], dict[str, float]]] = {
    **dict.fromkeys(_GOLD, _measure_choice),
    "truthfulqa": _measure_truth,
    "gsm8k": _measure_solution,
}
