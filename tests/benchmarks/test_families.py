"""The sweep over model families: that its committed table is whole, and the families that have gone wrong before."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from benchmarks import families
from benchmarks.tiny_models import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
WAYS = {
    # Sparse attention, which passed a trial of 12 tokens held under our own attention.
    "deepseek_v32": "single",
    # Padding changes a few tokens.
    "hy_v4": None,
    "doge": "single",
    # Windows, chunks, convolutions, states.
    "mistral, window 300": "packed",
    "llama4_text": "plain",
    "gpt_neo": "padded",
    "lfm2": "padded",
    "mamba2": "padded",
    "phi3, long RoPE 300": "packed",
    # Experts, with noise in training.
    "mixtral, jitter": "packed",
    "gpt_oss": "padded",
    # Encoders, and one that is a decoder.
    "bert": "refused",
    "xlnet": "refused",
    "roberta, is_decoder": None,
}


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    result: dict[str, Any] = json.loads((ROOT / "benchmarks/results/families.json").read_text())
    return result


def test_the_committed_sweep_knows_every_family_and_found_nothing_wrong(committed: dict[str, Any]) -> None:
    swept = committed["versions"]["transformers"]
    assert f"transformers=={swept}\n" in (ROOT / "constraints.txt").read_text()
    if version("transformers") == swept:  # a newer one has more families
        assert {row["family"] for row in committed["rows"]} == set(FAMILIES)
        assert [row["name"] for row in committed["rows"]] == [case.name for case in families.CASES]
    assert sum(row["way"] != "not built" for row in committed["rows"][: committed["families"]]) >= 150
    assert committed["wrong"] == [row["name"] for row in committed["rows"] if not families.passed(row)] == []
    assert max(row.get("difference", 0) for row in committed["rows"]) <= families.TOLERANCE


def test_the_page_is_that_of_the_committed_sweep(committed: dict[str, Any]) -> None:
    assert (ROOT / "docs/families.md").read_text() == families.document(committed)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(WAYS))
def test_a_family_is_asked_for_its_own_numbers_or_refused(name: str) -> None:
    (case,) = [case for case in families.CASES if case.name == name]
    row = families.measure(case)
    assert families.passed(row), row
    assert row["way"] == (WAYS[name] or row["way"])
    assert "noise" in row or row["way"] == "refused"
    if "jitter" in name:
        assert row["noise"] > families.TOLERANCE
        assert row["stilled"]


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"difference": 0.01}, False),
        ({"unshared": {"difference": 0.01}}, False),
        ({"gradient": 0.01}, False),
        ({"left": 0.5}, False),
        ({"way": "failed"}, False),
        ({"way": "refused", "difference": 1.0}, True),
    ],
)
def test_what_is_wrong_is_noticed(changed: dict[str, Any], good: bool) -> None:
    row = {"way": "packed", "difference": 1e-6, "unshared": {"difference": 1e-6}, "gradient": 1e-7, "left": None}
    assert families.passed(row | changed) is good


@pytest.mark.slow
def test_a_case_that_takes_too_long_does_not_stop_the_rest() -> None:
    slow, odd = families.FamilyCase("llama", "llama"), families.FamilyCase("odd", "no such family")
    assert families.isolated(slow, seconds=0.0)["reason"] == "no answer within 0 s"
    assert families.isolated(odd)["way"] == "not built"
