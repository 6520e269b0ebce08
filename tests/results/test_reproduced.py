"""Results that are already there against published rows; gpt2's is one that is kept here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.published import TITLES
from smaug_eval.results.standings import rank
from tests.results.others import accuracy, generated, lines, newest, write

GPT2 = "openai-community/gpt2"
PUBLISHED = {
    "arc:challenge|25": ("acc_norm", 22.01),
    "hellaswag|10": ("acc_norm", 31.53),
    "truthfulqa:mc|0": ("mc2", 40.69),
    "winogrande|5": ("acc", 50.43),
    "gsm8k|5": ("acc", 0.68),
}
COMMIT = "11c5a3d5811f50298f278a704980280950aedb10"


def archived(**general: Any) -> dict[str, Any]:
    """A results file as the leaderboard kept it, with five of gpt2's published scores."""
    results = {
        f"harness|{name}": {metric: value / 100, f"{metric}_stderr": 0.01}
        for name, (metric, value) in PUBLISHED.items()
    }
    about = {"model_name": GPT2, "model_sha": COMMIT, "model_dtype": "torch.float16", "max_samples": "null", **general}
    return {"config_general": about, "results": {**results, "all": {"acc": 0.3}}, "versions": dict.fromkeys(results, 0)}


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {each["column"]: each["words"] for each in found["verdicts"]}


def test_the_leaderboard_s_own_file_reproduces_itself(tmp_path: Path) -> None:
    write(tmp_path / "results.json", archived())
    (found,) = smaug_eval.judge_results([tmp_path])["reproductions"]
    assert verdicts(found) == {
        **dict.fromkeys(("ARC", "HellaSwag", "TruthfulQA", "Winogrande", "GSM8K"), "reproduced"),
        "MMLU": "not comparable, because not measured",
        "Average": "not comparable, because MMLU not measured",
    }
    assert [round(each["gap"], 6) for each in found["verdicts"] if each["gap"] is not None] == [0.0] * 5
    assert (found["dtype"], found["limit"], found["origin"]) == ("float16", None, "the leaderboard's own results")
    assert found["remarks"] == [found["remarks"][0]]  # nothing differs from what was published


def test_scores_that_stopped_early_reproduce_nothing_and_have_no_rank(tmp_path: Path) -> None:
    stopped = {"n": 50, "of": 1172, "against": "base", "score_interval": [0.0, 100.0]}
    write(tmp_path / "results.json", {**archived(), "stopped": stopped})
    (found,) = smaug_eval.judge_results([tmp_path])["reproductions"]
    words = "not comparable, because stopped after 50 of 1,172 documents, anytime-valid"
    assert {
        column: each for column, each in verdicts(found).items() if column not in ("MMLU", "Average")
    } == dict.fromkeys(("ARC", "HellaSwag", "TruthfulQA", "Winogrande", "GSM8K"), words)
    header = ["Model", "Average ⬆️", *TITLES, "Precision", "#Params (B)", "Model sha", "Flagged", "date"]
    row = ["a/model", *[50] * 7, "float16", 7, "abc", "True", ""]
    archive = tmp_path / "archive.csv"
    archive.write_text("".join(",".join(map(str, line)) + "\n" for line in (header, row)), encoding="utf-8")
    with pytest.raises(SmaugError, match="every score stopped early, and such a score is not ranked"):
        rank([tmp_path / "results.json"], archive)
    write(tmp_path / "whole/results.json", {**archived(), "stopped": {**stopped, "n": 1172}})  # it went on to the end
    assert rank([tmp_path / "whole"], archive)["standings"][0]["ranks"]


def test_what_differs_is_named(tmp_path: Path) -> None:
    write(tmp_path / "results.json", archived(model_dtype="torch.bfloat16", model_sha="f" * 40, max_samples=50))
    (found,) = smaug_eval.judge_results([tmp_path])["reproductions"]
    assert found["remarks"][1:] == [
        "limit 50: intervals are wider than those of all documents",
        "measured in bfloat16, published in float16",
        f"measured at commit {'f' * 40}, published at {COMMIT}",
    ]
    assert {each["n"] for each in found["verdicts"] if each["n"] is not None} == {50}


def test_other_shots_and_templates_are_no_reproduction(tmp_path: Path) -> None:
    document = newest({"winogrande": accuracy(0.5)}, model=GPT2, n=1267, shots=0)
    write(tmp_path / "results.json", {**document, "chat_template": "x", "chat_template_sha": "0" * 64})
    (found,) = smaug_eval.judge_results([tmp_path])["reproductions"]
    assert verdicts(found)["Winogrande"] == (
        "not comparable, because 0 shots, the leaderboard's 5; with a chat template"
    )
    (winogrande,) = [each for each in found["verdicts"] if each["column"] == "Winogrande"]
    assert not any(note.startswith("not comparable") for note in winogrande["notes"])
    assert any("measured with lm-eval 0.4.9" in remark for remark in found["remarks"])


