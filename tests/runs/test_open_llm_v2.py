"""Runs of the second leaderboard's suite: templates, context and BOS as there, refusals before anything runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from smaug_eval import api
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.benchmarks import BENCHMARKS
from smaug_eval.leaderboard.published import published_row
from smaug_eval.results.boards import boards_of
from smaug_eval.results.sources import read_source
from smaug_eval.runs.reproduction import _template_obstacles, reproduction_recipe
from tests.leaderboard.test_v2_archive import february
from tests.leaderboard.v2_mirror import write_mirror

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("mirror"))


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "chatty"
    shutil.copytree(embedded_path("demo-model"), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def recipe(model: str | Path, mirror: Path, **evaluation: Any) -> dict[str, Any]:
    return {
        "name": "v2",
        "model": str(model),
        "data_root": str(mirror),
        "evaluations": {"v2": {"suite": "open_llm_v2", "tasks": ["musr"], "engine": "torch", **evaluation}},
    }


def inputs_of(pipeline: Any) -> dict[str, Any]:
    (stage,) = [stage for stage in pipeline.stages if stage.name.startswith("eval/")]
    return dict(stage.inputs)


def test_what_decides_the_prompts_decides_the_stage(tmp_path: Path, mirror: Path) -> None:
    found = inputs_of(api.prepare(recipe("embedded:demo-model", mirror), runs=tmp_path))
    assert {key: found[key] for key in ("apply_chat_template", "fewshot_as_multiturn", "context", "add_bos_token")} == {
        "apply_chat_template": False, "fewshot_as_multiturn": False, "context": 4096, "add_bos_token": False,
    }  # fmt: skip
    gemma = tmp_path / "gemma"
    shutil.copytree(embedded_path("demo-model"), gemma)
    config = json.loads((gemma / "config.json").read_text())
    (gemma / "config.json").write_text(json.dumps({**config, "model_type": "gemma2"}))
    assert inputs_of(api.prepare(recipe(gemma, mirror), runs=tmp_path))["add_bos_token"] is True
    first = recipe(gemma, mirror) | {"evaluations": {"demo": {"suite": "demo", "tasks": ["demo_truth"]}}}
    assert "add_bos_token" not in inputs_of(api.prepare(first, runs=tmp_path))


def test_a_model_reads_no_more_than_the_suite_lets_it() -> None:
    folder = embedded_path("demo-model")
    own = build_engine(EngineSpec("torch", folder, device="cpu")).max_length
    for asked, right in ((100, 100), (own + 1, own)):
        lm = build_engine(EngineSpec("torch", folder, device="cpu", context=asked, add_bos_token=True))
        assert (lm.max_length, lm.add_bos_token) == (right, True)


@pytest.fixture(scope="module")
def chat_run(tmp_path_factory: pytest.TempPathFactory, mirror: Path, chat_model: Path) -> Path:
    asked = {"tasks": ["musr", "mmlu_pro"], "apply_chat_template": True, "fewshot_as_multiturn": True}
    return api.run(recipe(chat_model, mirror, **asked), runs=tmp_path_factory.mktemp("runs")).path


def test_a_run_in_a_chat_template_from_prompts_to_report(chat_run: Path) -> None:
    path = chat_run
    (file,) = path.glob("eval/base/v2/mmlu_pro/**/samples_open_llm_v2_mmlu_pro_*.jsonl")
    sample = json.loads(file.read_text().splitlines()[0])
    context, continuation = sample["arguments"]["gen_args_0"].values()
    assert continuation == "A"
    assert context.count("<answer>") == 1
    assert context.count("<assistant>") == 5
    assert context.endswith("<user>Which 0?\nA. red\nB.  blue\nAnswer:<answer>")
    (results,) = path.glob("eval/base/v2/mmlu_pro/**/results_*.json")
    document = json.loads(results.read_text())
    assert document["chat_template"] == TEMPLATE
    assert document["fewshot_as_multiturn"] is True
    assert document["config"]["model_args"]["max_length"] == 4096
    (board,) = boards_of(read_source(path).results)
    assert board.name == "open_llm_v2"
    assert "Suite open_llm_v2" in (path / "report.html").read_text()
    (views,) = api.score_views(path)
    values = {column.title: column.score for column in views.scores.columns}
    assert values["MMLU-Pro"].n == 3
    assert values["MMLU-Pro"].value in [pytest.approx(100 * max(0.0, (n / 3 - 0.1) / 0.9)) for n in range(4)]
    causes = {cause.name for column in views.columns for cause in column.causes}
    assert "normalisation" in causes


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"fewshot_as_multiturn": True}, "set apply_chat_template, too"),
        ({"apply_chat_template": True}, "the tokenizer of embedded:demo-model has no such chat template"),
        ({"apply_chat_template": True, "suite": "demo", "tasks": None}, "demo was run without chat templates"),
    ],
)
def test_refusals_come_before_anything_runs(
    tmp_path: Path, mirror: Path, evaluation: dict[str, Any], message: str
) -> None:
    with pytest.raises(SmaugError, match=message):
        api.run(recipe("embedded:demo-model", mirror, **evaluation), runs=tmp_path)
    assert not list(tmp_path.glob("*/eval/**/results_*.json"))


def test_missing_packages_stop_a_run_before_its_first_token(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smaug_eval.leaderboard import v2_packages

    monkeypatch.setattr(v2_packages, "_NEEDED", ("surely_not_here",))
    assert BENCHMARKS["ifeval"].check is not None
    with pytest.raises(SmaugError, match="missing: surely_not_here") as error:
        api.run(recipe("embedded:demo-model", mirror, tasks=["ifeval", "musr"]), runs=tmp_path)
    assert error.value.fix == "pip install 'smaug-eval[v2]'"
    api.run(recipe("embedded:demo-model", mirror), runs=tmp_path)  # MuSR alone needs none


def test_answers_that_fill_the_context_are_refused(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smaug_eval.leaderboard import v2_packages

    monkeypatch.setattr(v2_packages, "_NEEDED", ())
    monkeypatch.setattr(v2_packages, "version", lambda _: "4.11.0")
    with pytest.raises(SmaugError, match="answers have up to 1,280 tokens, and the model's context holds 1,024"):
        api.run(recipe("embedded:demo-model", mirror, tasks=["ifeval"]), runs=tmp_path)


def test_a_run_is_ranked_and_judged_in_its_own_leaderboard(tmp_path: Path, chat_run: Path) -> None:
    pd.DataFrame([february("a/high", mmlu_pro=101.0), february("a/low")]).to_csv(tmp_path / "february.csv", index=False)
    found = api.rank(chat_run, tmp_path / "february.csv")
    (standing,) = found["standings"]
    assert {rank["column"] for rank in standing["ranks"]} == {"MuSR", "MMLU-Pro"}
    assert (found["archive"]["suite"], found["archive"]["unusable_rows"]) == ("open_llm_v2", 1)
    judged = api.judge_results(chat_run, against="abacusai/Smaug-34B-v0.1", suite="open_llm_v2")
    (one,) = judged["reproductions"]
    assert one["protocol"] == "open_llm_v2"
    words = {verdict["column"]: verdict["words"] for verdict in one["verdicts"]}
    assert words["MuSR"].startswith("not comparable, because")  # one row a task is not the official data
    page = api.report(chat_run, out=tmp_path / "report.md", archive=tmp_path / "february.csv", format_="md")
    assert "by MMLU-Pro" in page.read_text()


def test_the_published_template_is_asked_for_and_another_does_not_compare() -> None:
    row = published_row("abacusai/Llama-3-Smaug-8B", "open_llm_v2")
    assert row is not None
    made = reproduction_recipe("some/model", row, name="r", dtype="float32")["evaluations"]["open_llm_v2"]
    assert (made["apply_chat_template"], made["fewshot_as_multiturn"]) == (True, False)
    asked = {"apply_chat_template": True, "fewshot_as_multiturn": False}
    assert _template_obstacles(row, asked) == []
    assert _template_obstacles(row, {}) == ["measured without the chat template, published with it"]
    turns = {**asked, "fewshot_as_multiturn": True}
    assert _template_obstacles(row, turns) == ["measured with the shots as turns, published with them as one message"]
    plain = published_row("abacusai/Smaug-72B-v0.1", "open_llm_v2")
    assert plain is not None
    assert "apply_chat_template" not in reproduction_recipe("m", plain, name="r")["evaluations"]["open_llm_v2"]
    assert _template_obstacles(plain, asked) == ["measured with the chat template, published without it"]
