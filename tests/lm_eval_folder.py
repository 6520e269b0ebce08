"""A folder with lm-eval tasks of every kind, and a mirror with their data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import yaml

WORDS = ("cat", "dog", "bird", "fish", "horse", "mouse", "frog", "sheep")
PLACES = ("in the garden", "under the big tree", "near the old river", "behind the red house")

PLAIN: dict[str, Any] = {"dataset_path": "org/animals", "test_split": "test", "fewshot_split": "train"}
CHOICE: dict[str, Any] = {
    **PLAIN,
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}
TASKS: dict[str, dict[str, Any]] = {
    "own_choice": {**CHOICE, "task": "own_choice", "num_fewshot": 2, "tag": "own_tag"},
    "own_first": {
        **CHOICE,
        "task": "own_first",
        "num_fewshot": 3,
        "fewshot_config": {"sampler": "first_n"},
        "tag": ["own_tag"],
        "doc_to_text": "{{question}}",
    },
    "own_generation": {
        **PLAIN,
        "task": "own_generation",
        "output_type": "generate_until",
        "num_fewshot": 1,
        "doc_to_text": "Q: {{question}}\nA:",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["\n", "Q:"], "max_gen_toks": 12, "do_sample": False},
        "filter_list": [
            {
                "name": "strict",
                "filter": [{"function": "regex", "regex_pattern": "(\\w+)"}, {"function": "take_first"}],
            },
            {"name": "loose", "filter": [{"function": "lowercase"}, {"function": "take_first"}]},
        ],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": False,
            }
        ],
    },
    "own_last_word": {
        **PLAIN,
        "task": "own_last_word",
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.rsplit(' ', 1)[0]}}",
        "doc_to_target": "{{' ' + text.rsplit(' ', 1)[1]}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    },
    "own_rolling": {
        **PLAIN,
        "task": "own_rolling",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "own_blank": {
        **PLAIN,
        "task": "own_blank",
        "output_type": "multiple_choice",
        "doc_to_text": "label",
        "doc_to_choice": "{{[before + choices[0], before + choices[1]]}}",
        "doc_to_target": "{{after}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "own_scored_shots": {
        **CHOICE,
        "task": "own_scored_shots",
        "test_split": None,
        "validation_split": "test",
        "fewshot_split": "test",
        "num_fewshot": 2,
    },
}
GROUPS: dict[str, dict[str, Any]] = {
    "own_group": {
        "group": "own_group",
        "task": ["own_choice", "own_first", {"task": "own_last_word"}],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    },
}


def rows(split: str, n: int) -> list[dict[str, Any]]:
    """Documents about animals, none of which is in two splits."""
    found = []
    for index in range(n):
        first, second = WORDS[index % 8], WORDS[(3 * index + 1) % 8]
        place = PLACES[(index // 3) % 4]
        found.append(
            {
                "question": f"What did child number {index} of the {split} group see {place} after lunch?",
                "choices": [f"a {first}", f"a little {second}"],
                "label": (index * 7 // 3) % 2,
                "text": f"Once upon a time the {first} number {index} met a {second} {place}. They played and played.",
                "before": f"The {split} story {index} says that ",
                "after": f"was {place} all day long.",
            }
        )
    return found


def write_mirror(root: Path, sizes: Mapping[str, int] | None = None) -> Path:
    """A mirror with ``org/animals``."""
    folder = root / "org/animals/default"
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (sizes or {"train": 9, "test": 13}).items():
        datasets.Dataset.from_list(rows(split, n)).to_parquet(str(folder / f"{split}.parquet"))
    return root


def write_tasks(folder: Path, names: Sequence[str] | None = None, **changed: Mapping[str, Any]) -> Path:
    """The YAML of tasks and groups; ``changed`` adds keys to some."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in {**TASKS, **GROUPS}.items():
        if names is None or name in names:
            content = {key: value for key, value in {**config, **changed.get(name, {})}.items() if value is not None}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder
