"""Several evaluations of one model: rows by what was set differently, the newest of the same settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smaug_eval.results.merging import merge_models, with_distinct_labels
from smaug_eval.results.sources import read_source, read_sources
from tests.results.others import accuracy, newest, write


def rows(path: Path) -> dict[str, float]:
    """Row to its first value."""
    return {
        model: next(iter(results.values())).metrics[0].value for model, results in read_source(path).results.items()
    }


def two(folder: Path, **differing: tuple[Any, Any]) -> Path:
    """One model twice, with these keys of the document set otherwise the second time."""
    for place in (0, 1):
        document = newest({"piqa": accuracy((1 + place) / 4)}, date=float(place))
        for key, values in differing.items():
            holder = document
            *parents, last = key.split("__")
            for parent in parents:
                holder = holder.setdefault(parent, {})
            holder[last] = values[place]
        write(folder / f"results_{place}.json", document)
    return folder


@pytest.mark.parametrize(
    ("differing", "labels"),
    [
        ({"config__limit": (100, None)}, ("limit 100", "no limit")),
        ({"n-shot__piqa": (0, 5)}, ("0 shots", "5 shots")),
        ({"chat_template": (None, "{{ messages }}")}, ("no chat template", "chat template 8c4d5b0b")),
        ({"system_instruction": ("Be brief.", None)}, ("system prompt 3", "no system prompt")),
        ({"config__model": ("hf", "vllm")}, ("hf", "vllm")),
        ({"config__model_args__max_gen_toks": (512, 4096)}, ("max_gen_toks 512", "max_gen_toks 4096")),
        ({"config__model_args__enable_thinking": (False, True)}, ("no enable_thinking", "enable_thinking True")),
        ({"config__gen_kwargs": ("temperature=0.6", {"temperature": 1.0})}, ("temperature 0.6", "temperature 1")),
        ({"config__model_args__dtype": ("float16", "float32")}, ("float16", "float32")),
        ({"lm_eval_version": ("0.4.9", "0.4.11")}, ("lm-eval 0.4.9", "lm-eval 0.4.11")),
        ({"config__fewshot_seed": (1, 2)}, ("fewshot_seed 1", "fewshot_seed 2")),
    ],
)
def test_what_was_set_differently_is_a_row_of_its_own(
    tmp_path: Path, differing: dict[str, tuple[Any, Any]], labels: tuple[str, str]
) -> None:
    found = rows(two(tmp_path, **differing))
    assert sorted(found.values()) == [0.25, 0.5]
    for label, value in zip(labels, (0.25, 0.5), strict=True):
        (name,) = [name for name, own in found.items() if own == value]
        assert name.startswith("org/model, ")
        if "template " not in label and "prompt 3" not in label:
            assert name == f"org/model, {label}"
    assert read_source(tmp_path).notes == []


def test_what_only_the_machine_needs_is_no_setting(tmp_path: Path) -> None:
    two(tmp_path, config__batch_size=("8", "auto"), config__device=("cuda:0", "cpu"))
    assert rows(tmp_path) == {"org/model": 0.5}


def test_the_same_settings_twice_are_the_newest_with_a_note(tmp_path: Path) -> None:
    two(tmp_path)
    assert rows(tmp_path) == {"org/model": 0.5}
    assert read_source(tmp_path).notes == [
        "org/model: piqa: evaluated 2 times with the same settings; the newest is shown "
        "(results_1.json: acc 0.5), not results_0.json: acc 0.25"
    ]


def test_a_sweep_of_fourteen_loses_none(tmp_path: Path) -> None:
    """Seven thinking budgets with and without a template."""
    for template in (None, "{{ messages }}"):
        for number in range(7):
            more = {"config": {"model_args": {"pretrained": "org/model", "max_gen_toks": 2**number}}}
            document = newest({"gsm8k": accuracy(number / 100 + (0.5 if template else 0))}, **more)
            write(tmp_path / f"results_{number}{bool(template)}.json", {**document, "chat_template": template})
    found = rows(tmp_path)
    assert len(found) == 14
    assert len(set(found.values())) == 14
    assert found["org/model, no chat template, max_gen_toks 4"] == 0.02


def test_tasks_of_a_suite_with_shots_of_their_own_are_one_row(tmp_path: Path) -> None:
    for task, shots in (("arc_challenge", 25), ("hellaswag", 10), ("gsm8k", 5)):
        write(tmp_path / f"{task}.json", newest({task: accuracy(0.5)}, shots=shots))
    assert {name: len(tasks) for name, tasks in read_source(tmp_path).results.items()} == {"org/model": 3}


def test_folders_part_what_their_files_cannot(tmp_path: Path) -> None:
    """A suite at its shots and at none: rows by folder, named by what was asked."""
    for folder, shots in (("openllm", (25, 10)), ("zero", (0, 0))):
        for task, number in zip(("arc_challenge", "hellaswag"), shots, strict=True):
            write(tmp_path / folder / f"{task}.json", newest({task: accuracy(0.5)}, shots=number))
    assert {name: sorted(tasks) for name, tasks in read_source(tmp_path).results.items()} == {
        "org/model, 10 to 25 shots": ["arc_challenge", "hellaswag"],
        "org/model, 0 shots": ["arc_challenge", "hellaswag"],
    }


def test_two_paths_part_a_model_as_one_folder_does(tmp_path: Path) -> None:
    for folder, shots in (("a", 0), ("b", 5)):
        write(tmp_path / folder / "results.json", newest({"piqa": accuracy(0.5)}, shots=shots))
    apart = merge_models(with_distinct_labels(read_sources([tmp_path / "a", tmp_path / "b"])))
    assert list(apart) == ["org/model, 0 shots", "org/model, 5 shots"] == list(read_source(tmp_path).results)


def test_revisions_of_one_model_are_rows(tmp_path: Path) -> None:
    for step in (1000, 3000):
        document = newest({"piqa": accuracy(step / 10_000)})
        document["config"]["model_args"] = {"pretrained": "org/model", "revision": f"step{step}"}
        document.pop("model_name")
        write(tmp_path / f"{step}.json", document)
    assert rows(tmp_path) == {"org/model, revision step1000": 0.1, "org/model, revision step3000": 0.3}
    (tmp_path / "3000.json").unlink()
    assert rows(tmp_path) == {"org/model": 0.1}
