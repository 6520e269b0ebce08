from __future__ import annotations

import importlib
import json
import math
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.v1 import MMLU
from smaug_eval.reports import build_report, panels
from smaug_eval.reports.html.script import page_script
from smaug_eval.reports.panels import PANELS
from smaug_eval.reports.panels.panel import Panel

ARC = "open_llm_v1_arc_challenge"
HELLASWAG = "open_llm_v1_hellaswag"
TRUTHFULQA = "open_llm_v1_truthfulqa"
WINOGRANDE = "open_llm_v1_winogrande"
GSM8K = "open_llm_v1_gsm8k"
ALARM = "less likely"

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "</style></script><b>",
    "javascript:alert(1)",
    "abc\u202egnp.exe",
    "nul\x00byte",
    "lone \ud800",
    "$x^{",
    "https://example.org/tracker.png",
]


def curve(chosen: float, rejected: float) -> list[tuple[int, float, float]]:
    return [(0, 0.0, 0.0), (10, chosen / 2, rejected / 2), (20, chosen, rejected)]


def six(run: Any, model: str, offset: float, **options: Any) -> None:
    """Scores of 0.50 + offset on all six columns."""
    run.evaluation(model, {ARC: 0.5 + offset, HELLASWAG: 0.5 + offset}, metric="acc_norm", **options)
    run.evaluation(model, {TRUTHFULQA: 0.5 + offset}, metric="mc2", **options)
    run.evaluation(model, {WINOGRANDE: 0.5 + offset, GSM8K: 0.5 + offset}, **options)
    run.evaluation(model, {subject.name: 0.5 + offset for subject in MMLU}, **options)


def test_headline_and_table_of_six_columns(run: Any, page: Callable[..., Any]) -> None:
    six(run, "base", 0.0, n=101)
    six(run, "dpop", 0.1, n=101)
    report = page(run.path)
    # Standard errors in points: a column's is sqrt(.5 * .5 / 100) = 5.0, at 0.6 sqrt(.6 * .4 / 100) = 4.899; MMLU's
    # sqrt(57) times smaller. The average's: sqrt(5 * 5.0^2 + 0.662^2) / 6 = 1.867, at 0.6 1.829; of the difference
    # sqrt(1.867^2 + 1.829^2) = 2.613, so 10 ± 1.96 * 2.613.
    assert (
        "better dpop scores 10.0 points higher than base on the average of six (open_llm_v1): 60.0 against 50.0 "
        "(95% interval +4.9 to +15.1, p < 0.001)." in report.text
    )
    assert "By column: better on MMLU (+10.0); inconclusive on 5." in report.text
    header = report.row("model")
    assert header[1:4] == ["average of six", "ARC acc_norm", "HellaSwag acc_norm"]
    assert header[4:] == ["MMLU acc", "TruthfulQA mc2", "Winogrande acc", "GSM8K acc"]
    base, dpop = ([cell.split(" n =")[0] for cell in report.row(name)[1:]] for name in ("base baseline", "dpop"))
    # Of a share of zeros and ones Wilson's interval, of means of several the normal one.
    column = "50.0 [40.4, 59.6]"
    assert base == ["50.0 [46.3, 53.7]", *[column] * 2, "50.0 [48.7, 51.3]", *[column] * 3]
    # One column: 10 ± 1.96 * sqrt(5.0^2 + 4.899^2) = 10 ± 13.7; p = 0.153, five times that by Holm's method.
    better = "60.0 [50.2, 69.0] +10.0 [−3.7, +23.7] p = 0.766"
    assert dpop[:3] == ["60.0 [56.4, 63.6] +10.0 [+4.9, +15.1] p < 0.001, better", *[better] * 2]
    assert report.row("dpop")[2].endswith("n = 101 note 1")
    assert "ARC: 101 of 1,172 documents" in report.text  # once, since it is true of every model


