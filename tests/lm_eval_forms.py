"""Tasks in every form that lm-eval's YAML has, over a few documents in local files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.lm_eval_folder import PLACES, WORDS

SIZES = {"train": 6, "test": 5, "few": 3}
SPLITS: dict[str, Any] = {"test_split": "test", "fewshot_split": "train"}
FEW: dict[str, Any] = {"test_split": "few", "fewshot_split": "train"}
QUESTION = "Question: {{question}}\nAnswer:"


def metrics(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name} for name in names]


def steps(name: str, *functions: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a pipeline of filters."""
    return {"name": name, "filter": [{"function": each} if isinstance(each, str) else dict(each) for each in functions]}


CHOICE: dict[str, Any] = {
    **SPLITS,
    "output_type": "multiple_choice",
    "doc_to_text": QUESTION,
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": metrics("acc", "acc_norm"),
}
ANSWER: dict[str, Any] = {
    **SPLITS,
    "output_type": "generate_until",
    "doc_to_text": "Q: {{question}}\nA:",
    "doc_to_target": "{{choices[label]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
    "metric_list": metrics("exact_match"),
}
TEXT: dict[str, Any] = {**SPLITS, "doc_to_text": "", "doc_to_target": "{{text}}"}

FORMS: dict[str, dict[str, Any]] = {
    # Questions with choices.
    "form_letters": {
        **CHOICE,
        "doc_to_text": "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C"],
        "description": "The following are questions about {{animal}}s.\n\n",
        "num_fewshot": 2,
        "fewshot_config": {"sampler": "first_n"},
        "metric_list": metrics("acc", "mcc"),
    },
    "form_continuations": {**CHOICE, "metric_list": metrics("acc", "acc_norm", "acc_bytes", "brier_score")},
    "form_yes_or_no": {
        **CHOICE,
        **FEW,
        "doc_to_text": "{{text}}\nDid they play?",
        "doc_to_choice": {"wrong": "no", "right": "yes"},
        "doc_to_target": "played",  # as text
        "num_fewshot": 3,
        "metric_list": metrics("acc", "exact_match"),
    },
    "form_blank": {
        **CHOICE,
        "doc_to_text": "label",  # an index: there are as many contexts as choices
        "doc_to_choice": "{{[before + choices[0], before + choices[1], before + choices[2]]}}",
        "doc_to_target": "after",
        "num_fewshot": 2,
        "metric_list": metrics("acc"),
    },
    "form_several_right": {
        **CHOICE,
        **FEW,
        "doc_to_target": "{{[label, (label + 1) % 3]}}",
        "num_fewshot": 0,  # lm-eval writes no shots with several answers
        "metric_list": metrics("acc", "acc_norm", "exact_match"),
    },
    "form_mutual_information": {**CHOICE, "metric_list": metrics("acc", "acc_mutual_info"), "tag": "form_tag"},
    "form_delimiters": {
        **CHOICE,
        "target_delimiter": "\n- ",
        "fewshot_delimiter": "\n###\n",
        "num_fewshot": 2,
        "fewshot_split": None,
        "tag": ["form_tag"],
        "fewshot_config": {
            "doc_to_text": "{{question}} (solved)",
            "samples": [
                {"question": f"What is number {each}?", "choices": ["one", "two", "three"], "label": each}
                for each in range(3)
            ],
        },
    },
    "form_begun_choice": {**CHOICE, "gen_prefix": "They saw", "num_fewshot": 1},
    "form_scored_shots": {**CHOICE, "fewshot_split": "test", "num_fewshot": 2},
    "form_validation": {
        **CHOICE,
        "test_split": None,
        "validation_split": "few",
        "training_split": "train",
        "fewshot_split": None,
        "num_fewshot": 1,
        "doc_to_choice": "{{choices[:2]}}",
        "doc_to_target": "{{label % 2}}",
        "metric_list": metrics("acc", "f1"),
    },
    # Log-likelihoods of texts.
    "form_last_word": {
        **TEXT,
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.rsplit(' ', 1)[0]}}",
        "doc_to_target": "{{' ' + text.rsplit(' ', 1)[1]}}",
        "metric_list": metrics("perplexity", "acc"),
    },
    "form_last_word_shots": {
        **TEXT,
        "output_type": "loglikelihood",
        "description": "Complete the sentences.",
        "doc_to_text": "{{before}}{{choices[0]}}",
        "doc_to_target": "{{after}}",
        "target_delimiter": " ",
        "num_fewshot": 2,
    },
    "form_rolling": {
        **TEXT,
        "output_type": "loglikelihood_rolling",
        "metric_list": metrics("word_perplexity", "byte_perplexity", "bits_per_byte"),
    },
    "form_rolling_windows": {
        **TEXT,
        **FEW,
        "output_type": "loglikelihood_rolling",
        "doc_to_target": "{{(text + ' ') * 30}}",  # longer than the models' contexts
        "metric_list": metrics("word_perplexity", "bits_per_byte"),
    },
    # Answers that are written.
    "form_filters": {
        **ANSWER,
        "num_fewshot": 2,
        "filter_list": [
            steps("strict", {"function": "regex", "regex_pattern": "^ ?a (\\w+)$", "fallback": "none"}, "take_first"),
            steps("last", {"function": "regex", "regex_pattern": "(\\w+)", "group_select": -1}, "take_first"),
            steps("loose", "remove_whitespace", "lowercase", "take_first"),
        ],
        "metric_list": [
            {"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True, "regexes_to_ignore": ["^an? "]}
        ],
    },
    "form_majority": {
        **ANSWER,
        **FEW,
        "repeats": 3,
        "filter_list": [
            steps("first", "take_first"),
            steps("majority", "majority_vote", "take_first"),
            steps("of_two", {"function": "take_first_k", "k": 2}, "uppercase", "majority_vote", "take_first"),
        ],
    },
    "form_stops": {
        **ANSWER,
        "generation_kwargs": {"until": ["e", " the", ".\n"], "max_gen_toks": 16, "do_sample": False},
        "num_fewshot": 1,
    },
    "form_stop_by_default": {**ANSWER, **FEW, "generation_kwargs": {"max_gen_toks": 24}, "fewshot_delimiter": " a"},
    "form_written_choice": {
        **ANSWER,
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "num_fewshot": 1,
        "filter_list": [
            steps("groups", {"function": "regex", "regex_pattern": "(the \\w+)|(a \\w+)"}, "take_first"),
            steps("mapped", "remove_whitespace", {"function": "map", "mapping_dict": {"": "a cat"}}, "take_first"),
        ],
    },
    "form_many_references": {**ANSWER, "doc_to_target": "choices", "num_fewshot": 2},
    "form_begun_answer": {
        **ANSWER,
        **FEW,
        "description": "Answer in few words.\n",
        "gen_prefix": "They saw",
        "num_fewshot": 1,
        "metric_list": metrics("exact_match", "chrf", "bleu", "ter"),
    },
    # Code of one's own.
    "form_code": {
        **ANSWER,
        "process_docs": "tools.docs",
        "process_results": "tools.score",
        "metric_list": [{"metric": "letters", "aggregation": "mean", "higher_is_better": True}],
    },
}
GROUPS: dict[str, dict[str, Any]] = {
    "form_pairs": {
        "task": ["form_blank", "form_several_right"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    },
    "form_exams": {
        "task": ["form_letters", "form_yes_or_no", "form_pairs"],
        "aggregate_metric_list": [
            {"metric": "acc", "weight_by_size": False},
            {"metric": "exact_match", "weight_by_size": True},
        ],
    },
    "form_answers": {
        "task": ["form_filters", {"task": "form_majority", "num_fewshot": 1}],
        "aggregate_metric_list": [
            {"metric": "exact_match", "filter_list": ["strict", "majority"], "weight_by_size": True}
        ],
    },
}
ASKED = [
    *("form_exams", "form_answers", "form_tag"),
    *(
        name
        for name, config in FORMS.items()
        if "tag" not in config and not any(name in str(group["task"]) for group in GROUPS.values())
    ),
]
"""Every form once, by group, tag or name."""

CODE = """
def docs(rows):
    return rows.filter(lambda row: row["label"] != 1).map(lambda row: {"question": row["question"].upper()})


def score(doc, results):
    return {"letters": sum(letter in results[0] for letter in doc["choices"][doc["label"]])}
"""


def rows(split: str, n: int) -> list[dict[str, Any]]:
    """Documents with three choices, none of which is in two splits."""
    found = []
    for index in range(n):
        first, second, third = (WORDS[(step * index + step) % 8] for step in (1, 3, 5))
        place = PLACES[index % 4]
        found.append(
            {
                "question": f"What did child number {index} of the {split} group see {place} after lunch?",
                "choices": [f"a {first}", f"a very little {second}", f"the {third}, “old” and grey"],
                "label": (index * 5 + n) % 3,
                "animal": first,
                "played": ("yes", "no")[index % 2],
                "text": f"Once upon a time the {first} no. {index} met a {second} {place}.\n They  played – and ran.",
                "before": f"The {split} story {index} says that ",
                "after": f"was {place} all day long.",
            }
        )
    return found


def write_forms(folder: Path) -> Path:
    """Write the tasks and groups, and their documents as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, n in SIZES.items():
        file = folder / f"{split}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(split, n)), encoding="utf-8")
        files[split] = str(file)
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}}
    for name, config in FORMS.items():
        content = {key: value for key, value in {"task": name, **data, **config}.items() if value is not None}
        code = [
            f"{key}: !function {content.pop(key)}\n" for key in ("process_docs", "process_results") if key in content
        ]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content) + "".join(code), encoding="utf-8")
    for name, config in GROUPS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"group": name, **config}), encoding="utf-8")
    (folder / "tools.py").write_text(CODE, encoding="utf-8")
    return folder
