"""Read how an evaluation was run: shots, limit, versions, engine and settings, as any harness writes them.

Read are lm-evaluation-harness 0.2 and 0.3 (``config.num_fewshot``, metrics without filters), lm-eval 0.4.0 to 0.4.13
(``n-shot``, ``configs``, ``n-samples``), lighteval and the archived leaderboard (``config_general``, task names such as
``harness|arc:challenge|25``).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smaug_eval.results.json_files import as_number, mapping, number_of_text, whole_number

OLD_HARNESS = "harness 0.2 or 0.3"
LEADERBOARD = "the leaderboard's harness"
LIGHTEVAL = "lighteval"
EVALCHEMY = "evalchemy"

_PIPED = re.compile(r"(?:(?P<suite>[^|]+)\|)?(?P<task>[^|]+)\|(?P<shots>\d+)(?:\|\d+)?")
_SHORT = 8
_MODEL_KEYS = ("pretrained", "model", "path", "model_name")


@dataclass(frozen=True)
class Asked:
    """Hold the conditions that one task was run under; None for what is not recorded.

    Attributes:
        shots: Examples in each prompt.
        limit: First documents of the task, or a share of them below 1; None where there was no limit.
        is_limit_recorded: Whether the file says if there was one.
        version: The task's version.
        harness: What ran it, with its version as far as the file tells.
        engine: What ran the model.
        chat_template: A hash of the template; None where there was none.
        system_prompt: A hash of the system prompt; None where there was none.
        max_tokens: Most new tokens of a generated answer.
        generation: Further settings of generation as text.
    """

    shots: int | None = None
    limit: float | None = None
    is_limit_recorded: bool = False
    version: str | int | float | None = None
    harness: str = ""
    engine: str | None = None
    chat_template: str | None = None
    system_prompt: str | None = None
    max_tokens: int | None = None
    generation: str | None = None


def asked_of(document: Mapping[str, Any], task: str, position: int) -> Asked:
    """Read from a results file how a task was run.

    Args:
        document: The results file.
        task: The task's name in it.
        position: Which of its tasks it is, for a list of shots.
    """
    config, own = mapping(document.get("config")), mapping(mapping(document.get("configs")).get(task))
    limit, is_recorded = _limit(document)
    generation = _generation(document, own)
    return Asked(
        shots=_shots(document, task, position),
        limit=limit,
        is_limit_recorded=is_recorded,
        version=_version(document, task),
        harness=harness_of(document, task),
        engine=_engine(config),
        chat_template=digest_of(document, "chat_template"),
        system_prompt=digest_of(document, "system_instruction"),
        max_tokens=whole_number(generation.pop("max_gen_toks", None)),
        generation=json.dumps(generation, sort_keys=True, default=str) if generation else None,
    )


def harness_of(document: Mapping[str, Any], task: str) -> str:
    """Name what ran an evaluation: its version where the file names it, else between which ones its form lies."""
    version = document.get("lm_eval_version")
    if isinstance(version, str) and version:
        return f"lm-eval {version}"
    if task.startswith("harness|"):
        return LEADERBOARD
    if "config_general" in document:
        return LIGHTEVAL
    if "annotator_model" in mapping(document.get("config")):
        return EVALCHEMY
    entries = mapping(document.get("results")).values()
    if not any("," in key for entry in entries for key in mapping(entry)):
        return "" if "model_source" in document else OLD_HARNESS
    is_newer = "n-samples" in document or "model_source" in document
    return "lm-eval 0.4.3 or later" if is_newer else "lm-eval 0.4.0 to 0.4.2"


def model_arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``config.model_args`` as an object.

    Before lm-eval 0.4.10 it was a text, ``pretrained=org/model,dtype=auto``.
    """
    given = config.get("model_args")
    if isinstance(given, str):
        pairs = (part.partition("=") for part in _split(given))
        return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}
    return mapping(given)


def digest_of(document: Mapping[str, Any], name: str) -> str | None:
    """Return a hash of a text in a results file, ``<name>_sha`` where lm-eval wrote it; None where it is missing."""
    recorded, text = document.get(f"{name}_sha"), document.get(name)
    if isinstance(recorded, str) and recorded:
        return recorded
    if text in (None, "", False):
        return None
    if text is True:  # lighteval says only whether
        return "used"
    return hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()


def documents_asked(asked: Asked, available: int | None) -> int | None:
    """Return the number of documents that a task was limited to; None where that cannot be said.

    Args:
        asked: What was asked.
        available: Documents the task has; None where unknown.
    """
    if not asked.is_limit_recorded:
        return None
    if asked.limit is None:
        return available
    if asked.limit < 1:
        return None if available is None else math.ceil(asked.limit * available)
    return int(asked.limit) if available is None else min(int(asked.limit), available)


