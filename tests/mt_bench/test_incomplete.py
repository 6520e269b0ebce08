"""A run whose judge fails: its stage stays open, all else is done, and a judge that works is asked for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.errors import Incomplete
from smaug_eval.mt_bench.files.layout import read_settings
from smaug_eval.runs.directory import RunDirectory
from smaug_eval.runs.pipeline import RunResult
from tests.mt_bench import behaviours as b

ANSWERS = "mt-bench/dialogues/model_answer/base"
JUDGED = "mt-bench/dialogues/model_judgment/base"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-that-nobody-may-see")
    started = b.Server(b.always(b.completion()))
    yield started
    started.close()


def run_all(runs: Path, base_url: str, *more: str) -> Result:
    command = ["mt-bench", "all", "embedded:demo-model", "--mt-bench-dir", "demo", "--chat-template", "plain"]
    command += ["--judge-model", "judge-1", "--judge-base-url", base_url, "--set", "max_new_tokens=8", "--limit", "3"]
    for key in ("backoff=0.001", "attempts=2"):
        command += ["--set-judge", key]
    return CliRunner().invoke(app, [*command, "--name", "one", "--runs-dir", str(runs), *more])


def statuses(runs: Path) -> dict[str, Any]:
    directory = RunDirectory(runs / "one")
    return {stage: directory.record(stage).get("status") for stage in (ANSWERS, JUDGED, "report")}


@pytest.mark.slow
def test_a_failing_judge_then_one_that_works(tmp_path: Path, server: b.Server) -> None:
    server.behave = b.always(b.refusal(400, "System role not supported, nor anything else"))
    failed = run_all(tmp_path, server.base_url)
    assert isinstance(failed.exception, Incomplete)
    assert failed.exception.exit_code == 5
    assert "6 of 6 judgments are missing" in str(failed.exception)
    assert isinstance(failed.exception.result, RunResult)
    assert failed.exception.result.incomplete == (JUDGED,)
    assert statuses(tmp_path) == {ANSWERS: "done", JUDGED: "started", "report": "started"}
    page = (tmp_path / "one" / "report.html").read_text()
    assert "This run is not complete: stage mt-bench/dialogues/model_judgment/base is not done" in page
    assert "Judgments are missing: 6." in page
    assert "System role not supported" in page

    before = len(server.requests)
    server.behave = b.always(b.completion())
    done = run_all(tmp_path, server.base_url)
    assert done.exception is None, done.exception
    assert len(server.requests) - before == 6
    assert statuses(tmp_path) == {ANSWERS: "done", JUDGED: "done", "report": "done"}
    page = (tmp_path / "one" / "report.html").read_text()
    assert "not complete" not in page
    assert "are missing" not in page
    assert "demo dialogue, first 3 questions" in page
    assert run_all(tmp_path, server.base_url).exception is None
    assert len(server.requests) - before == 6


@pytest.mark.slow
def test_some_missing_judgments_are_marked_on_every_figure(tmp_path: Path, server: b.Server) -> None:
    def behave(number: int, body: dict[str, Any]) -> b.Answer:
        return b.refusal(400, "no", code="content_filter") if number == 2 else b.completion()

    server.behave = behave
    failed = run_all(tmp_path, server.base_url)
    assert isinstance(failed.exception, Incomplete)
    assert "1 of 6 judgments are missing: 1 x status 400: no" in str(failed.exception)
    assert "missing" in failed.output
    page = (tmp_path / "one" / "report.html").read_text()
    assert page.count("1 missing</small>") == 3  # turn 1, turn 2 and the average
    text = smaug_eval.report(tmp_path / "one", tmp_path / "x.md", format_="md").read_text()
    assert "(1 missing)" in text
    found = json.loads(smaug_eval.report(tmp_path / "one", tmp_path / "x.json", format_="json").read_text())
    (judged,) = found["judged"]
    assert judged["missing"]["by_model"] == {"base": 1}

    # Accepting a share is another setting, recorded; only what is missing is asked for, and the stage is done.
    server.behave = b.always(b.refusal(400, "no", code="content_filter"))
    before = len(server.requests)
    accepted = run_all(tmp_path, server.base_url, "--allow-missing", "0.2")
    assert accepted.exception is None, accepted.exception
    assert len(server.requests) - before == 1
    record = RunDirectory(tmp_path / "one").record(JUDGED)
    assert (record["status"], record["summary"]["missing"], record["summary"]["allow_missing"]) == ("done", 1, 0.2)
    (file,) = (tmp_path / "one" / JUDGED).glob("*_single.jsonl")
    assert read_settings(file)["allow_missing"] == 0.2
    assert run_all(tmp_path, server.base_url, "--allow-missing", "0.2").exception is None
    assert len(server.requests) - before == 1


@pytest.mark.slow
def test_a_stage_that_was_done_with_missing_judgments_is_asked_again(tmp_path: Path, server: b.Server) -> None:
    """As runs of before have them: recorded as done, with a number of missing judgments."""
    assert run_all(tmp_path, server.base_url).exception is None
    directory = RunDirectory(tmp_path / "one")
    (file,) = (tmp_path / "one" / JUDGED).glob("*_single.jsonl")
    whole = file.read_text().splitlines(keepends=True)
    file.write_text("".join(whole[:4]))
    summary = directory.record(JUDGED)["summary"] | {"judgments": 4, "missing": 2}
    directory.finish(JUDGED, seconds=1, summary=summary, needs=(ANSWERS,))
    before = len(server.requests)
    assert run_all(tmp_path, server.base_url).exception is None
    assert len(server.requests) - before == 2


@pytest.mark.slow
def test_one_judge_that_fails_does_not_keep_the_others(tmp_path: Path, server: b.Server) -> None:
    good = b.Server(b.always(b.completion()))
    server.behave = b.always(b.refusal(402, "Insufficient credits"))
    judge = {"model": "judge-1", "backoff": 0.001, "attempts": 2}
    talk = {"questions": "demo", "chat_template": "plain", "max_new_tokens": 8, "limit": 2, "engine": "torch"}
    entries = {
        "first": talk | {"judge": judge | {"base_url": server.base_url}},
        "second": talk | {"judge": judge | {"base_url": good.base_url}},
        "third": talk | {"judge": judge | {"base_url": server.base_url}},
    }
    recipe: dict[str, Any] = {"name": "two", "model": "embedded:demo-model", "mt_bench": entries}
    try:
        with pytest.raises(Incomplete, match="2 of 7 stages are incomplete") as caught:
            smaug_eval.run(recipe, runs=tmp_path)
    finally:
        good.close()
    assert isinstance(caught.value.result, RunResult)
    assert len(caught.value.result.incomplete) == 2
    assert "mt-bench/second/model_judgment/base" in caught.value.result.did
    assert len(server.requests) == 2


@pytest.mark.parametrize("key", ["allow_missing", "verdict", "thinking"])
def test_keys_that_came_later_do_not_change_what_is_done(key: str) -> None:
    def keys(judge: Callable[[], dict[str, Any]], **more: Any) -> list[str]:
        talk = {"questions": "demo", "chat_template": "plain", "judge": {"model": "x", **judge()}, **more}
        recipe = {"name": "small", "model": "embedded:demo-model", "mt_bench": {"talk": talk}}
        return [stage.key for stage in smaug_eval.prepare(recipe, runs="/nowhere").stages[:2]]

    default = {"allow_missing": 0.0, "verdict": None}.get(key)
    before = keys(dict)
    if key == "thinking":
        assert keys(dict, thinking="strip") == before
        assert keys(dict, thinking="keep")[0] != before[0]
        return
    assert keys(lambda: {key: default}) == before
    other = {"allow_missing": 0.1, "verdict": "json"}[key]
    assert keys(lambda: {key: other})[1] != before[1]


def test_stages_have_the_keys_that_runs_of_before_recorded() -> None:
    """Keys of a release before allow_missing, verdict, thinking and the other keys that came later, of this base."""
    recipe = {
        "name": "small",
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "pairs": {"made": {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 8, "holdout": 0}},
        "trainings": {"dpop": {"loss": "dpop", "steps": 1, "learning_rate": 5e-5}},  # its default then
        "mt_bench": {
            "talk": {
                "questions": "demo",
                "chat_template": "plain",
                "engine": "torch",
                "max_new_tokens": 60,
                "judge": {"model": "judge-1", "base_url": "http://127.0.0.1:1/v1"},
            }
        },
    }
    keys = {stage.name: stage.key for stage in smaug_eval.prepare(recipe, runs="/nowhere").stages}
    assert keys["train/dpop"] == "4fab51bfec85ddf80b87ddd5d627e65954678d8aade10cf7369baa9f77f160aa"
    talk = "mt-bench/talk"
    answers = "a26a4d77f0f10725e99765bc63157ef9753e49f2b1bf6823a0e4f7d582edae92"
    judged = "8c164298d23746c0d3b3222da92dff09a5d02d0ffd189569c9cfae01ab05aade"
    assert (keys[f"{talk}/model_answer/base"], keys[f"{talk}/model_judgment/base"]) == (answers, judged)
