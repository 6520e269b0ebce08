"""Generated answers looked through: what is empty, cut, of unclosed thought, or without an extracted answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.reports import build_report
from smaug_eval.results.answers import FLAWS, answer_flaws
from smaug_eval.results.sources import read_source
from tests.results.others import STAMP, accuracy, generated, lines, newest, write

LONG = "word " * 20
FILTERED = {"filter": "strict", "filtered_resps": ["[invalid]"]}


def evaluated(folder: Path, rows: list[dict[str, Any]], model: str = "org/model", **more: Any) -> Path:
    metric = f"exact_match,{rows[0]['filter']}"
    home = folder / model.replace("/", "__")
    entry = {"mine": accuracy(sum(row["exact_match"] for row in rows) / len(rows), metric=metric)}
    write(home / f"results_{STAMP}.json", newest(entry, model=model, n=len(rows), **more))
    write(home / f"samples_mine_{STAMP}.jsonl", lines(rows))
    return folder


def flaws(folder: Path, filter_name: str = "none") -> dict[str, int]:
    (result,) = read_source(folder).results["org/model"].values()
    found = answer_flaws(result, f"exact_match,{filter_name}")
    assert found is not None
    return {flaw: count for flaw in FLAWS if (count := found.count(flaw))}


@pytest.mark.parametrize(
    ("text", "more", "found"),
    [
        ("The answer is 7.", {}, {}),
        ("", {}, {"empty": 1}),
        (" \n", {}, {"empty": 1}),
        ("<think>First, ", {}, {"unclosed": 1}),
        ("<think>First</think> 7.", {}, {}),
        ("<think>a</think> no, <think>b.", {}, {"unclosed": 1}),
        ("<reasoning>Hm.", {}, {"unclosed": 1}),
        ("and so on.", {"prompt": "Q\n<think>\n"}, {"unclosed": 1}),
        ("and so on.</think> 7.", {"prompt": "Q\n<think>\n"}, {}),
        ("7.", {"prompt": "Q\n<think>\n\n</think>\n\n"}, {}),
        (LONG, {}, {"cut": 1}),
        (LONG.strip() + ".", {}, {}),  # ends as a text ends
        (LONG, {"settings": {"max_gen_toks": 200}}, {}),
        ("The answer is 7.", FILTERED, {"unextracted": 1}),
        ("", FILTERED, {"empty": 1}),  # nothing to extract from
        ("The answer is 7.", {"filter": "strict", "filtered_resps": [["7", "[invalid]"]]}, {}),
    ],
)
def test_what_an_answer_lacks(tmp_path: Path, text: str, more: dict[str, Any], found: dict[str, int]) -> None:
    row = generated(0, text, **more)
    assert flaws(evaluated(tmp_path, [row]), row["filter"]) == found


def test_each_document_counts_once_and_choices_not_at_all(tmp_path: Path) -> None:
    rows = [generated(number, "", filter=name) for name in ("none", "strict") for number in range(4)]
    assert flaws(evaluated(tmp_path / "a", rows)) == {"empty": 4}
    rows = [{**generated(0, "x"), "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": " a"}}}]
    (result,) = read_source(evaluated(tmp_path / "b", rows)).results["org/model"].values()
    assert answer_flaws(result, "exact_match,none") is None


def test_the_limit_is_the_sample_s_else_the_evaluation_s(tmp_path: Path) -> None:
    row = generated(0, LONG)
    row["arguments"]["gen_args_0"]["arg_1"].pop("max_gen_toks")
    assert flaws(evaluated(tmp_path / "none", [row])) == {}
    named = {"config": {"gen_kwargs": "temperature=0,max_gen_toks=20"}}
    assert flaws(evaluated(tmp_path / "named", [row], **named)) == {"cut": 1}


@given(st.text(max_size=80), st.text(max_size=40))
def test_any_text_is_looked_through(tmp_path_factory: pytest.TempPathFactory, text: str, prompt: str) -> None:
    folder = tmp_path_factory.mktemp("answers")
    assert set(flaws(evaluated(folder, [generated(0, text, prompt=prompt)]))) <= set(FLAWS)


def test_the_page_warns_with_a_link_to_the_answers(tmp_path: Path, page: Any) -> None:
    rows = [generated(number, "" if number < 3 else "<think>so", 0.0) for number in range(12)]
    for model in ("org/model", "org/other"):
        evaluated(tmp_path / "in", rows if model == "org/model" else [generated(n, "7.") for n in range(12)], model)
    report = page(tmp_path / "in")
    assert "org/model, mine: 3 of 12 answers (25.0%) are empty" in report.text
    assert "9 of 12 answers (75.0%)" in report.text
    assert "org/other, mine" not in report.text.partition("What to know")[2].partition("Changed answers")[0]
    finds = {each["data-find"] for _, each in report.elements if "data-find" in each}
    assert {"samples?task=0&flaw=0%3Aempty", "samples?task=0&flaw=0%3Aunclosed"} <= finds  # of the first model's
    shown = [each for _, each in report.elements if "data-flaw" in each]
    assert {each["data-flaw"] for each in shown} == {"empty 0:empty", "unclosed 0:unclosed"}
    text = build_report([tmp_path / "in"], tmp_path / "r.md", format_="md").read_text()
    assert "3 of 12 answers (25.0%) are empty" in text.replace("\\", "")