def shots_in_name(task: str) -> int | None:
    """Return the shots that a task's name states, as lighteval and the archived leaderboard name tasks."""
    match = _PIPED.fullmatch(task)
    return int(match["shots"]) if match else None


def words(asked: Asked) -> str:
    """Word what to write beside a task's name, such as "25 shots, lm-eval 0.4.9"."""
    return ", ".join(filter(None, (shot_words(asked.shots), limit_words(asked), asked.harness)))


def shot_words(shots: int | None) -> str:
    """Word a number of shots as a phrase; empty where it is not known."""
    return "" if shots is None else f"{shots} shot{'' if shots == 1 else 's'}"


def limit_words(asked: Asked) -> str:
    """Word a limit as a phrase; empty where there is none."""
    if asked.limit is None:
        return ""
    return f"limit {asked.limit:g}" if asked.limit >= 1 else f"limit {100 * asked.limit:g}%"


def common_words(several: Iterable[Asked]) -> str:
    """Return :func:`words` as far as they are the same for all: a task's label on a page of several models."""
    every = list(several)
    parts = (
        [shot_words(each.shots) for each in every],
        [limit_words(each) for each in every],
        [each.harness for each in every],
    )
    return ", ".join(values[0] for values in parts if values and values[0] and len(set(values)) == 1)


def _shots(document: Mapping[str, Any], task: str, position: int) -> int | None:
    config = mapping(document.get("config"))
    found = [
        shots_in_name(task),
        whole_number(mapping(document.get("n-shot")).get(task)),
        whole_number(mapping(mapping(document.get("configs")).get(task)).get("num_fewshot")),
        whole_number(config.get("num_fewshot")),
        _shots_in_list(config.get("num_fewshot"), position, len(mapping(document.get("results")))),
    ]
    return next((shots for shots in found if shots is not None and shots >= 0), None)


def _shots_in_list(value: object, position: int, tasks: int) -> int | None:
    """Find a task's shots in a list, as Stability's fork writes it: the same for all, or one for each task in order."""
    if isinstance(value, str) and "," in value:
        value = [int(part) if part.strip().isdecimal() else None for part in value.split(",")]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    shots = [whole_number(each) for each in value]
    if shots and len(set(shots)) == 1:
        return shots[0]
    return shots[position] if len(shots) == tasks else None


def _limit(document: Mapping[str, Any]) -> tuple[float | None, bool]:
    general, config = mapping(document.get("config_general")), mapping(document.get("config"))
    holder, key = (general, "max_samples") if "max_samples" in general else (config, "limit")
    value = holder.get(key)
    if value in (None, "null", "None", ""):
        return None, key in holder
    text = number_of_text(value)
    number = as_number(value) if text is None else text
    usable = math.isfinite(number) and number > 0
    return (number, True) if usable else (None, False)


def _version(document: Mapping[str, Any], task: str) -> str | int | float | None:
    if task.startswith("harness|"):  # the wrapper's, not the task's
        return None
    value = mapping(document.get("versions")).get(task)
    number = number_of_text(value)  # "1.0" is the version 1.0
    if number is not None and math.isfinite(number):
        return number
    return value if isinstance(value, str | int | float) and value not in ("", "Yaml") else None


def _engine(config: Mapping[str, Any]) -> str | None:
    """Name what ran the model.

    A run of ours writes a path in ``model``, which says nothing, and names it in the arguments; there it is the model's
    name where there is no other, as OpenAI's engines were.
    """
    arguments = model_arguments(config)
    own, name = arguments.get("engine"), config.get("model")
    if isinstance(own, str) and own and any(arguments.get(key) for key in _MODEL_KEYS):
        return own
    return name if isinstance(name, str) and name and "/" not in name else None


def _generation(document: Mapping[str, Any], task_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of generation: the task's own, over them the command line's and the model's."""
    config = mapping(document.get("config"))
    given = config.get("gen_kwargs")
    if isinstance(given, str):
        given = dict(part.partition("=")[::2] for part in _split(given))
    arguments = model_arguments(config)
    own = {"max_gen_toks": arguments["max_gen_toks"]} if "max_gen_toks" in arguments else {}
    found = {**own, **mapping(task_config.get("generation_kwargs")), **mapping(given)}
    if "max_new_tokens" in found or "max_tokens" in found:
        found["max_gen_toks"] = found.pop("max_new_tokens", None) or found.pop("max_tokens", None)
    tokens = found.get("max_gen_toks")
    if isinstance(tokens, str) and tokens.isdecimal():
        found["max_gen_toks"] = int(tokens)
    return found


def _split(text: str) -> list[str]:
    """Split a text at the commas that stand in no brackets and no quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth = max(0, depth - 1)
        elif character == "," and not depth:
            parts.append(text[start:place])
            start = place + 1
    return text.split(",") if quote or depth else [*parts, text[start:]]
