"""The summary in Markdown and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError
from smaug_eval.reports import build_report
from smaug_eval.reports.formats import escaped

ARC = "open_llm_v1_arc_challenge"


def built(path: Path, format_: str, tmp_path: Path) -> str:
    return build_report([path], tmp_path / f"report.{format_}", format_=format_).read_text(encoding="utf-8")


@pytest.fixture
def study(run: Any) -> Any:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm", n=101).evaluation(
        "dpop", {ARC: 0.9}, metric="acc_norm", n=101
    )
    curve: Sequence[tuple[int, float, float]] = [(0, 0.0, 0.0), (20, -1.5, -8.0)]
    return run.training("dpo", {"eval": curve}, {"loss": "dpo", "beta": 0.1, "steps": 20})


def test_the_summary_has_verdict_table_training_and_warnings(study: Any, tmp_path: Path) -> None:
    text = built(study.path, "md", tmp_path)
    assert text.startswith("## Comparison of study\n\n- **dpop** (better) scores 40.0 points higher than base on ")
    assert (
        "| model | mean of 1 of 6 columns | ARC |\n|---|---:|---:|\n| base | 50.0 [40.4, 59.6] | 50.0 [40.4, 59.6] |\n"
        in text
    )
    # the baseline has its score's own interval; se 5.0 and sqrt(.09 / 100) = 3.0: 40 ± 1.96 * 5.83 = 28.6 to 51.4
    assert "| dpop | 90.0 **+40.0** [+28.6, +51.4] | 90.0 **+40.0** [+28.6, +51.4] |" in text
    assert "- **training dpo made preferred answers less likely** (−1.50 nats)" in text
    assert "\n**Read this first**\n\nWhether models compare:\n\n- dpop against base" in text
    assert "\nWhat is missing:\n\n- This run is not complete: no manifest.json" in text


def test_the_numbers(study: Any, tmp_path: Path) -> None:
    found = json.loads(built(study.path, "json", tmp_path))
    assert (found["schema"], found["baseline"], found["title"]) == (1, "base", "Comparison of study")
    assert [each["verdict"] for each in found["statements"]] == ["better"]
    (suite,) = found["suites"]
    described = {"unit": "%", "higher_is_better": True, "label": ""}
    assert suite["columns"] == [{"title": "ARC", "metric": "acc_norm", **described}]
    cell = suite["models"]["dpop"]["columns"]["ARC"]
    assert (cell["value"], cell["n"]) == (pytest.approx(90.0), 101)
    assert cell["difference"]["points"] == pytest.approx(40.0)
    assert cell["difference"]["verdict"] == "better"
    assert suite["models"]["base"]["average"]["difference"] is None
    assert suite["models"]["dpop"]["tasks"][ARC]["stderr"] == pytest.approx(3.0)
    (training,) = found["trainings"]
    assert training["last"]["eval"]["log_ratios/chosen"] == -1.5
    assert found["tasks"]["dpop"][ARC]["metrics"]["acc_norm"]["value"] == 0.9


def test_the_numbers_of_subjects_documents_solutions_and_runs(run: Any, tmp_path: Path) -> None:
    def sample(number: int, text: str) -> dict[str, Any]:
        return {
            "doc_id": number, "doc": {}, "target": "#### 12", "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": {}}},
            "resps": [[text]], "filtered_resps": [text], "filter": "none", "metrics": ["acc"],
            "doc_hash": f"d{number}", "prompt_hash": "p", "target_hash": "t", "acc": float(text.endswith("#### 12")),
        }  # fmt: skip

    run.manifest(packages={"torch": "2.13"})
    mmlu = ("open_llm_v1_mmlu_anatomy", "open_llm_v1_mmlu_virology")
    for model, texts, share in (("base", ["#### 12", "#### 12"], 0.5), ("dpop", ["#### 12", "so it goes on"], 0.6)):
        samples = [sample(number, text) for number, text in enumerate(texts)]
        run.evaluation(model, {"open_llm_v1_gsm8k": 0.5}, n=2, samples=samples)
        run.evaluation(model, dict.fromkeys(mmlu, share), n=50)
    found = json.loads(built(run.path, "json", tmp_path))
    assert found["outcomes"] == [
        {"task": "open_llm_v1: GSM8K", "model": "dpop", "counts": {"both right": 1, "lost": 1}}
    ]
    assert [(row["model"], row["counts"]) for row in found["solutions"]] == [
        ("base", {"right": 2}),
        ("dpop", {"right": 1, "cut-short": 1}),
    ]
    (table,) = found["subjects"]
    assert (table["suite"], table["column"]) == ("open_llm_v1", "MMLU")
    by_title = {title: cells for each in table["categories"] for title, cells in each["subjects"].items()}
    assert by_title["anatomy"]["dpop"]["difference"]["points"] == pytest.approx(10.0)
    assert found["runs"]["study"]["packages"] == {"torch": "2.13"}


def test_the_summary_has_the_judged_scores(tmp_path: Path) -> None:
    path = tmp_path / "gpt-4_single.jsonl"
    scores = {"base": (4, 6, 5, 7, 4, 4), "a|b": (5, 7, 6, 8, 5, 6)}
    lines = [
        {
            "question_id": 81 + number, "model": model, "judge": ["gpt-4", "single-v1"], "user_prompt": "",
            "judgment": f"[[{score}]]", "score": score, "turn": 1, "tstamp": 0.0,
        }
        for model, own in scores.items()
        for number, score in enumerate(own)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = built(path, "md", tmp_path)
    assert "**FastChat judgments**: scores from 1 to 10 by gpt-4\n" in text
    # Mean 37/6, standard deviation 1.169; the differences are 1, 1, 1, 1, 1, 2.
    assert (
        "| a\\|b | 6.17 [4.94, 7.39] | n/a | 6.17 [4.94, 7.39] "
        "| +1.17 (95% interval 0.74 to 1.60, p = 0.031, 6 questions) | 0 |" in text
    )
    assert "| base | 5.00 [3.67, 6.33] | n/a | 5.00 [3.67, 6.33] |  | 0 |" in text


def test_numbers_that_are_not_finite_are_null(run: Any, tmp_path: Path) -> None:
    run.evaluation("base", {"odd": 0.5})
    (path,) = run.path.rglob("results_*.json")
    path.write_text(path.read_text().replace('"acc,none": 0.5', '"acc,none": NaN'))
    found = json.loads(built(run.path, "json", tmp_path))
    assert found["tasks"]["base"]["odd"]["metrics"]["acc"]["value"] is None


def test_markdown_and_html_in_names_are_text() -> None:
    assert escaped("a|b\n<img src=x> [x](y) @team `c` **d**") == (
        r"a\|b \<img src=x\> \[x\](y) &#64;team \`c\` \*\*d\*\*"
    )
    assert escaped("a\u202eb") == "a⟨U+202E⟩b"


def test_an_unknown_format_is_refused(study: Any, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"--format pdf: there is no such format\n  fix: choose one of html, md, json"):
        built(study.path, "pdf", tmp_path)
    assert not (tmp_path / "report.pdf").exists()


def test_the_verb_writes_the_format_s_own_file(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for options, name in (
        (["--format", "md"], "report.md"),
        (["--format", "json"], "report.json"),
        ([], "report.html"),
    ):
        result = CliRunner().invoke(app, ["report", str(study.path), "--baseline", "dpop", *options])
        assert result.stdout == f"{name}\n"
        assert (tmp_path / name).is_file()
    assert json.loads((tmp_path / "report.json").read_text())["baseline"] == "dpop"
