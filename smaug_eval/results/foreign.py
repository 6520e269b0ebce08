"""Say what a file is that holds no results this program reads, so that its reader knows what to give instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INSPECT = "an inspect_ai log"
HELM = "a file of a HELM run"
OPENCOMPASS = "a file of OpenCompass"
SAMPLES = "samples without the results file of their evaluation"
CARD = "the scores of a model card, which name neither the model nor its settings"
NO_SCORES = "key 'results' is missing: an lm-eval file without scores"
NO_TASKS = "key 'results' holds no task"
CHECKPOINT = "a checkpoint's own file"
TRAINING_LOG = "a training's log, to be given by itself"
DIALOGUES = "judgments or answers of FastChat, to be given by themselves"
WRITE_OUT = "what harness 0.3 wrote with --write_out: documents without settings"
TABLE = "a table or text, not JSON"
UNKNOWN = "no results of lm-eval (keys 'results' and 'config', 'versions' or 'config_general')"

FIXES = {
    INSPECT: "give lm-eval's or lighteval's results; inspect_ai's logs are not read (inspect log dump shows them)",
    HELM: "give lm-eval's or lighteval's results; HELM's folders are not read",
    OPENCOMPASS: "give lm-eval's or lighteval's results; OpenCompass' folders are not read",
    SAMPLES: "put lm-eval's results_*.json of the same evaluation beside the samples, and give their folder",
    CARD: "give the results file that the card was made from",
    TABLE: "give the JSON that the table was made from, as lm-eval writes it (--output_path)",
    NO_TASKS: "give results of at least one task",
    NO_SCORES: "give the file that lm-eval wrote at the end of the evaluation (--output_path)",
}
"""What to give instead of a file of each kind."""

KNOWN_FIX = "give lm-eval's results file, a folder of them, or a run directory"
GENERAL_FIX = "give lm-eval's results file, a folder of them, a run directory, or FastChat's judgments"

TABLE_ENDS = (".csv", ".tsv", ".md", ".markdown", ".txt", ".html", ".htm", ".xlsx", ".parquet", ".yaml", ".yml")
"""Endings of files in which people keep scores, and which hold no JSON."""

_NAMES = {
    **dict.fromkeys(
        ("run_spec.json", "stats.json", "scenario.json", "scenario_state.json", "per_instance_stats.json",
         "per_instance_stats_slim.json", "instances.json"), HELM,
    ),
    **dict.fromkeys(
        ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.json",
         "special_tokens_map.json", "added_tokens.json", "adapter_config.json", "trainer_state.json",
         "model.safetensors.index.json", "preprocessor_config.json", "quantize_config.json"), CHECKPOINT,
    ),
    "log.jsonl": TRAINING_LOG,
    "diagnostics.jsonl": TRAINING_LOG,
}  # fmt: skip
_INSPECT_KEYS = {"eval", "plan", "stats"}
_LM_EVAL_KEYS = {"model_source", "task_hashes", "model_name_sanitized"}
_SAMPLE_KEYS = {"arguments", "resps", "filtered_resps"}


def kind_of(path: Path, value: object = None) -> str:
    """Say in words what a file is, by its name and what it holds.

    Args:
        path: The file.
        value: The JSON in it, or its first line's; None where that was not read.
    """
    if path.suffix == ".eval":
        return INSPECT
    if path.suffix.lower() in TABLE_ENDS:
        return TABLE
    if path.name in _NAMES:
        return _NAMES[path.name]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _kind_of_list(value)
    return _kind_of_object(value) if isinstance(value, Mapping) else UNKNOWN


def is_sample(value: object) -> bool:
    """Return whether an object is a document as lm-eval logs it."""
    return isinstance(value, Mapping) and "doc_id" in value and not _SAMPLE_KEYS.isdisjoint(value)


def _kind_of_list(value: Sequence[Any]) -> str:
    first = value[0] if value else None
    if is_sample(first):
        return SAMPLES
    if isinstance(first, Mapping):
        if "prompt_0" in first:
            return WRITE_OUT
        if isinstance(first.get("name"), Mapping) and "count" in first:
            return HELM
    return UNKNOWN


def _kind_of_object(value: Mapping[str, Any]) -> str:
    if value.keys() >= _INSPECT_KEYS or ("eval" in value and "samples" in value and "status" in value):
        return INSPECT
    if is_sample(value):
        return SAMPLES
    if "choices" in value and "question_id" in value:
        return DIALOGUES
    if any(key.startswith(("harness|", "leaderboard|", "lighteval|")) for key in value):
        return CARD
    if "adapter_spec" in value and "scenario_spec" in value:
        return HELM
    first = next(iter(value.values()), None)
    if "details" in value and not {"accuracy", "score"}.isdisjoint(value):
        return OPENCOMPASS
    if isinstance(first, Mapping) and {"origin_prompt", "prediction"} <= first.keys():
        return OPENCOMPASS
    return NO_SCORES if not _LM_EVAL_KEYS.isdisjoint(value) else UNKNOWN
