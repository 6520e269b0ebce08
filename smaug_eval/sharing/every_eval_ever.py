"""Write results in the schema of Every Eval Ever (https://github.com/evaleval/every_eval_ever), version 0.3.0.

The schema is that of the package ``every-eval-ever`` 0.3.0, under the MIT licence, which lies beside it in
``schemas/``. Every record is checked against it, and of the samples the first of each task.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from smaug_eval._version import __version__
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json, write_text
from smaug_eval.common.names import is_there, with_revision
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.identity import hub_name
from smaug_eval.results.json_files import as_number, mapping
from smaug_eval.results.sample_files import sample_rows
from smaug_eval.results.sources import Source
from smaug_eval.results.task_results import TaskResult
from smaug_eval.sharing.measured import DataSource, Judgment, MeasuredScore, measured, measured_by_judges
from smaug_eval.sharing.places import Places

VERSION = "0.3.0"
CHECKED_SAMPLES = 20
_SCHEMAS = Path(__file__).parent / "schemas" / f"every_eval_ever-{VERSION}"
_SAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Evaluator:
    """Name who measured.

    Attributes:
        organization: Its name.
        relationship: To the model's developer: ``first_party``, ``third_party``, ``collaborative`` or ``other``.
    """

    organization: str = "unknown"
    relationship: str = "other"


def write_every_eval_ever(
    sources: Sequence[Source], comparison: Comparison, out: Path, places: Places, evaluator: Evaluator
) -> list[Path]:
    """Write ``data/<suite>/<developer>/<model>/<uuid>.json`` for each model and suite, and its samples beside it.

    A suite's average is a result like its columns; each judge's scores of a question set are a suite of their own.

    Args:
        sources: With evaluations.
        comparison: Of their models.
        out: Where ``data/`` goes.
        places: Of this machine.
        evaluator: Who measured.

    Returns:
        The files.

    Raises:
        SmaugError: a record does not fit the schema, which is a fault of this program.
    """
    files: list[Path] = []
    for model in dict.fromkeys([*comparison.models, *comparison.judged_models]):
        scores = measured(comparison, model) if model in comparison.models else []
        scores = [*(each for each in scores if len(each.parts) != 1), *measured_by_judges(comparison, model)]
        for suite in dict.fromkeys(each.suite for each in scores):
            own = [each for each in scores if each.suite == suite]
            files += _write(sources, comparison, model, suite, own, out, places, evaluator)
    return files


def _write(
    sources: Sequence[Source],
    comparison: Comparison,
    model: str,
    suite: str,
    scores: Sequence[MeasuredScore],
    out: Path,
    places: Places,
    evaluator: Evaluator,
) -> Iterator[Path]:
    identity = _model_id(sources, comparison, model)
    dates = [result.date for each in scores for result in each.results if result.date == result.date]
    dates += [each.judgment.date for each in scores if each.judgment is not None]
    taken = max(dates, default=0.0)
    record_id = f"{suite}/{identity}/{taken}"
    digest = hashlib.sha256(canonical_json([record_id, [each.score.value for each in scores]]).encode()).digest()
    name = str(uuid.UUID(bytes=digest[:16], version=4))  # the same for the same results
    developer, _, short = identity.rpartition("/")
    folder = out / "data" / _SAFE.sub("_", suite) / _SAFE.sub("_", developer or "unknown") / _SAFE.sub("_", short)
    folder.mkdir(parents=True, exist_ok=True)
    lines = list(_samples(record_id, identity, scores))
    samples = folder / f"{name}_samples.jsonl"
    record = {
        "schema_version": VERSION,
        "evaluation_id": record_id,
        "evaluation_timestamp": str(taken),
        "retrieved_timestamp": str(time.time()),
        "source_metadata": {
            "source_name": "smaug-eval",
            "source_type": "evaluation_run",
            "source_organization_name": evaluator.organization,
            "evaluator_relationship": evaluator.relationship,
        },
        "eval_library": _library(scores),
        "model_info": _model_info(sources, comparison, model, identity, scores),
        "evaluation_results": [_result(record_id, each) for each in scores],
    }
    if lines:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": samples.relative_to(out).as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(text.encode()).hexdigest(),
            "total_rows": len(lines),
        }
        _check_samples(lines)
        write_text(samples, text)
    record = places.hide_in(record)
    check(record, "eval")
    file = folder / f"{name}.json"
    write_text(file, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    yield file
    if lines:
        yield samples


@cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft7Validator

    return Draft7Validator(json.loads((_SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8")))


def check(record: Mapping[str, Any], kind: str) -> None:
    """Check a record against the schema.

    Args:
        record: As it is written.
        kind: ``eval`` or ``instance_level_eval``.

    Raises:
        SmaugError: it does not fit; the message names the key.
    """
    error = next(iter(sorted(_validator(kind).iter_errors(record), key=lambda each: list(map(str, each.path)))), None)
    if error is not None:
        where = ".".join(map(str, error.absolute_path)) or "the record"
        raise SmaugError(
            f"every_eval_ever {VERSION}: {where}: {error.message[:200]}", fix="report it with this message"
        )


def _check_samples(lines: Sequence[Mapping[str, Any]]) -> None:
    """Check the first samples of each task."""
    seen: dict[str, int] = {}
    for row in lines:
        key = str(row["evaluation_name"])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= CHECKED_SAMPLES:
            check(row, "instance_level_eval")


def _model_id(sources: Sequence[Source], comparison: Comparison, model: str) -> str:
    """A model's name on the Hub, else the run's and its own."""
    about = comparison.described.get(model, {})
    found, _ = with_revision(hub_name(model, about, comparison.models.get(model, {})))
    if found.count("/") == 1 and not is_there(Path(found)) and not found.startswith(("/", ".", "~")):
        return found
    label = sources[0].label if len(sources) == 1 else ""
    return f"{_SAFE.sub('-', label) or 'local'}/{_SAFE.sub('-', model)}"


def _library(scores: Sequence[MeasuredScore]) -> dict[str, Any]:
    if all(each.judgment is not None for each in scores):
        details = {"protocol": "MT-Bench, as FastChat's llm_judge"}
        return {"name": "smaug-eval", "version": __version__, "additional_details": details}
    harness = next((result.asked.harness for each in scores for result in each.results if result.asked.harness), "")
    settings = next((result.settings for each in scores for result in each.results), {})
    version = settings.get("lm_eval_version") or harness.rpartition(" ")[2] or "unknown"
    return {"name": "lm_eval", "version": str(version), "additional_details": {"smaug_eval_version": __version__}}


def _model_info(
    sources: Sequence[Source], comparison: Comparison, model: str, identity: str, scores: Sequence[MeasuredScore]
) -> dict[str, Any]:
    about = comparison.described.get(model, {})
    details = {key: str(about[key]) for key in ("sha256", "dtype", "architecture", "revision") if about.get(key)}
    engine = next((result.asked.engine for each in scores for result in each.results if result.asked.engine), None)
    is_served = engine is not None and engine.startswith("api")
    return {
        "name": model,
        "id": identity,
        "developer": identity.partition("/")[0],
        **({"inference_engine": _engine(engine)} if engine else {}),
        "additional_details": {
            "deployment_type": "externally_managed" if is_served else "self_deployed",
            "model_availability": "unknown" if is_served else "open_weights" if about.get("revision") else "unknown",
            **details,
        },
    }


def _engine(engine: str) -> dict[str, str]:
    package = {"torch": "torch", "hf": "transformers"}.get(engine, engine)
    try:
        return {"name": engine, "version": metadata.version(package)}
    except metadata.PackageNotFoundError:
        return {"name": engine}


def _result(record_id: str, each: MeasuredScore) -> dict[str, Any]:
    score = each.score
    low, high = each.bounds or (None, None)
    config: dict[str, Any] = {
        "metric_id": each.metric.partition(",")[0],
        "metric_name": each.metric,
        "metric_unit": "percent" if each.unit == "%" else each.unit or "as lm-eval has it",
        "lower_is_better": each.higher_is_better is False,
    }
    if each.judgment is not None:
        config["llm_scoring"] = _scoring(each.judgment)
    if low is not None and high is not None:
        config |= {"score_type": "continuous", "min_score": low, "max_score": high}
    uncertainty: dict[str, Any] = {}
    if score.stderr is not None:
        uncertainty["standard_error"] = {"value": score.stderr}
    if score.interval is not None:
        uncertainty["confidence_interval"] = {
            "lower": score.interval[0],
            "upper": score.interval[1],
            "confidence_level": 0.95,
        }
    if score.n is not None:
        uncertainty["num_samples"] = score.n
    details = {"sentence": each.sentence, "notes": "; ".join(score.notes)}
    found: dict[str, Any] = {
        "evaluation_result_id": _result_id(record_id, each),
        "evaluation_name": each.title,
        "source_data": _source_data(each.data) if each.data is not None else _mean_of(each),
        "metric_config": config,
        "score_details": {
            "score": score.value,
            "details": {key: text for key, text in details.items() if text},
            **({"uncertainty": uncertainty} if uncertainty else {}),
        },
    }
    if each.shots is not None:
        found["generation_config"] = {"additional_details": {"num_fewshot": str(each.shots)}}
    return found


def _mean_of(each: MeasuredScore) -> dict[str, Any]:
    """What an average is of; its rows are those of its parts."""
    details = {"mean_of": ", ".join(each.parts)}
    return {"dataset_name": f"{each.suite}: {each.title}", "source_type": "other", "additional_details": details}


def _scoring(judgment: Judgment) -> dict[str, Any]:
    """Who judged, and by which prompts; their texts are not in the results."""
    name = judgment.judge or "unknown"
    kind = "a rule of the demo, no model" if judgment.is_demo else "language model"
    details = {"deployment_type": "unknown", "model_availability": "unknown", "kind": kind}
    about = {"name": name, "id": name, "additional_details": details}
    return {"judges": [{"model_info": about}], "input_prompt": ", ".join(judgment.prompts) or "unknown"}


def _result_id(record_id: str, each: MeasuredScore) -> str:
    return f"{record_id}#{each.title}#{each.metric}"


def _source_data(data: DataSource) -> dict[str, Any]:
    details = {"revision": data.revision, "config": data.config}
    more = {"additional_details": kept} if (kept := {key: text for key, text in details.items() if text}) else {}
    if not data.on_hub:
        return {"dataset_name": data.name, "source_type": "other", **more}
    split = {"hf_split": data.split} if data.split else {}
    return {"dataset_name": data.name, "source_type": "hf_dataset", "hf_repo": data.name, **split, **more}


def _samples(record_id: str, identity: str, scores: Sequence[MeasuredScore]) -> Iterator[dict[str, Any]]:
    for each in scores:
        for result in each.results:
            if result.samples is not None:
                yield from _rows(record_id, identity, each, result)


def _rows(record_id: str, identity: str, each: MeasuredScore, result: TaskResult) -> Iterator[dict[str, Any]]:
    metric, _, filter_ = each.metric.partition(",")
    for row in sample_rows(result.samples):  # type: ignore[arg-type]
        value = as_number(row.get(metric))
        if value != value or (filter_ and row.get("filter") not in (filter_, None)):
            continue
        asked, choices, raw, answer = _asked(row, is_by_length=metric == "acc_norm")
        reference = [_reference(row.get("target"), choices)]
        hashed = hashlib.sha256((asked + "".join(reference)).encode()).hexdigest()
        yield {
            "schema_version": VERSION,
            "evaluation_id": record_id,
            "model_id": identity,
            "evaluation_name": each.title,
            "evaluation_result_id": _result_id(record_id, each),
            "sample_id": f"{result.task}:{row.get('doc_id')}",
            "sample_hash": hashed,
            "interaction_type": "single_turn",
            "input": {"raw": asked, "reference": reference, **({"choices": choices} if choices else {})},
            "output": {"raw": raw},
            "answer_attribution": [
                {
                    "turn_idx": 0,
                    "source": "output.raw",
                    "extracted_value": answer,
                    "extraction_method": str(row.get("filter") or "none"),
                    "is_terminal": True,
                }
            ],
            "evaluation": {"score": value, "is_correct": value >= 1.0},
            "metadata": {"task": result.task},
        }


def _reference(target: Any, choices: Sequence[str]) -> str:
    """What is right; of choices, which lm-eval names by their place, the choice."""
    text = _text(target)
    return choices[int(text)].strip() if text.isdecimal() and int(text) < len(choices) else text


def _asked(row: Mapping[str, Any], *, is_by_length: bool) -> tuple[str, list[str], list[str], str]:
    """A sample's prompt, its choices, what the model wrote (of choices the likeliest), and the answer in it."""
    arguments = [mapping(each) for each in mapping(row.get("arguments")).values()]
    prompt = _text(arguments[0].get("arg_0")) if arguments else ""
    resps, filtered = row.get("resps") or [], row.get("filtered_resps") or []
    choices = [_text(each.get("arg_1")) for each in arguments if isinstance(each.get("arg_1"), str)]
    if choices and len(choices) == len(filtered):
        likelihoods = [as_number(each[0] if isinstance(each, list) and each else each) for each in filtered]
        lengths = [len(choice.removeprefix(" ")) or 1 if is_by_length else 1 for choice in choices]
        likeliest = choices[max(range(len(choices)), key=lambda place: likelihoods[place] / lengths[place])]
        return prompt, choices, [likeliest], likeliest.strip()
    written = [_text(part) for each in resps for part in (each if isinstance(each, list) else [each])]
    first = filtered[0] if isinstance(filtered, list) and filtered else ""
    return prompt, [], written, _text(first[0] if isinstance(first, list) and first else first)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
