"""Reasoning is taken away before scoring, and several sampled answers to each document are put together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.common.settings import added_settings
from smaug_eval.common.thinking import Reasoned, without_reasoning
from smaug_eval.engines.decoding_rules import SamplingRule
from smaug_eval.engines.sampled import document_seed
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.rescore import document_metrics
from smaug_eval.runs.recipe_entries import EvaluationConfig
from tests.engines.served.server import serving

DEMO = "embedded:demo-model"


def recipe(name: str, model: str = DEMO, **more: Any) -> dict[str, Any]:
    evaluation = {"suite": "demo", "tasks": ["arithmetic"], "limit": 6, "engine": "torch", "device": "cpu"} | more
    return {"name": name, "model": {"path": model, "dtype": "float32"}, "evaluations": {"demo": evaluation}}


def results(path: Path, task: str = "arithmetic") -> tuple[dict[str, Any], list[dict[str, Any]], Mapping[str, Any]]:
    """The results file, the samples and the stage's summary."""
    folder = path / "eval" / "base" / "demo" / task
    (found,) = folder.glob("results_*.json")
    (samples,) = folder.glob("samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    return read_json(found), rows, read_json(folder / "stage.json")["summary"]


@pytest.mark.parametrize(
    ("text", "prompt", "expected"),
    [
        ("<think>a</think>\n\nb", "", Reasoned("b", True, True)),
        ("a</think>b", "...<think>\n", Reasoned("b", True, True)),
        ("<think>a</think>b<think>c</think> d", "", Reasoned("d", True, True)),
        ("<think>a", "", Reasoned("", True, False)),
        ("a", "...<think>\n", Reasoned("", True, False)),
        ("a", "", Reasoned("a", False, True)),
    ],
)
def test_reasoning_is_stripped(text: str, prompt: str, expected: Reasoned) -> None:
    assert without_reasoning(text, end="</think>", prompt=prompt) == expected


def test_other_markers() -> None:
    assert without_reasoning("[THINK]a[/THINK]b", end="[/THINK]") == Reasoned("b", True, True)
    assert without_reasoning("[THINK]a", end="[/THINK]") == Reasoned("", True, False)
    assert without_reasoning("plan: a", end="answer:", start="plan:") == Reasoned("", True, False)
    assert without_reasoning("a", end="answer:") == Reasoned("a", False, True)  # nothing says how it begins


def test_stage_keys_of_recipes_without_these_keys_are_as_before(tmp_path: Path) -> None:
    assert added_settings(EvaluationConfig()) == {}
    told = {"thinking": {"end": "</think>", "start": None, "max_tokens": 4096}}
    assert added_settings(EvaluationConfig(thinking={})) == told
    keys = [smaug_eval.prepare(recipe("k", **more), runs=tmp_path).stages[0].key for more in ({}, {"thinking": {}})]
    assert keys[0] != keys[1]
    with pytest.raises(SmaugError, match="2 answers without sampling are all the same; set sampling"):
        smaug_eval.prepare(recipe("k", repeats=2), runs=tmp_path)


def test_seeds() -> None:
    rule = SamplingRule(1.0)
    seeds = {document_seed(rule, repeat, text) for repeat in range(3) for text in "abc"}
    assert len(seeds) == 9
    assert (
        document_seed(rule, 1, "a") == document_seed(rule, 1, "a") != document_seed(SamplingRule(1.0, 1.0, 1), 1, "a")
    )


@pytest.mark.slow
def test_repeats(tmp_path: Path) -> None:
    more = {"sampling": {"temperature": 1.5, "top_p": 0.99}, "repeats": 4}
    done = smaug_eval.run(recipe("r", **more), runs=tmp_path)
    found, rows, summary = results(done.path)
    (task,) = found["results"]
    for name, told in found["repeats"][task].items():
        metric, chosen = name.split(",")
        values = [row["repeats"]["values"][metric] for row in rows if row["filter"] == chosen]
        assert {len(each) for each in values} == {4}
        means = [fmean(each) for each in values]
        assert found["results"][task][name] == pytest.approx(fmean(means)) == pytest.approx(told["mean"])
        assert found["results"][task][f"{metric}_stderr,{chosen}"] == pytest.approx(stdev(means) / 6**0.5)
        assert told["per_repeat"] == pytest.approx([fmean(each) for each in zip(*values, strict=True)])
        assert told["pass@k"]["1"] == pytest.approx(told["mean"])
        assert told["pass@k"]["4"] == pytest.approx(fmean(float(any(each)) for each in values))
        assert told["maj@k"]["1"] == pytest.approx(told["mean"])
        assert [row[metric] for row in rows if row["filter"] == chosen] == pytest.approx(means)
    accuracy = found["results"][task]["acc,none"]
    assert 0 < accuracy < 1
    (column,) = demo_suite().select(["arithmetic"])
    values = document_metrics(column.leaves[0], rows)["acc"]  # as scores and reports read the samples
    assert values.mean() == pytest.approx(accuracy)
    assert any(0 < value < 1 for value in values)
    texts = [row["resps"][0] for row in rows]
    assert {len(each) for each in texts} == {4}
    assert any(len(set(each)) > 1 for each in texts)
    assert any("mean of 4 sampled answers" in note for note in summary["notes"])
    again = smaug_eval.run(recipe("again", **more), runs=tmp_path)
    assert [row["resps"] for row in results(again.path)[1]] == [row["resps"] for row in rows]
    assert "mean of 4 sampled answers" in done.report.read_text()
    hf = smaug_eval.run(recipe("hf", **more, engine="hf"), runs=tmp_path)
    assert any(len(set(row["resps"][0])) > 1 for row in results(hf.path)[1])


@pytest.mark.slow
def test_answers_that_are_not_generated_are_asked_once(tmp_path: Path) -> None:
    more = {"tasks": ["facts"], "sampling": {}, "repeats": 3, "thinking": {}}
    found, rows, summary = results(smaug_eval.run(recipe("f", **more), runs=tmp_path).path, "facts")
    plain, others, _ = results(smaug_eval.run(recipe("p", tasks=["facts"]), runs=tmp_path).path, "facts")
    assert found["results"] == plain["results"]
    assert [row["resps"] for row in rows] == [row["resps"] for row in others]
    assert "repeats" not in summary


@pytest.mark.slow
def test_thinking(tmp_path: Path) -> None:
    """The demo's model behind a server that lets it reason first; what is scored is what it writes without."""
    with serving() as server:
        told = {"base_url": server.base_url, "tokenizer": str(embedded_path("demo-model")), "max_length": 2048}
        more = {"engine": "api", "engine_args": told}
        plain = results(smaug_eval.run(recipe("plain", "api:demo", **more), runs=tmp_path).path)
        server.form = "thinking"
        server.requests.clear()
        done = smaug_eval.run(recipe("t", "api:demo", thinking={"max_tokens": 50}, **more), runs=tmp_path)
        asked = {len(request["prompt"]) % 3: request for request in server.requests}
    found, rows, summary = results(done.path)
    assert all(request["max_tokens"] == 96 + 50 and "stop" not in request for request in asked.values())
    ended = [len(request["prompt"]) % 3 != 0 for request in server.requests]
    assert summary["thinking"] == {"answers": 6, "thought": 6, "never_ended": ended.count(False)}
    expected = {row["doc_id"]: row["resps"][0][0] for row in plain[1]}
    for row in rows:
        assert row["resps"][0][0] in ("", expected[row["doc_id"]].lstrip())
    assert sum(bool(row["resps"][0][0]) for row in rows) >= ended.count(True)
    assert found["decoding"]["thinking"]["max_tokens"] == 50
    if not all(ended):
        assert any(f"{ended.count(False)} of 6 answers never ended" in note for note in summary["notes"])
