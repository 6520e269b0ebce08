"""The leaderboard page in a real browser: sorting, searching, filters, permalinks, and 12,000 rows."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.leaderboard.v1 import SUITE
from smaug_eval.reports.board import build_board
from tests.reports.browsing import IN_A_BROWSER, Visit
from tests.reports.test_board import HOSTILE, archive

pytestmark = IN_A_BROWSER

MANY = 12_000
KINDS = ("🟢 pretrained", "💬 chat models (RLHF, DPO, IFT, ...)", "🤝 base merges and moerges")


@pytest.fixture(scope="module")
def home(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a trained model, in a folder for pages."""
    folder = tmp_path_factory.mktemp("board")
    run = run_writer(folder / "mine")
    run.manifest(
        created="2026-11-20T10:00:00+00:00",
        models={"base": {"source": "org/base"}, "dpop": {"dtype": "bfloat16"}},
        recipe={"trainings": {"dpop": {"loss": "dpop", "beta": 0.3}}},
    )
    for model, level in (("base", 0.62), ("dpop", 0.665)):
        for column in SUITE.columns:
            run.evaluation(
                model, {leaf.name: level for leaf in column.leaves}, metric=column.metric, n=400, available=400
            )
    (run.path / "report.html").write_text("<!DOCTYPE html>")
    return folder


@pytest.fixture(scope="module")
def board(home: Path) -> Path:
    """A page of 400 rows of every kind, hostile names among them."""
    draw = random.Random(7)
    rows: list[tuple[str, float, dict[str, Any]]] = [
        (
            f"org{place % 7}/model-{place}",
            round(draw.uniform(20, 85), 2),
            {
                "size": draw.choice([1, 3, 7, 13, 34, 70]),
                "precision": draw.choice(["float16", "bfloat16", "4bit"]),
                "type": draw.choice(KINDS),
                "kept": str(place % 50 != 0),
                "no_merge": str(place % 9 != 0),
            },
        )
        for place in range(399)
    ]
    rows.append((HOSTILE, 99, {}))
    return build_board(
        [home / "mine"], home / "board.html", archive_file=archive(home / "rows.csv", rows), title=HOSTILE
    )


@pytest.fixture(scope="module")
def large(home: Path) -> Path:
    """A page of 12,000 archived rows with names as long as the leaderboard's."""
    draw = random.Random(11)
    rows: list[tuple[str, float, dict[str, Any]]] = [
        (
            f"organisation-{draw.randrange(900)}/Some-Model-{draw.choice(['7B', '13B', '70B'])}-Instruct-v{place}",
            round(draw.uniform(28, 82), 2),
            {"size": draw.choice([1, 3, 7, 13, 34, 70]), "type": draw.choice(KINDS)},
        )
        for place in range(MANY)
    ]
    return build_board([home / "mine"], home / "large.html", archive_file=archive(home / "many.csv", rows))


def column(page: Any, key: str) -> list[str]:
    """The texts of a column's cells in sight, first line of each."""
    places = page.locator("#board thead th").evaluate_all("cells => cells.map(cell => cell.dataset.key)")
    rows = page.locator("#board tbody tr:not(.space)")
    found: list[str] = rows.evaluate_all(f"rows => rows.map(row => row.cells[{places.index(key)}].innerText)")
    return [text.split("\n")[0].rstrip("*") for text in found]


def said(page: Any) -> str:
    return str(page.locator("#controls output").inner_text())


def test_a_click_on_a_head_sorts_all_rows(visit: Callable[..., Visit], board: Path) -> None:
    page = visit().open(board)
    assert said(page) == "402 of 402 rows"
    shown = [float(text) for text in column(page, "Average")]
    assert shown[0] == 99
    assert shown == sorted(shown, reverse=True)
    head = page.locator("#board th[data-key=Average]")
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    shown = [float(text) for text in column(page, "Average")]
    assert shown == sorted(shown)
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#board th[data-key=model] button").click()
    names = column(page, "model")
    assert names[1:] == sorted(names[1:], key=lambda name: name.lstrip("◆ ").lower())
    assert head.get_attribute("aria-sort") is None
    page.locator("#board th[data-key=size] button").click()
    assert set(column(page, "size")) == {"70"}  # rows without a size come last, whichever way
    page.locator("#board th[data-key=size] button").click()
    assert set(column(page, "size")) == {"1"}