def test_notes_stand_below_the_table_with_the_models_they_are_of(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm", n=1172)
    run.evaluation("dpop", {ARC: 0.6}, metric="acc_norm", n=101)
    report = page(run.path)
    assert "ARC, dpop: 101 of 1,172 documents" in report.text
    assert "note" not in report.row("base baseline")[2]
    assert report.row("dpop")[2].endswith("note 1")


def test_a_limit_is_said_once_for_all_tasks(run: Any, page: Callable[..., Any]) -> None:
    tasks = {f"t{number}": 0.5 for number in range(9)}
    for model in ("base", "dpop"):
        for position, task in enumerate(tasks):
            run.evaluation(model, {task: 0.5}, n=20, available=100 + position)
    report = page(run.path)
    assert "was limited to" not in report.text
    assert (
        "base, dpop: scored on part of the documents: t0 (20 of 100), t1 (20 of 101), t2 (20 of 102) and 6 more."
        in report.text
    )


def test_an_open_comparison_says_what_it_could_have_shown(run: Any, page: Callable[..., Any]) -> None:
    for model, score in (("base", 0.5), ("dpop", 0.6)):
        run.evaluation(model, {ARC: score}, metric="acc_norm", n=101)
    text = page(run.path).text
    assert "inconclusive dpop scores 10.0 points higher than base on the mean of 1 of 6 columns" in text
    # (1.95996 + 0.84162) * sqrt(5.0^2 + 4.899^2) = 19.6
    assert "With these 101 documents a true difference of 19.6 points would be found in 80% of evaluations" in text
    assert "everything else is inconclusive, which does not mean equal" in text


def test_a_subset_is_not_called_the_average_of_six(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm").evaluation("dpop", {ARC: 0.6}, metric="acc_norm")
    report = page(run.path)
    assert "average of six" not in report.text
    assert "mean of 1 of 6 columns" in report.text


def test_other_documents_are_not_compared(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm", n=100).evaluation("dpop", {ARC: 0.6}, metric="acc_norm", n=50)
    report = page(run.path)
    why = "dpop has 50 documents, base 100; without samples of dpop and base those in common cannot be found"
    assert f"not compared: {why}" in report.row("dpop")[2]
    assert f"dpop and base do not compare on {ARC} ({why}): no difference is shown." in report.text
    assert "+10.0" not in report.text


def test_other_prompts_are_not_compared(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm", hashes={ARC: "one"})
    run.evaluation("dpop", {ARC: 0.6}, metric="acc_norm", hashes={ARC: "two"})
    assert "not compared: documents, prompts or their order differ" in page(run.path).row("dpop")[2]


def test_averages_of_other_columns_are_not_compared(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm")
    run.evaluation("dpop", {ARC: 0.6, HELLASWAG: 0.9}, metric="acc_norm")
    report = page(run.path)
    assert (
        "not compared dpop scores 75.0 on the mean of 2 of 6 columns (open_llm_v1); it is not compared" in report.text
    )
    assert "not compared: an average of other columns" in report.row("dpop")[1]
    assert report.row("base baseline")[3] == "not measured"
    assert "not compared: the baseline was not measured on it" in report.row("dpop")[3]
    # se sqrt(.25 / 99) = 5.025 and sqrt(.24 / 99) = 4.924: 10 ± 1.96 * 7.036
    assert "60.0 [50.2, 69.1] +10.0 [−3.8, +23.8]" in report.row("dpop")[2]


def test_the_baseline_can_be_chosen_and_comes_first(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm").evaluation("dpop", {ARC: 0.6}, metric="acc_norm")
    report = page(run.path, baseline="dpop")
    assert [row[0] for row in report.rows if row[0] in {"base", "dpop baseline"}][:2] == ["dpop baseline", "base"]
    assert "50.0 [40.4, 59.6] −10.0 [−23.8, +3.8]" in report.row("base")[2]
    with pytest.raises(
        SmaugError, match=r"baseline 'dpoo' is none of the models: base, dpop\n  fix: did you mean 'dpop'"
    ):
        page(run.path, baseline="dpoo")


def test_the_papers_failure_is_stated_where_it_happens_and_only_there(run: Any, page: Callable[..., Any]) -> None:
    run.training("dpo", {"train": curve(-2.0, -9.0), "eval": curve(-1.5, -8.0)}, {"loss": "dpo"})
    run.training("dpop", {"train": curve(-0.5, -3.0), "eval": curve(0.25, -2.0)}, {"loss": "dpop"})
    report = page(run.path)
    assert "Training dpo made the preferred answers of held-out pairs less likely" in report.text
    assert "(−1.50 nats, step 20)" in report.text
    assert "dpo: preferred answers became less likely." in report.text
    assert "dpop: preferred answers became" not in report.text
    assert "Training dpop kept the preferred answers of held-out pairs at least as likely" in report.text
    assert "(+0.25 nats, step 20)" in report.text
    assert report.row("dpo", "held-out", "20")[3:] == ["0.500", "−1.500", "−8.000"]
    assert report.row("dpop", "training", "20")[3:] == ["0.500", "−0.500", "−3.000"]


def test_without_held_out_pairs_the_training_pairs_speak(run: Any, page: Callable[..., Any]) -> None:
    run.training("dpop", {"train": curve(0.5, -3.0)}, {"loss": "dpop"})
    report = page(run.path)
    assert "kept the preferred answers of training pairs at least as likely" in report.text
    assert ALARM not in report.text


def test_charts_share_a_vertical_scale_and_say_where_it_is_logarithmic(run: Any, page: Callable[..., Any]) -> None:
    run.training("dpo", {"eval": curve(-20.0, -400.0)}).training("dpop", {"eval": curve(0.5, -2.0)})
    report = page(run.path)
    charts = [attributes for tag, attributes in report.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(charts) == 2
    assert "linear within ±0.1 and logarithmic beyond" in report.text
    assert "chosen answers of held-out pairs: 0.00 nats at step 0, −20.00 at step 20" in report.text


def test_every_metric_of_unknown_tasks_is_shown_in_its_own_unit(run: Any, page: Callable[..., Any]) -> None:
    for model, value in (("base", 12.5), ("dpop", 10.0)):
        run.evaluation(model, {"wikitext": 0.25}, metric="acc", n=50)
        (path,) = (run.path / "eval" / model).rglob("results_*.json")
        content = json.loads(path.read_text())
        content["results"]["wikitext"] |= {"word_perplexity,none": value, "word_perplexity_stderr,none": "N/A"}
        path.write_text(json.dumps(content))
    report = page(run.path)
    assert report.row("wikitext", "acc")[2:] == ["0.25 ± 0.062 n = 50", "0.25 ± 0.062 0.0000 n = 50"]
    assert report.row("wikitext", "word_perplexity")[2:] == ["12.5 ± n/a n = 50", "10 ± n/a −2.5000 n = 50"]


def test_a_metric_that_is_not_a_number_is_na_with_a_warning(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {"odd": 0.5})
    (path,) = run.path.rglob("results_*.json")
    content = json.loads(path.read_text())
    content["results"]["odd"]["acc,none"] = math.nan
    path.write_text(json.dumps(content))
    report = page(run.path)
    assert report.row("odd", "acc")[2].startswith("n/a ±")
    assert "base: not a number, shown as n/a: odd (acc)." in report.text


def test_warnings_come_from_the_manifest_gaps_and_limits(run: Any, page: Callable[..., Any]) -> None:
    run.manifest(warnings=["HellaSwag train has 5,000 rows"], stages=[{"name": "eval/dpo/main/x", "status": "new"}])
    run.evaluation("base", {"t": 0.5}, n=20, available=200)
    text = page(run.path).text
    assert "HellaSwag train has 5,000 rows" in text
    assert "This run is not complete: stage eval/dpo/main/x is not done." in text
    assert "base: scored on part of the documents: t (20 of 200)." in text


def test_a_run_that_has_only_begun_gives_a_page(run: Any, page: Callable[..., Any]) -> None:
    run.manifest(models={"base": {}}, stages=[{"name": "train/dpo", "status": "started"}])
    report = page(run.path)
    assert "stage train/dpo is not done; no evaluation results yet" in report.text
    assert "no evaluation results yet" in report.text


def test_samples_show_choices_generations_and_lengths(run: Any, page: Callable[..., Any]) -> None:
    def sample(text: str, acc: float) -> dict[str, Any]:
        return {
            "doc_id": 7, "doc": {"gold": "5"}, "target": "5", "resps": [[text]], "filtered_resps": [text],
            "arguments": {"gen_args_0": {"arg_0": "p" * 500, "arg_1": {}}}, "filter": "none", "metrics": ["acc"],
            "doc_hash": "h", "acc": acc,
        }  # fmt: skip

    run.evaluation("base", {GSM8K: 0.5}, samples=[sample("z" * 1500, 0.0)])
    run.evaluation("dpop", {GSM8K: 0.5}, samples=[sample("#### 5", 1.0)])
    report = page(run.path)
    text = report.text
    assert report.row("open_llm_v1: GSM8K", "dpop")[2:] == ["1", "0", "0", "0", "0"]
    assert "On this page are 1 of 1 documents: all 1 that a model gained or lost, and 0 others" in text
    assert f"{GSM8K} 7 gained ppp" in text
    assert "right answer: 5" in text
    assert "base ✗ wrong (acc) " + "z" * 1200 + "… first 1200 of 1500 characters" in text
    assert "dpop ✓ right (acc) #### 5" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_everywhere(run: Any, page: Callable[..., Any], text: str) -> None:
    run.manifest(name=text, recipe={text: [text, {text: text}]}, warnings=[text], models={text: {"path": text}})
    sample = {
        "doc_id": text, "doc": {"gold": 0}, "target": text, "resps": [[[-1.0, False]], [[-2.0, False]]],
        "arguments": {f"gen_args_{i}": {"arg_0": text, "arg_1": f" {i}{text}"} for i in range(2)},
        "filtered_resps": [["-1.0", "False"], ["-2.0", "False"]], "filter": "none", "metrics": [text, "acc"],
        "doc_hash": "h", "acc": 1.0, text: 0.5,
    }  # fmt: skip
    run.evaluation("base", {"t": 0.5}, samples=[sample])
    generated = sample | {"arguments": {"gen_args_0": {"arg_0": text, "arg_1": {}}}, "resps": [[text]]}
    run.evaluation("base", {"u": 0.5}, samples=[generated | {"filtered_resps": [text + "!"]}])
    (path,) = (run.path / "eval" / "base" / "main" / "t").glob("results_*.json")
    content = json.loads(path.read_text())
    content["results"]["t"][f"{text},{text}"] = 0.5
    content["config"]["model_args"] = {text: text}
    path.write_text(json.dumps(content))
    run.training("dpo", {"eval": curve(-1.0, -2.0)}, {"loss": text, "formula": text, "beta": text})
    plain = run.path.parent / "plain" / "results_1.json"
    plain.parent.mkdir()
    plain.write_text(
        json.dumps({"results": {text: {"acc,none": 0.5}, "t": {"acc,none": 0.5}}, "model_name": f"x{text}"})
    )
    clean = page(run.path, plain, title="clean")
    harmless = {tag for tag, _ in clean.elements}
    report = page(run.path, plain, title=text)
    assert {tag for tag, _ in report.elements} == harmless
    assert_offline_and_inert(report)
    assert "49" not in report.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", report.html)


def assert_offline_and_inert(report: Any) -> None:
    """No script but our own, no handlers, no links but into the page, no addresses in styles; a policy that says so."""
    script = page_script()
    assert re.findall("<script>(.*?)</script>", report.html, re.DOTALL) == [script.text]
    assert sum(tag == "script" for tag, _ in report.elements) == 1
    for tag, attributes in report.elements:
        assert tag not in {"iframe", "object", "embed", "img", "link", "base", "form", "image"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "action", "srcset", "data"}:
                assert (value or "").startswith("#")
            if name == "style":
                assert not re.search(r"url\((?!#)|@import", value or "")
    (style,) = re.findall("<style>(.*?)</style>", report.html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    policy = {a.get("http-equiv"): a.get("content") for tag, a in report.elements if tag == "meta"}
    assert policy["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src '{script.policy}'; img-src data:; "
        "form-action 'none'; base-uri 'none'"
    )


def full_run(run: Any) -> None:
    run.manifest(models={"base": {"sha256": "0" * 64}}, packages={"torch": "2.13"})
    six(run, "base", 0.0)
    six(run, "dpop", 0.1)
    run.training("dpo", {"train": curve(-2.0, -9.0), "eval": curve(-1.5, -8.0)}, {"loss": "dpo"})


def test_the_page_loads_nothing_and_is_small(run: Any, page: Callable[..., Any]) -> None:
    full_run(run)
    report = page(run.path)
    assert_offline_and_inert(report)
    assert len(report.html.encode()) < 250_000


def test_the_page_is_accessible(run: Any, page: Callable[..., Any]) -> None:
    full_run(run)
    report = page(run.path)
    tags = [tag for tag, _ in report.elements]
    assert tags.count("caption") == tags.count("table") > 4
    assert all("scope" in attributes for tag, attributes in report.elements if tag == "th")
    assert all(
        attributes.get("aria-hidden") == "true" or attributes.get("aria-labelledby")
        for tag, attributes in report.elements
        if tag == "svg"
    )
    ids = [attributes["id"] for _, attributes in report.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [target for _, a in report.elements for target in (a.get("aria-labelledby") or "").split()]
    links = [(a["href"] or "").removeprefix("#") for tag, a in report.elements if tag == "a"]
    assert set(named + links) <= set(ids)
    assert ("html", {"lang": "en"}) in report.elements


def test_building_twice_gives_the_same_bytes(run: Any, tmp_path: Path) -> None:
    full_run(run)
    first = build_report([run.path], tmp_path / "one.html").read_bytes()
    assert build_report([run.path], tmp_path / "two.html").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "study", "two.html"]


def test_a_failed_build_leaves_the_old_page(run: Any, tmp_path: Path) -> None:
    run.evaluation("base", {"t": 0.5})
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(SmaugError):
        build_report([run.path], out, baseline="none")
    assert out.read_text() == "old"
    with pytest.raises(SmaugError, match="nothing to report on"):
        build_report([], out)


def test_runs_and_plain_results_together(run: Any, tmp_path: Path, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm")
    (path,) = run.path.rglob("results_*.json")
    other = tmp_path / "elsewhere" / "results_1.json"
    other.parent.mkdir()
    other.write_text(path.read_text().replace("org/model", "abacusai/Smaug"))
    report = page(run.path, other)
    assert "Comparison of study, elsewhere" in report.text
    assert "50.0 [40.4, 59.6] 0.0 [−13.9, +13.9]" in report.row("abacusai/Smaug")[2]


def test_every_panel_has_its_template() -> None:
    assert all(panel.file.is_file() for panel in PANELS.values())


def test_every_module_with_a_panel_is_listed() -> None:
    """Each panel of the package stands in the list once; a module without is a part of others."""
    defined = []
    for module in pkgutil.iter_modules(panels.__path__):
        found = importlib.import_module(f"{panels.__name__}.{module.name}")
        defined += [*getattr(found, "PANELS", ()), *([found.PANEL] if hasattr(found, "PANEL") else [])]
    assert {panel.key: panel for panel in defined} == dict(PANELS)
    assert len(defined) == len(PANELS)


def test_a_panel_from_elsewhere(run: Any, tmp_path: Path, page: Callable[..., Any]) -> None:
    """A plug-in puts one entry into the list: the page has its part and its heading, escaped like ours."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "macros_of_mine.html.j2").write_text("{% macro loud(text) %}{{ text | upper }}{% endmacro %}")
    (folder / "scores.html.j2").write_text(
        '{% from "macros.html.j2" import table %}{% from "macros_of_mine.html.j2" import loud %}'
        '<p>{{ loud(word) }}</p>{% call table("Mine") %}<tr><td>7</td></tr>{% endcall %}'
    )
    mine = Panel(
        "mine", "My <own> panel", lambda found: {"word": "<b>" + found.title}, "scores", folder, after="headline"
    )
    never = Panel("never", "Never", lambda found: None, "none", folder)
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm")
    PANELS["mine"], PANELS["never"] = mine, never
    try:
        text = page(run.path).html
    finally:
        del PANELS["mine"], PANELS["never"]
    assert '<li><a href="#mine">My &lt;own&gt; panel</a></li>' in text
    body = text.partition('<section id="mine"')[2].partition("</section>")[0]
    assert "<p>&lt;B&gt;COMPARISON OF STUDY</p>" in body
    assert "<td>7</td>" in body
    assert text.index('<section id="headline"') < text.index('<section id="mine"') < text.index('<section id="scores"')
    assert "never" not in text.partition("<main")[0]


def test_a_users_own_module_called_reports_is_not_ours(
    run: Any, page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Templates and script are found beside our modules: ``reports`` may be anybody's, or not be there at all."""
    page_script.cache_clear()
    monkeypatch.setitem(sys.modules, "reports", None)
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm")
    assert page_script().text in page(run.path).html


@pytest.mark.slow
def test_files_that_lm_eval_really_writes(tmp_path: Path, shared: Path, page: Callable[..., Any]) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "rows.py").write_text(
        "from datasets import Dataset\n\n\n"
        "def load(**kwargs):\n"
        "    options = ['there was a cat', 'zq xv']\n"
        "    rows = [{'q': f'Once upon a time {i}', 'options': options, 'gold': i % 2} for i in range(4)]\n"
        "    return {'test': Dataset.from_list(rows)}\n"
    )
    common = "custom_dataset: !function rows.load\ntest_split: test\ndoc_to_text: '{{q}}'\n"
    (tasks / "tiny_choice.yaml").write_text(
        f"task: tiny_choice\n{common}output_type: multiple_choice\ndoc_to_choice: '{{{{options}}}}'\n"
        "doc_to_target: gold\nmetric_list:\n  - metric: acc\n  - metric: acc_norm\n"
    )
    (tasks / "tiny_text.yaml").write_text(
        f"task: tiny_text\n{common}output_type: generate_until\ndoc_to_target: '{{{{options[gold]}}}}'\n"
        "generation_kwargs:\n  until: ['\\n']\n  max_gen_toks: 8\nmetric_list:\n  - metric: exact_match\n"
    )
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--log_samples",
        "--model_args", f"pretrained={shared / 'models' / 'stories260K'},dtype=float32",
        "--include_path", str(tasks), "--tasks", "tiny_choice,tiny_text", "--output_path", str(tmp_path / "results"),
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **offline})
    report = page(tmp_path / "results")
    # Golds alternate and the sensible ending is always preferred: 2 of 4, standard error sqrt(.25 / 3) = 0.289.
    assert report.row("tiny_choice", "acc")[2] == "0.5 ± 0.29 n = 4"
    assert report.row("tiny_choice", "acc_norm")[2] == "0.5 ± 0.29 n = 4"
    assert report.row("tiny_text", "exact_match")[2] == "0 ± 0 n = 4"
    assert "stories260K" in report.text
    assert report.row("✓ there was a cat")[1].startswith("▸ −")
    assert "Once upon a time 2" in report.text