def test_a_value_outside_its_interval_is_not_reproduced_whatever_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "r.json", newest({"winogrande": accuracy(0.6, 0.0138)}, model=GPT2, n=1267, shots=5))
    (found,) = smaug_eval.judge_results([tmp_path])["reproductions"]
    assert verdicts(found)["Winogrande"] == "not reproduced"
    (winogrande,) = [each for each in found["verdicts"] if each["column"] == "Winogrande"]
    assert winogrande["gap"] == pytest.approx(60 - 50.43)
    assert "not the leaderboard's shots: lm-eval's own draw" in winogrande["notes"]
    assert winogrande["how"] == "taken as reported"


def test_samples_say_what_the_rules_make_of_the_score(tmp_path: Path) -> None:
    """Of four answers the leaderboard's equality takes one and lm-eval's three: by hand +25 points each for the period
    and for the ":" that stopped the leaderboard's."""
    texts = ["#### 7", "So: 7\n#### 7", "#### 7.", "#### 8"]
    settings = {"until": ["Question:", "</s>", "<|im_end|>"], "max_gen_toks": 256}
    about = {"target": "#### 7", "doc": {"question": "q", "answer": "#### 7"}, "filter": "strict-match"}
    rows = [
        {**generated(number, text, float(number < 3), settings=settings), **about} for number, text in enumerate(texts)
    ]
    entry = accuracy(0.75, metric="exact_match,strict-match")
    write(tmp_path / "results_x.json", newest({"gsm8k": entry}, model=GPT2, n=4, shots=5))
    write(tmp_path / "samples_gsm8k_x.jsonl", lines(rows))
    (found,) = smaug_eval.judge_results([tmp_path])["reproductions"]
    (gsm8k,) = [each for each in found["verdicts"] if each["column"] == "GSM8K"]
    assert (gsm8k["ours"], gsm8k["how"]) == (25.0, "recomputed from samples")
    assert {each["name"]: each["points"] for each in gsm8k["effects"]} == {"equality": 25.0, "':' stop": 25.0}


def test_several_models_and_which_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a" / "results.json", archived())
    write(tmp_path / "b" / "results.json", newest({"winogrande": accuracy(0.5)}, model="nobody/knows", n=1267, shots=5))
    write(tmp_path / "c" / "results.json", newest({"piqa": accuracy(0.5)}, model="some/other"))
    found = smaug_eval.judge_results([tmp_path])
    assert [each["model"] for each in found["reproductions"]] == [GPT2]
    assert found["left_out"] == {
        "nobody/knows": "the leaderboard has no row of 'nobody/knows' here",
        "some/other": "it has no results of the leaderboard's six benchmarks",
    }
    against = smaug_eval.judge_results([tmp_path], against=f"{GPT2}@{COMMIT[:6]}", model="nobody/knows")
    (other,) = against["reproductions"]
    assert other["against"]["model"] == GPT2
    assert f"nobody/knows is held against the row of {GPT2}" in other["remarks"]


def test_a_run_of_ours_is_held_against_its_row_too(run: Any) -> None:
    run.manifest(models={"base": {"source": GPT2}})
    run.evaluation("base", {"open_llm_v1_arc_challenge": 0.22}, metric="acc_norm", n=1172)
    (found,) = smaug_eval.judge_results([run.path], tasks=["ARC"])["reproductions"]
    assert verdicts(found)["ARC"] == "reproduced"
    assert found["origin"] == "the suite's tasks"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--results", "{}", "--limit", "3"], "--limit would change an evaluation"),
        (["--results", "{}", "--engine", "hf"], "--engine would change an evaluation"),
        (["nobody", "--results", "{}"], "'nobody' is none of the models of the results: openai-community/gpt2"),
        (["--results", "{}", "--against", "no/row"], "no row of 'no/row'"),
        (["--results", "nowhere"], "nowhere does not exist"),
        ([], "there is no model to measure"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, arguments: list[str], said: str) -> None:
    write(tmp_path / "results.json", archived())
    result = CliRunner().invoke(app, ["reproduce", *(each.format(tmp_path) for each in arguments)])
    assert isinstance(result.exception, SmaugError)
    assert said in result.exception.message
    assert result.exception.fix


def test_on_the_command_line(tmp_path: Path) -> None:
    write(tmp_path / "results.json", archived())
    runner = CliRunner(env={"COLUMNS": "150"})
    text = runner.invoke(app, ["reproduce", "--results", str(tmp_path)]).stdout
    assert f"{GPT2} against {GPT2} (float16, commit 11c5a3d5, 2024-02-09" in " ".join(text.split())
    (row,) = [line.split() for line in text.splitlines() if line.startswith("Winogrande ")]
    assert row == ["Winogrande", "50.43", "50.43", "+0.00", "48.47", "to", "52.39", "1,267", "reproduced"]
    found = json.loads(runner.invoke(app, ["reproduce", GPT2, "--results", str(tmp_path), "--json"]).stdout)
    assert found["reproductions"][0]["verdicts"][0]["outcome"] == "reproduced"