def test_rows_come_as_they_are_scrolled_to(visit: Callable[..., Visit], board: Path) -> None:
    page = visit().open(board)
    frame = page.locator(".window")
    assert page.locator("#board tbody tr").count() < 80
    frame.evaluate("frame => { frame.scrollTop = frame.scrollHeight; }")
    page.locator("#board tbody tr[aria-rowindex='403']").wait_for()
    shown = [float(text) for text in column(page, "Average")]
    assert shown == sorted(shown, reverse=True)
    assert page.locator("#board").get_attribute("aria-rowcount") == "403"


def test_search_and_filters_find_rows(visit: Callable[..., Visit], board: Path) -> None:
    page = visit().open(board)
    page.locator("[name=q]").fill("ORG3 model-1")
    expected = [f"org3/model-{place}" for place in range(399) if place % 7 == 3 and str(place)[0] == "1"]
    assert sorted(column(page, "model")) == sorted(expected)
    page.get_by_role("button", name="clear").click()
    page.locator("#controls output", has_text=re.compile(r"^402 of 402 rows$")).wait_for()
    page.locator("#filters summary").click()
    page.get_by_label("pretrained").check()
    page.get_by_label("bfloat16").check()
    assert set(column(page, "type")) == {"pretrained"}
    assert set(column(page, "precision")) == {"bfloat16"}
    page.locator("[name=min]").fill("10")
    page.locator("[name=max]").fill("40")
    assert set(column(page, "size")) == {"13", "34"}
    page.get_by_role("button", name="clear").click()
    page.locator("[name=flag-flagged]").select_option("only")
    page.locator("#controls output", has_text=re.compile(r"^8 of 402 rows$")).wait_for()
    assert set(column(page, "flags")) <= {"flagged", "flagged, merge"}
    page.locator("[name=flag-merged]").select_option("no")
    assert set(column(page, "flags")) == {"flagged"}
    page.get_by_role("button", name="clear").click()
    page.get_by_label("own models only").check()
    assert column(page, "model") == ["◆ mine/dpop", "◆ mine/base"]
    assert "66.50" in column(page, "Average")


def test_own_rows_are_marked_with_interval_rank_range_and_report(visit: Callable[..., Visit], board: Path) -> None:
    page = visit().open(board, "#q=mine%2Fdpop")
    row = page.locator("#board tbody tr.own")
    assert row.count() == 1
    text = row.inner_text()
    static = page.locator("#own tbody tr").first
    interval = static.locator("td small").first.inner_text()
    assert interval in text
    low, high = static.locator("td").nth(1).inner_text().split(" to ")
    assert f"{low}–{high}" in text
    whole = "cell => cell.scrollWidth <= cell.clientWidth"
    assert all(each.evaluate(whole) for each in row.locator("td small").all())
    assert row.get_by_role("link", name="mine").get_attribute("href") == "mine/report.html"
    assert "dpop, beta 0.3" in text


def test_the_address_holds_the_view(visit: Callable[..., Visit], board: Path) -> None:
    page = visit().open(board)
    page.locator("[name=q]").fill("model")
    page.locator("#filters summary").click()
    page.get_by_label("~7", exact=True).check()
    page.locator("#columns summary").click()
    page.locator("[name=column][value=GSM8K]").uncheck()
    page.locator("#board th[data-key=ARC] button").click()
    page.locator("[name=flag-merged]").select_option("no")
    fragment = page.evaluate("location.hash")
    assert page.locator("#link").get_attribute("href") == fragment
    again = visit().open(board, fragment)
    assert column(again, "model") == column(page, "model") != []
    assert again.locator("[name=q]").input_value() == "model"
    assert again.get_by_label("~7", exact=True).is_checked()
    assert again.locator("#board th[data-key=GSM8K]").count() == 0
    assert again.locator("#board th[data-key=ARC]").get_attribute("aria-sort") == "descending"
    again.evaluate("location.hash = '#q=nothing-has-this-name&sort=%2Bno-column&class=no-class'")
    again.locator("#controls output", has_text=re.compile(r"^0 of 402 rows$")).wait_for()


