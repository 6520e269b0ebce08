"""The verbs of ``smaug-eval mt-bench``, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError

Start = Callable[..., Any]
KEY = "sk-a-key-that-nobody-may-see"


def typed(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["mt-bench", *map(str, arguments)])
    if isinstance(result.exception, SmaugError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_answer_judge_and_score_one_after_the_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = ("answer", "embedded:demo-model", "--mt-bench-dir", "demo", "--chat-template", "plain", "--out", out)
    answer = (*answer, "--model-id", "tiny", "--set", "max_new_tokens=60")
    assert typed(*answer).output.endswith("answers: " + str(out / "model_answer" / "tiny.jsonl") + "\n")
    before = (out / "model_answer" / "tiny.jsonl").read_bytes()
    typed(*answer)
    assert (out / "model_answer" / "tiny.jsonl").read_bytes() == before

    judge = ("judge", out, "--mt-bench-dir", "demo")
    assert typed(*judge, "--dry-run").output.startswith("16 calls: about ")
    assert not (out / "model_judgment").exists()
    judged = typed(*judge).output
    file = out / "model_judgment" / "demo-rule-judge_single.jsonl"
    assert f"judgments: {file}" in judged
    assert typed(*judge, "--dry-run").output.startswith("0 calls: ")

    scores = json.loads(typed("score", file, "--json").output)
    values = [json.loads(line)["score"] for line in file.read_text().splitlines()]
    assert (
        scores["tiny"].items()
        >= {
            "turn1": sum(values[::2]) / 8,
            "turn2": sum(values[1::2]) / 8,
            "average": sum(values) / 16,
            "n": 16,
            "failed": 0,
            "beyond_scale": 0,
            "raw": None,
        }.items()
    )
    low, high = scores["tiny"]["intervals"]["average"]
    assert low < scores["tiny"]["average"] < high
    assert sum(each["n"] for each in scores["tiny"]["by_category"].values()) == 16
    assert scores["tiny"]["strict"]["average"] == scores["tiny"]["average"]
    assert scores["judgments"]["judges"] == ["demo-rule-judge"]
    table = typed("score", out).output
    assert "tiny" in table
    assert f"{scores['tiny']['average']:.2f}" in table


def test_all_of_it_in_a_run(tmp_path: Path) -> None:
    found = typed(
        *("all", "embedded:demo-model", "--mt-bench-dir", "demo", "--chat-template", "plain", "--engine", "torch"),
        *("--set", "max_new_tokens=60", "--runs-dir", tmp_path, "--name", "one"),
    ).output
    assert "demo dialogue, judged by a rule for the demo, no model" in found
    assert (tmp_path / "one" / "report.html").is_file()
    (file,) = (tmp_path / "one").glob("mt-bench/*/model_judgment/base/*.jsonl")
    assert len(file.read_text().splitlines()) == 16


def test_every_option_of_the_judge_arrives(
    tmp_path: Path,
    faulty_judge: Start,
    question_folder: Path,
    answer_files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTHER_KEY", KEY)
    judge = faulty_judge()
    judge.slowness = 0.01
    command = ("judge", *answer_files, "--mt-bench-dir", question_folder, "--out", tmp_path / "out")
    command = (*command, "--judge-base-url", judge.base_url, "--judge-model", "org/judge-1")
    command = (*command, "--judge-key-env", "OTHER_KEY")
    pairs = (*command, "--mode", "pairwise-baseline", "--baseline", "two", "--set-judge", "concurrency=5")
    result = typed(*pairs, "--set-judge", "max_tokens=99")
    file = tmp_path / "out" / "model_judgment" / "org-judge-1_pair.jsonl"
    assert len(file.read_text().splitlines()) == 160
    assert judge.keys == {f"Bearer {KEY}"}
    assert 2 < judge.most_under_way <= 5  # on a busy machine some may just be done; the default is 8
    assert {request["max_tokens"] for request in judge.requests} == {99}
    assert {request["model"] for request in judge.requests} == {"org/judge-1"}
    assert KEY not in result.output
    found = json.loads(typed("score", file, "--json").output)
    of_all = found.pop("judgments")
    assert {tuple(values)[:5] for values in found.values()} == {("win", "loss", "tie", "win_rate_adjusted", "failed")}
    assert of_all["position_bias"]["org/judge-1"]["pairs"] + found["one"]["failed"] == 160
    assert found["one"]["win"] == found["two"]["loss"]

    with pytest.raises(SmaugError, match="the budget is spent: 10 of 10 calls"):
        typed(*command, "--set-judge", "max_calls=10")
    assert len(judge.requests) == 330
    prices = [part for key in ("max_cost=1", "price_in=10", "price_out=30") for part in ("--set-judge", key)]
    priced = typed(*command, *prices, "--dry-run").output
    # 310 calls of two models' two turns are left, of at most 2,048 tokens each.
    assert "310 calls" in priced
    assert f"at most {310 * 2048:,} to write, at most 19." in priced


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("judge", "nowhere"), "no answers there|name the judge's model"),
        (("judge", "nowhere", "--mt-bench-dir", "demo"), "nowhere: no answers there"),
        (("judge", "--mt-bench-dir", "demo", "--judge-model", "x", "--mode", "al"), "mode"),
        (("judge", "--judge-model", "x", "--set-judge", "max_cost=3"), "prices"),
        (("judge", "--judge-model", "x", "--set-judge", "timout=3"), "did you mean 'timeout'"),
        (("judge", "--judge-model", "x", "--set-judge", "mode=single"), "the command has an argument for it"),
        (("score", "nowhere"), "no judgments there"),
        (("answer", "embedded:demo-model", "--mt-bench-dir", "demo"), "no chat template"),
        (("answer", "embedded:demo-model", "--mt-bench-dir", "demo", "--model-id", "a/b"), "is to be a file's"),
        (("answer", "embedded:demo-model", "--mt-bench-dir", "demo", "--set", "batchsize=3"), "'batch_size'"),
    ],
)
def test_mistakes_are_named(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SmaugError, match=words):
        typed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "spelling"),
    [
        (("judge", "--max-calls", "5"), "--set-judge max_calls=VALUE"),
        (("judge", "--judge-concurrency", "5"), "--set-judge concurrency=VALUE"),
        (("answer", "embedded:demo-model", "--max-new-tokens", "5"), "--set max_new_tokens=VALUE"),
        (("all", "embedded:demo-model", "--price-in", "5"), "--set-judge price_in=VALUE"),
    ],
)
def test_an_option_that_is_a_recipe_key_is_answered_with_its_spelling(
    arguments: tuple[str, ...], spelling: str
) -> None:
    result = CliRunner().invoke(app, ["mt-bench", *arguments])
    assert result.exit_code == 2
    assert spelling in result.output


def test_real_judgments_are_scored_as_show_result_scores_them(shared: Path) -> None:
    file = shared / "mt_bench" / "model_judgment" / "medusa_gpt-4_single.jsonl"
    score = json.loads(typed("score", file, "--json").output)["vicuna-7b-v1.3"]
    assert [round(score[key], 4) for key in ("turn1", "turn2", "average")] == [6.7313, 5.4750, 6.1031]
    assert (score["n"], score["failed"]) == (160, 0)
