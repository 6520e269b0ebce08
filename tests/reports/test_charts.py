from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pandas as pd
import pytest

from smaug_eval.reports.charts.lines import (
    MAX_LABEL,
    MAX_POINTS,
    Scale,
    legend_label,
    log_ratio_chart,
    shared_scale,
    thinned,
)
from smaug_eval.results.trainings import Training


def training(name: str, chosen: Sequence[float], rejected: Sequence[float]) -> Training:
    rows = [
        {"split": split, "step": step, "log_ratios/chosen": up, "log_ratios/rejected": down}
        for split in ("train", "eval")
        for step, (up, down) in enumerate(zip(chosen, rejected, strict=True))
    ]
    return Training(name, pd.DataFrame(rows), {})


def chart(name: str = "dpo", key: str = "k") -> str:
    each = training(name, [0, -1], [0, -4])
    return log_ratio_chart(each, shared_scale([each]), key=key, title=f"Training {name}", description="Falls & falls")


def test_one_linear_scale_holds_every_curve_and_zero() -> None:
    scale = shared_scale([training("a", [0, -1], [0, -4]), training("b", [0, 2], [0, -1])])
    assert scale.linear_within is None
    # -4 to 2 is a range of 6, with 6% of it on either side.
    assert scale == pytest.approx(Scale(-4.36, 2.36, None))


def test_curves_of_very_different_size_are_shown_logarithmically() -> None:
    scale = shared_scale([training("a", [0, 0.5], [0, -0.3]), training("b", [0, -10], [0, -400])])
    assert scale.linear_within == pytest.approx(0.1)
    assert scale.low < -400
    assert scale.high >= 0.5


def test_logarithmic_charts_are_labelled_with_plain_numbers() -> None:
    each = training("a", [0, 0.5], [0, -400])
    svg = log_ratio_chart(each, shared_scale([each]), key="k", title="t", description="d")
    texts = {"".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter("text")}  # noqa: S314
    assert {"−100", "−1", "0"} <= texts
    assert not [text for text in texts if "$" in text]


def test_a_flat_start_still_has_a_scale() -> None:
    scale = shared_scale([training("a", [0], [0])])
    assert scale.low < 0 < scale.high
    assert shared_scale([]) == Scale(-1.0, 1.0, None)


def test_thinning_averages_neighbours() -> None:
    values = pd.Series(range(10), index=range(0, 20, 2), dtype=float)
    assert thinned(values, 10) is values
    short = thinned(values, 4)
    assert list(short) == [1.0, 4.0, 7.0, 9.0]
    assert list(short.index) == [4, 10, 16, 18]
    assert len(thinned(pd.Series(range(100_001)))) <= MAX_POINTS


def test_a_chart_stands_alone_in_the_page() -> None:
    svg = chart()
    root = ElementTree.fromstring(svg)  # noqa: S314
    assert root.tag == "svg"
    assert "viewBox" in root.attrib
    assert root.attrib.keys().isdisjoint({"width", "height"})
    assert not [each for each in root.iter() if each.tag in {"style", "metadata", "script", "image"}]
    assert "http" not in svg
    assert not re.search("#0[1-4]0[1-4]0[1-4]", svg)
    assert "var(--chosen)" in svg
    assert "currentColor" in svg


def test_a_chart_has_a_text_alternative() -> None:
    root = ElementTree.fromstring(chart("a<b>"))  # noqa: S314
    assert root.attrib["role"] == "img"
    texts = {each.attrib["id"]: each.text for each in root if each.tag in {"title", "desc"}}
    assert [texts[name] for name in root.attrib["aria-labelledby"].split()] == ["Training a<b>", "Falls & falls"]


def test_ids_of_two_charts_differ_and_references_lead_to_them() -> None:
    first, second = (ElementTree.fromstring(chart(key=key)) for key in ("one", "two"))  # noqa: S314
    ids = [[each.attrib["id"] for each in root.iter() if "id" in each.attrib] for root in (first, second)]
    assert not set(ids[0]) & set(ids[1])
    assert len(ids[0]) == len(set(ids[0]))
    values = [value for each in first.iter() for value in each.attrib.values()]
    targets = {
        target
        for value in values
        for target in re.findall(r"url\(#([^)]+)\)|^#(.+)", value)
        for target in target
        if target
    }
    assert targets
    assert targets <= set(ids[0])


def test_names_are_text_and_not_formulas_or_markup() -> None:
    svg = chart("$x^{</svg><script>alert(1)</script>\x00")
    assert "<script" not in svg
    assert "⟨U+0000⟩" in svg
    ElementTree.fromstring(svg)  # noqa: S314


def test_long_names_keep_beginning_and_end_in_legends() -> None:
    name = "organisation/a-very-long-model-name-with-many-parts-dpop-step-1000"
    shown = legend_label(name)
    assert len(shown) <= MAX_LABEL
    assert (shown[:12], shown[-9:]) == ("organisation", "step-1000")
    assert "…" in shown
    assert legend_label("dpop") == "dpop"
    assert legend_label("_hidden").strip() == "_hidden"
