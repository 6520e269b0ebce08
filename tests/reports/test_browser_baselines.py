"""The choice of the baseline, sorted and filtered tables, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.reports import build_report
from tests.reports.browsing import IN_A_BROWSER, Visit
from tests.reports.test_baselines import VALUES, fill
from tests.reports.test_browser import judge, judgment

pytestmark = IN_A_BROWSER
Open = Callable[..., Visit]

SUBJECTS = ("anatomy", "astronomy", "econometrics", "philosophy", "virology", "marketing", "nutrition", "prehistory",
            "management", "sociology", "security_studies", "jurisprudence", "global_facts")  # fmt: skip


@pytest.fixture(scope="module")
def pages(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of one run, one with each model as the baseline."""
    folder = tmp_path_factory.mktemp("choice")
    run = run_writer(folder / "study")
    fill(run)
    for model in VALUES:
        for number, subject in enumerate(SUBJECTS):
            values = VALUES[model][number:] + VALUES[model][:number]
            task = f"open_llm_v1_mmlu_{subject}"
            run.evaluation(model, {task: sum(values) / 20}, n=20, samples=run.samples(values, "acc"))
    scores = {"base": (4, 6, 5), "dpo": (5, 7, 3), "dpop": (6, 8, 6)}
    judge(run, *(judgment(81 + n, name, each, "") for name, own in scores.items() for n, each in enumerate(own)))
    return {
        model: build_report([run.path], folder / f"{model}.html", baseline=model, title="Three models")
        for model in VALUES
    }


SHOWN = """() => Object.fromEntries([...document.querySelectorAll("main section")].filter((each) => !each.hidden).map(
  (section) => [section.id, [...section.querySelectorAll("tr")].filter((row) => !row.closest(".item")).map(
    (row) => [...row.cells].map((cell) => cell.textContent.replace(/\\s+/g, " ").trim()).sort().join("|")
  ).sort()]))"""
TEXTS = """() => Object.fromEntries([...document.querySelectorAll("main section")].filter((each) => !each.hidden).map(
  (section) => [section.id, [...section.querySelectorAll("p:not(.copy, .narrow), figcaption, desc, summary, li")]
    .filter((each) => !each.closest(".item")).map((each) => each.textContent.replace(/\\s+/g, " ").trim()).sort()]))"""
ITEMS = """() => Object.fromEntries([...document.querySelectorAll(".item[data-outcome]")].map((item) => [item.id,
  [...item.querySelectorAll(":scope > summary .tag")].map((tag) => tag.parentElement.textContent.trim()).sort()]))"""


def test_the_switch_shows_every_number_of_the_other_report(visit: Open, pages: dict[str, Path]) -> None:
    page = visit().open(pages["base"])
    before = (page.evaluate(SHOWN), page.evaluate(TEXTS), page.evaluate(ITEMS))
    for chosen in ("dpo", "dpop"):
        page.locator("#baseline").select_option(label=chosen)
        other = visit().open(pages[chosen])
        mine, theirs = page.evaluate(SHOWN), other.evaluate(SHOWN)
        assert mine.keys() == theirs.keys()
        for section in mine:
            assert mine[section] == theirs[section], (chosen, section)
        texts, other_texts = page.evaluate(TEXTS), other.evaluate(TEXTS)
        for section in ("headline", "pairs", "matrix", "scores", "warnings", "differences", "dialogues", "subjects"):
            assert texts.get(section) == other_texts.get(section), (chosen, section)
        assert page.evaluate(ITEMS) == other.evaluate(ITEMS)
        assert page.locator(".chip", has_text=chosen).first.inner_text().split() == [chosen, "baseline"]
        assert page.locator(".chip small:visible").count() == 1
    page.locator("#baseline").select_option(label="base")
    assert (page.evaluate(SHOWN), page.evaluate(TEXTS), page.evaluate(ITEMS)) == before


def test_flips_against_the_chosen_baseline_are_found(visit: Open, pages: dict[str, Path]) -> None:
    """dpop gains 1 to 5 and 11 to 16 of ARC's documents against dpo; base gains 0 to 5."""
    seen = visit()
    page = seen.open(pages["base"])
    page.locator("#baseline").select_option(label="dpo")
    page.locator("#samples tr", has_text="open_llm_v1: ARC").filter(has_text="dpop").locator("td a").first.click()
    page.get_by_text("11 of the").wait_for()
    names = sorted(int(text.split(" ")[1]) for text in seen.shown())
    assert names == [1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16]
    assert all("dpop gained" in text for text in seen.shown())
    outcome = page.locator("#samples [name=outcome]")
    assert "lost, base" in outcome.inner_text()
    assert "lost, dpo\n" not in outcome.inner_text()