def test_names_stay_text(visit: Callable[..., Visit], board: Path) -> None:
    page = visit().open(board)
    first = page.locator("#board tbody th").first
    assert "</script><script>" in first.inner_text()
    page.locator("[name=q]").fill("<img")
    assert said(page) == "1 of 402 rows"
    assert page.evaluate("window.hit") == 0
    assert page.locator("img, iframe, object, embed, link, base").count() == 0
    assert page.locator("script").count() == 2
    page.locator("#picture canvas").hover()


def test_the_picture_draws_the_rows_shown(visit: Callable[..., Visit], board: Path) -> None:
    page = visit().open(board)
    copied = """() => { const c = document.querySelector('#picture canvas'), made = document.createElement('canvas');
        [made.width, made.height] = [c.width, c.height];
        const pen = made.getContext('2d', { willReadFrequently: true });
        pen.drawImage(c, 0, 0);
        const d = pen.getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"""
    page.locator("#picture").scroll_into_view_if_needed()
    page.locator("#picture figcaption", has_text="400 rows").wait_for()
    every = page.evaluate(copied)
    page.locator("[name=q]").fill("org3/")
    page.locator("#picture figcaption", has_text="57 rows").wait_for()
    assert 0 < page.evaluate(copied) < every


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_board_has_no_serious_violation_of_accessibility(
    visit: Callable[..., Visit], board: Path, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra 'browser'")
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 900}).open(board)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_board_needs_no_sideways_scrolling(visit: Callable[..., Visit], board: Path, width: int) -> None:
    page = visit(viewport={"width": width, "height": 900}).open(board)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    name = page.locator("#board tbody th").first
    page.locator(".window").evaluate("frame => { frame.scrollLeft = 300; }")
    assert name.bounding_box()["x"] >= 0  # the name stays in sight


def test_without_scripts_first_rows_and_own_models_are_a_table(visit: Callable[..., Visit], board: Path) -> None:
    page = visit(java_script_enabled=False).open(board)
    assert not page.locator("#controls").is_visible()
    assert page.locator("#board tbody tr").count() == 50
    assert page.locator("#own tbody th").all_inner_texts() == ["mine/dpop", "mine/base"]
    assert page.get_by_text("the first 50 of 402 rows").is_visible()


def test_an_index_sorts_and_links_to_reports(visit: Callable[..., Visit], home: Path) -> None:
    page = visit().open(build_board([home], home / "index.html"))
    assert column(page, "model") == ["dpop", "base"]
    page.locator("#board th[data-key='open_llm_v1/Average'] button").click()
    assert column(page, "model") == ["base", "dpop"]
    assert page.locator("#board tbody a").first.get_attribute("href") == "mine/report.html"
    assert column(page, "recipe") == ["", "dpop, beta 0.3"]
    assert not page.locator("#picture").is_visible()


def test_twelve_thousand_rows_sort_and_search_at_once(visit: Callable[..., Visit], large: Path, board: Path) -> None:
    """A sort or a search is one pass over the rows and draws those in sight: 30 times the rows take little longer."""
    assert large.stat().st_size < 3_000_000
    measure = """async () => {
        const idle = () => new Promise((done) => setTimeout(done, 30));
        const q = document.querySelector('[name=q]'), took = [];
        const timed = async (act) => {
            await idle();
            const start = performance.now();
            act();
            document.getElementById('board').offsetHeight;
            took.push(performance.now() - start);
        };
        for (let round = 0; round < 4; round += 1) {
            for (const text of ['s', '7b', '']) {
                await timed(() => { q.value = text; q.dispatchEvent(new Event('input', { bubbles: true })); });
            }
            for (const key of ['model', 'ARC', 'Average']) {
                await timed(() => document.querySelector(`#board th[data-key="${key}"] button`).click());
            }
        }
        return took.sort((a, b) => a - b);
    }"""
    page = visit().open(large)
    assert said(page) == f"{MANY + 2:,} of {MANY + 2:,} rows"
    assert page.locator("#board tbody tr").count() < 80
    many = page.evaluate(measure)
    few = visit().open(board).evaluate(measure)
    print(f"median of {MANY:,} rows {many[len(many) // 2]:.0f} ms, of 402 rows {few[len(few) // 2]:.0f} ms, {many=}")
    assert many[len(many) // 2] < 8 * few[len(few) // 2] + 50
    page.locator(".window").evaluate("frame => { frame.scrollTop = frame.scrollHeight; }")
    page.locator(f"#board tbody tr[aria-rowindex='{MANY + 3}']").wait_for()
