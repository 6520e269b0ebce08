"""MT-Bench as a part of recipes: keys, stages, what is redone when, and what stays when a judge is not there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.embedded import find_recipe
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.mt_bench.files.layout import find_benches, read_settings
from smaug_eval.mt_bench.judge.client import JudgeUnreachable
from smaug_eval.runs.directory import RunDirectory
from smaug_eval.runs.pipeline import Pipeline
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe

Start = Callable[..., Any]
ANSWERS = "mt-bench/talk/model_answer/base"
JUDGED = "mt-bench/talk/model_judgment/base"
KEY = "sk-a-key-that-nobody-may-see"


def recipe(judge: Any = "demo", **dialogues: Any) -> dict[str, Any]:
    talk = {"questions": "demo", "chat_template": "plain", "max_new_tokens": 60, "engine": "torch", "judge": judge}
    return {
        "name": "small",
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "mt_bench": {"talk": {**talk, **dialogues}},
    }


def http_judge(base_url: str, **settings: Any) -> dict[str, Any]:
    return {"model": "judge-1", "base_url": base_url, "backoff": 0.001, "attempts": 2, "concurrency": 2, **settings}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_demo_end_to_end(tmp_path: Path) -> None:
    result = smaug_eval.run(recipe(), runs=tmp_path)
    assert result.did == (ANSWERS, JUDGED, "report")
    (bench,) = find_benches(result.path)
    assert bench.name == "talk"
    assert bench.answers == {"base": result.path / ANSWERS / "base.jsonl"}
    assert bench.judgments == (result.path / JUDGED / "demo-rule-judge_single.jsonl",)
    settings = read_settings(bench.judgments[0])
    assert (settings["demo"], settings["official"], settings["question_set"]) == (True, False, "demo dialogue")
    assert read_settings(bench.answers["base"])["template"] == "plain"
    scores = smaug_eval.score_mt_bench([result.path])["base"]
    judged = lines(bench.judgments[0])
    assert len(judged) == scores["n"] == 16
    assert scores["average"] == pytest.approx(sum(line["score"] for line in judged) / 16)
    # The model knows its world, and has read careless text on large products, with which the first two begin.
    assert [line["score"] for line in judged if line["question_id"] <= 3] == [3, 10, 3, 10, 10, 10]
    page = result.report.read_text()
    assert "demo dialogue" in page
    record = RunDirectory(result.path).record(JUDGED)
    assert record["summary"].items() >= {"judgments": 16, "missing": 0, "warnings": []}.items()
    assert record["made_from"] == {ANSWERS: RunDirectory(result.path).record(ANSWERS)["summary"]["result"]}
    again = smaug_eval.run(recipe(), runs=tmp_path)
    assert again.did == ()


def test_a_judge_that_is_not_there_leaves_the_answers(
    tmp_path: Path, faulty_judge: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge = faulty_judge(lambda number, body: "503" if number >= 5 else None)
    with pytest.raises(JudgeUnreachable) as caught:
        smaug_eval.run(recipe(http_judge(judge.base_url)), runs=tmp_path)
    run = tmp_path / "small"
    assert len(lines(run / ANSWERS / "base.jsonl")) == 8
    assert len(lines(run / JUDGED / "judge-1_single.jsonl")) == 5
    judge.behave = lambda number, body: None
    result = smaug_eval.run(recipe(http_judge(judge.base_url)), runs=tmp_path)
    assert result.skipped == (ANSWERS,)
    assert len(lines(run / JUDGED / "judge-1_single.jsonl")) == 16
    said = str(caught.value) + "".join(file.read_text(errors="replace") for file in run.rglob("*") if file.is_file())
    assert KEY not in said
    asked = len(judge.requests)

    # More repeats, and another limit to the requests: what was said is not asked again.
    more = http_judge(judge.base_url, repeats=2, max_calls=16)
    assert smaug_eval.run(recipe(more), runs=tmp_path).did == (JUDGED, "report")
    assert len(judge.requests) == asked + 16
    assert len(lines(run / JUDGED / "judge-1_single.jsonl")) == 32
    # Another address is another judge.
    other = faulty_judge()
    smaug_eval.run(recipe(http_judge(other.base_url)), runs=tmp_path)
    assert len(other.requests) == 16


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_judging_keeps_what_is_done(tmp_path: Path, faulty_judge: Start, number: int) -> None:
    def stop_at_the_sixth(request: int, body: dict[str, Any]) -> None:
        if request == 5:
            os.kill(os.getpid(), number)

    judge = faulty_judge(stop_at_the_sixth)
    judge.slowness = 0.05
    entry = recipe(http_judge(judge.base_url))
    with pytest.raises(Interrupted, match="stopped during judge-1 judges base on demo dialogue"):
        smaug_eval.run(entry, runs=tmp_path)
    file = tmp_path / "small" / JUDGED / "judge-1_single.jsonl"
    assert 2 <= len(lines(file)) <= 6
    assert smaug_eval.run(entry, runs=tmp_path).skipped == (ANSWERS,)
    assert len({(line["question_id"], line["turn"]) for line in lines(file)}) == len(lines(file)) == 16
    assert len(judge.requests) <= 16 + 2


def test_other_answers_are_judged_again(tmp_path: Path) -> None:
    smaug_eval.run(recipe(), runs=tmp_path)
    result = smaug_eval.run(recipe(seed=7), runs=tmp_path)
    assert result.did == (ANSWERS, JUDGED, "report")
    judged = lines(result.path / JUDGED / "demo-rule-judge_single.jsonl")
    answers = {line["question_id"]: line["choices"][0]["turns"] for line in lines(result.path / ANSWERS / "base.jsonl")}
    assert len(judged) == 16
    assert all(line["user_prompt"].endswith(answers[line["question_id"]][line["turn"] - 1]) for line in judged)


def stages(**extra: Any) -> list[str]:
    raw = {
        "name": "many",
        "model": "embedded:demo-model",
        "pairs": {"made": {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 8, "holdout": 0}},
        "trainings": {name: {"loss": name, "steps": 1} for name in ("dpo", "dpop")},
        "evaluations": {"demo": {"suite": "demo", "tasks": ["facts"], "limit": 1}},
        **extra,
    }
    return [stage.name for stage in smaug_eval.prepare(raw, runs="/nowhere").stages]


@pytest.mark.slow
def test_damaged_judgments_of_a_finished_run_are_judged_again(tmp_path: Path) -> None:
    run = smaug_eval.run(recipe(), runs=tmp_path).path
    file = run / JUDGED / "demo-rule-judge_single.jsonl"
    before = file.read_text().splitlines()

    def spoilt(first: str) -> list[dict[str, Any]]:
        file.write_text("\n".join([first, *before[1:]]) + "\n")
        assert smaug_eval.run(recipe(), runs=tmp_path).did == (JUDGED,)
        assert smaug_eval.run(recipe(), runs=tmp_path).did == ()
        return [line | {"tstamp": 0} for line in lines(file)]

    whole = [json.loads(line) | {"tstamp": 0} for line in before]
    assert spoilt(before[0].replace('"model"', '"modem"')) == whole
    assert spoilt(before[0][:50]) == whole
    assert spoilt(before[0].replace('"score": 10', '"score": 1')) == whole
    file.with_suffix(".settings.json").write_text("half of th")
    assert spoilt(before[0]) == whole


def test_stages_of_each_model_are_together_and_judges_come_last() -> None:
    talk = recipe()["mt_bench"]
    assert stages(mt_bench=talk)[2:] == [
        "train/dpo",
        "train/dpop",
        "eval/base/demo/facts",
        "mt-bench/talk/model_answer/base",
        "eval/dpo/demo/facts",
        "mt-bench/talk/model_answer/dpo",
        "eval/dpop/demo/facts",
        "mt-bench/talk/model_answer/dpop",
        "mt-bench/talk/model_judgment/base",
        "mt-bench/talk/model_judgment/dpo",
        "mt-bench/talk/model_judgment/dpop",
        "report",
    ]


@pytest.mark.parametrize(
    ("mode", "pairs"),
    [
        ({"mode": "pairwise-all"}, ["base-vs-dpo", "base-vs-dpop", "dpo-vs-dpop"]),
        ({"mode": "pairwise-baseline", "baseline": "base"}, ["dpo-vs-base", "dpop-vs-base"]),
    ],
)
def test_each_pair_is_judged_in_a_stage_of_its_own(mode: dict[str, str], pairs: list[str]) -> None:
    found = stages(mt_bench=recipe({"demo": True, **mode})["mt_bench"])
    assert [name for name in found if "model_judgment" in name] == [
        f"mt-bench/talk/model_judgment/{pair}" for pair in pairs
    ]


def test_without_a_judge_there_are_answers_only() -> None:
    found = stages(mt_bench=recipe(None, models=["dpo"])["mt_bench"])
    assert [name for name in found if name.startswith("mt-bench")] == ["mt-bench/talk/model_answer/dpo"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (recipe(chat_templat="plain"), "did you mean 'chat_template'"),
        (recipe({"model": "x", "moed": "single"}), "did you mean 'mode'"),
        (recipe({"model": "x", "mode": "pairwise"}), "pairwise"),
        (recipe({}), "name the judge's model"),
        (recipe({"model": "x", "demo": True}), "one of both"),
        (recipe({"model": "x", "max_cost": 1.0}), "max_cost needs the judge's prices"),
        (recipe({"model": "x", "price_in": 1.0}), "belong together"),
        (recipe({"model": "x", "mode": "pairwise-baseline"}), "baseline belong together"),
        (recipe({"model": "x", "repeats": 0}), "greater than"),
        (recipe("demo", questions="mt_bench"), "only the demo's questions"),
        (recipe(models=["dpop"]), "no model 'dpop'"),
        (recipe(engine="hf"), "engine"),
    ],
)
def test_misfits_are_named(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(SmaugError, match=words):
        parse_recipe(entry)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (recipe(chat_template="tokenizer"), r"mt_bench\.talk: chat_template tokenizer: this model's tokenizer has no"),
        (recipe({"demo": True, "mode": "pairwise-all"}), r"mt_bench\.talk\.judge: .* there is one"),
        (recipe({"demo": True, "mode": "pairwise-baseline", "baseline": "base"}), "there is one"),
        (recipe(chat_template="vicuna_v1.2"), "neither FastChat nor we"),
        (recipe(None, questions="no-such-folder"), r"question\.jsonl"),
    ],
)
def test_what_is_not_there_is_named_before_anything_runs(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=words):
        smaug_eval.prepare(entry, runs=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_key_that_is_not_set_is_missed_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    pipeline = smaug_eval.prepare(recipe({"model": "gpt-4-0613"}), runs=tmp_path)
    assert isinstance(pipeline, Pipeline)
    with pytest.raises(SmaugError, match="OPENAI_API_KEY"):
        pipeline.run()
    assert not (tmp_path / "small" / "mt-bench").exists()


def test_folders_of_questions_are_relative_to_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("model: embedded:demo-model\nmt_bench:\n  a: {questions: asked}\n  b: {questions: demo}\n  c: {}\n")
    (tmp_path / "demo").mkdir()
    found = load_recipe(file).mt_bench
    assert found["a"].questions == str(tmp_path / "asked")
    assert found["b"].questions == "demo"
    assert found["c"].questions == "mt_bench"


def test_the_committed_recipe_is_the_setting_of_the_published_score() -> None:
    entry = load_recipe(find_recipe("smaug-72b-mt-bench")).mt_bench["mt-bench"]
    assert (entry.questions, entry.references) == ("mt_bench", "original")
    assert (entry.chat_template, entry.system_prompt) == ("llama-2", "You are a helpful assistant.")
    assert entry.max_new_tokens == 1024
    assert entry.judge is not None
    assert (entry.judge.mode, entry.judge.repeats, entry.judge.max_tokens) == ("single", 1, 2048)


def test_the_demo_recipe_has_its_dialogues() -> None:
    entry = load_recipe(find_recipe("demo")).mt_bench["dialogues"]
    assert entry.questions == "demo"
    assert entry.judge is not None
    assert entry.judge.demo