def test_the_address_keeps_the_baseline(visit: Open, pages: dict[str, Path]) -> None:
    page = visit().open(pages["base"])
    page.locator("#baseline").select_option(label="dpop")
    page.locator("#samples [name=q]").fill("q")
    page.wait_for_url("**#samples?*baseline=dpop*")
    again = visit().open(pages["base"], page.evaluate("location.hash"))
    assert again.locator("#baseline option:checked").inner_text() == "dpop"
    assert again.locator("#samples [name=q]").input_value() == "q"
    assert "than dpop" in again.locator("#headline").inner_text()
    again.locator("nav a[href='#differences']").click()
    assert again.locator("#baseline option:checked").inner_text() == "dpop"


def column(page: Any, table: str, place: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr > :nth-child({place})").all_inner_texts()
    return [each.split("\n")[0].split(" ")[0] for each in cells]


def test_tables_sort_by_click_and_by_key(visit: Open, pages: dict[str, Path]) -> None:
    page = visit().open(pages["base"])
    table = "#scores table:first-of-type"
    head = page.locator(f"{table} thead th", has_text="ARC")
    assert column(page, table, 1) == ["base", "dpo", "dpop"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, table, 1) == ["dpo", "base", "dpop"]  # 25, 50 and 80 percent
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, table, 1) == ["dpop", "base", "dpo"]
    first = page.locator(f"{table} thead th").first
    first.get_by_role("button").focus()
    page.keyboard.press("Space")
    assert (first.get_attribute("aria-sort"), head.get_attribute("aria-sort")) == ("ascending", None)
    assert column(page, table, 1) == ["base", "dpo", "dpop"]
    # what is shown anew can be sorted, too
    page.locator("#baseline").select_option(label="dpop")
    page.locator(f"{table} thead th", has_text="ARC").get_by_role("button").click()
    assert column(page, table, 1) == ["dpo", "base", "dpop"]


def test_long_tables_are_narrowed_to_some_rows(visit: Open, pages: dict[str, Path]) -> None:
    page = visit().open(pages["base"])
    page.locator("#tasks details > summary", has_text="MMLU").click()
    part = page.locator("#tasks details", has_text="MMLU")
    rows = part.locator("tbody tr:visible")
    assert rows.count() == len(SUBJECTS)
    part.get_by_role("searchbox").fill("philo")
    part.get_by_text(f"1 of {len(SUBJECTS)} rows").wait_for()
    assert rows.count() == 1
    assert "philosophy" in rows.first.inner_text()
    part.get_by_role("searchbox").fill("")
    assert rows.count() == len(SUBJECTS)
    assert page.locator("#scores .narrow").count() == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_with_another_baseline_is_accessible(
    visit: Open,
    pages: dict[str, Path],
    scheme: str,
    width: int,
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra 'browser'")
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 900}).open(pages["base"])
    page.locator("#baseline").select_option(label="dpo")
    page.locator("#scores thead th", has_text="ARC").first.get_by_role("button").click()
    page.evaluate("document.querySelectorAll('details:not(.item)').forEach((each) => { each.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_in_short_stands_above_the_fold(visit: Open, pages: dict[str, Path]) -> None:
    page = visit().open(pages["base"])
    assert "dpop is best on" in page.locator("#headline .lead").first.inner_text()
    for part in ("#headline .lead", "#headline svg", "#baseline"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= 900


def test_print_and_no_script(visit: Open, pages: dict[str, Path]) -> None:
    page = visit().open(pages["base"])
    page.locator("#baseline").select_option(label="dpo")
    page.emulate_media(media="print")
    assert not page.locator(".choice").is_visible()
    assert not page.locator(".narrow").first.is_visible()
    assert "than dpo" in page.locator("#headline").inner_text()
    plain = visit(java_script_enabled=False).open(pages["dpo"])
    assert not plain.locator(".choice").is_visible()
    assert plain.locator(".sort").count() == 0
    assert "than dpo" in plain.locator("#headline").inner_text()
    assert plain.locator("#samples tr", has_text="ARC").count() == 2
