"""The page in a real browser: Chromium, driven by Playwright. ``make test-report`` installs what this needs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.mt_bench.files.layout import judgments_stage, settings_file
from smaug_eval.mt_bench.files.records import JudgmentRecord, PairJudgmentRecord, RecordWriter
from smaug_eval.reports import build_report
from smaug_eval.reports.panels import PANELS
from tests.reports.browsing import IN_A_BROWSER, Visit
from tests.results.others import STAMP, accuracy, generated, lines, newest, write

pytestmark = IN_A_BROWSER

CHOICES, SOLUTIONS = "open_llm_v1_arc_challenge", "open_llm_v1_gsm8k"
SHOT = "Question: a worked example\nAnswer: yes\n\n"
RIGHT = "She buys 3 * 4 = 12 eggs.\n#### 12"
WRONG = "She buys 3 * 4 = 16 eggs.\n#### 16"
FORMULA = '=1+1, "x"|y'

# Each would leave a trace if it ever ran: a mark on the window, a dialogue, a request, a line on the console.
HOSTILE = [
    "<script>window.hit = 1; alert(1)</script>",
    "</script><script>window.hit = 1</script>",
    "</style></pre></details><img src=x onerror=window.hit=1>",
    "\"><img src='https://example.org/x.png' onerror='window.hit=1'>",
    "' onfocus='window.hit=1' autofocus='",
    "]]>--><svg onload=window.hit=1>",
    "javascript:window.hit=1",
    "{{ 7 * 7 }}{% raw %}${7*7}`",
    "abc\u202egnp.exe \u2066x\u2069",
    "nul\x00byte \u2028 \ufeff",
    "=HYPERLINK(1)",
]


def choice(
    number: int, question: str, texts: tuple[str, str], values: tuple[float, float], right: int
) -> dict[str, Any]:
    pairs = [[str(value), "False"] for value in values]
    picked = int(values[1] / len(texts[1]) > values[0] / len(texts[0]))
    return {
        "doc_id": number, "doc": {"query": question, "gold": right}, "target": str(right),
        "arguments": {f"gen_args_{i}": {"arg_0": SHOT + question, "arg_1": f" {text}"} for i, text in enumerate(texts)},
        "resps": [[pair] for pair in pairs], "filtered_resps": pairs, "filter": "none", "metrics": ["acc_norm"],
        "doc_hash": f"c{number}", "prompt_hash": "p", "target_hash": "t", "acc_norm": float(picked == right),
    }  # fmt: skip


def solution(number: int, question: str, text: str) -> dict[str, Any]:
    return {
        "doc_id": number, "doc": {"query": question, "answer": RIGHT, "gold": "12"}, "target": RIGHT,
        "arguments": {"gen_args_0": {"arg_0": SHOT + question, "arg_1": {"until": [":"]}}}, "resps": [[text]],
        "filtered_resps": [text], "filter": "none", "metrics": ["acc"], "doc_hash": f"s{number}", "prompt_hash": "p",
        "target_hash": "t", "acc": float(text == RIGHT),
    }  # fmt: skip


def judge(run: Any, *records: Any, title: str = "MT-Bench") -> None:
    path = run.path / judgments_stage("main", "all") / "judge_single.jsonl"
    with RecordWriter(path) as writer:
        for record in records:
            writer.append(record)
    settings = {"judge": "gpt-4-0613", "question_set": title, "references": "original", "missing": [], "not_judged": []}
    settings_file(path).write_text(json.dumps(settings))


def judgment(question: int, model: str, score: float, text: str, prompt: str = "[Question]\nWhy?") -> JudgmentRecord:
    return JudgmentRecord(
        question, model, ("gpt-4-0613", "single-v1"), prompt, text, score, 1, 0.0, {"category": "math"}
    )


def fill(run: Any) -> Path:
    """A run with every panel: three choices (one lost, one gained), four solutions of which one is lost."""
    run.manifest(
        models={"base": {"sha256": "0" * 64}}, packages={"torch": "2.13"}, warnings=["HellaSwag is not official"]
    )
    questions = ["Which is red?", "Which is green?", "Which is blue?"]
    options = {
        "base": [((-1.0, -9.0), 0), ((-1.0, -9.0), 1), ((-9.0, -1.0), 1)],
        FORMULA: [((-9.0, -1.0), 0), ((-9.0, -1.0), 1), ((-9.0, -1.0), 1)],
    }
    solutions = {"base": [RIGHT, RIGHT, WRONG, "She buys eggs and"], FORMULA: [WRONG, RIGHT, WRONG, "12."]}
    for model, scored in options.items():
        choices = [
            choice(i, question, ("this", "that"), values, right)
            for i, (question, (values, right)) in enumerate(zip(questions, scored, strict=True))
        ]
        solved = [solution(i, f"How many eggs {i}?", text) for i, text in enumerate(solutions[model])]
        run.evaluation(model, {CHOICES: 2 / 3}, metric="acc_norm", n=3, samples=choices)
        run.evaluation(model, {SOLUTIONS: 0.5}, n=4, samples=solved)
    run.training(
        "dpo", {"train": [(0, 0.0, 0.0), (9, -2.0, -9.0)], "eval": [(0, 0.0, 0.0), (9, -1.5, -8.0)]}, {"loss": "dpo"}
    )
    judge(
        run,
        judgment(81, "base", 9, "Correct. [[9]]"), judgment(81, FORMULA, 3, "The sum is wrong. [[3]]"),
        judgment(82, "base", 5, "So so. [[5]]"), judgment(82, FORMULA, 5, "So so. [[5]]"),
    )  # fmt: skip
    return run.path  # type: ignore[no-any-return]


def fill_with_hostile_text(run: Any) -> Path:
    every = " ".join(HOSTILE)
    names = [name.replace("/", "\\").replace("\0", "") for name in (*HOSTILE, "x".join(HOSTILE[:3]))]
    run.manifest(
        name=every, recipe={each: [each] for each in HOSTILE}, warnings=HOSTILE, models={every: {"path": every}}
    )
    for model in ("base", *names[:2], names[-1]):
        choices = [
            choice(i, text, (text, text + "2"), (-1.0, -9.0), i % 2) | {"doc_id": text}
            for i, text in enumerate(HOSTILE)
        ]
        solved = [
            solution(i, text, (text if model == "base" else every) + "\n#### 1") for i, text in enumerate(HOSTILE)
        ]
        run.evaluation(model, {CHOICES: 0.5}, metric="acc_norm", n=len(HOSTILE), samples=choices, model_name=every)
        run.evaluation(model, {SOLUTIONS: 0.5}, n=len(HOSTILE), samples=solved)
    run.training("dpo", {"eval": [(0, 0.0, 0.0), (9, -1.0, -2.0)]}, {"loss": every, "formula": every, "beta": every})
    judge(
        run,
        *(judgment(i, name, -1, text + "?", text) for i, text in enumerate(HOSTILE) for name in ("base", text)),
        title=every,
    )
    pair = PairJudgmentRecord(1, "base", every, "error", "tie", (every, every), every, every, every, every, 1)
    with RecordWriter(run.path / judgments_stage("main", "pairs") / "judge_pair.jsonl") as writer:
        writer.append(pair)
    return run.path  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def study(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with every panel that its data allow."""
    folder = tmp_path_factory.mktemp("study")
    return build_report([fill(run_writer(folder / "study"))], folder / "report.html")


@pytest.fixture(scope="module")
def hostile(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same panels, with hostile text wherever text can stand."""
    folder = tmp_path_factory.mktemp("hostile")
    run = fill_with_hostile_text(run_writer(folder / "study"))
    return build_report([run], folder / "report.html", title=" ".join(HOSTILE))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results that others made: long names, groups, an own unit, and answers that the warnings link to."""
    folder = tmp_path_factory.mktemp("theirs")
    names = [f"a-rather-long-organisation/a-rather-long-model-name-8B-{end}" for end in ("Base", "Instruct", "DPO")]
    members = [f"subjects_of_a_benchmark_{name}" for name in ("anatomy", "chemistry", "law", "philosophy")]
    for place, name in enumerate(names):
        tasks = {
            "a_task_with_a_long_name_and_generated_answers": accuracy(0.5, 0.1, "exact_match,a-long-filter"),
            "subjects_of_a_benchmark": accuracy(0.4 + 0.1 * place, 0.02),
            "lambada": accuracy(12.0 + place, 0.2, "word_perplexity,none"),
            **{member: accuracy(0.4 + 0.1 * place, 0.04) for member in members},
        }
        home = folder / "in" / str(place)
        document = newest(tasks, model=name, n=100, group_subtasks={"subjects_of_a_benchmark": members})
        write(home / f"results_{STAMP}.json", document)
        rows = [generated(n, " " if n % 2 else "x", 0.0, filter="a-long-filter") for n in range(100)]
        own = home / f"samples_a_task_with_a_long_name_and_generated_answers_{STAMP}.jsonl"
        write(own, lines([{**row, "exact_match": float(row["doc_id"] < 50)} for row in rows]))
    return build_report([folder / "in"], folder / "report.html")


def test_the_page_opens_from_disk_with_every_panel(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study)
    built = {section.get_attribute("id") for section in page.locator("section").all()}
    assert {"headline", "scores", "dialogues", "training", "tasks", "samples", "judgments", "provenance"} <= built
    assert built <= set(PANELS)


def test_a_filter_finds_what_was_lost(visit: Callable[..., Visit], study: Path) -> None:
    seen = visit()
    page = seen.open(study)
    assert seen.shown() == []
    page.locator("#samples [name=outcome]").select_option("lost")
    page.get_by_text("2 of the 7 on this page").wait_for()
    assert [text.split(" lost")[0] for text in seen.shown()] == [f"{CHOICES} 0", f"{SOLUTIONS} 0"]
    page.locator("#samples [name=task]").select_option(label="open_llm_v1: GSM8K")
    page.get_by_text("1 of the 7 on this page").wait_for()
    assert len(seen.shown()) == 1
    page.locator("#samples [name=outcome]").select_option("gained")
    page.get_by_text("0 of the 7 on this page").wait_for()
    assert seen.shown() == []
    page.locator("#samples").get_by_role("button", name="clear").click()
    page.locator("#samples [name=kind]").select_option("0:cut-short")
    page.get_by_text("1 of the 7 on this page").wait_for()
    assert seen.shown()[0].startswith(f"{SOLUTIONS} 3")


def test_search_finds_text_but_not_in_the_worked_examples(visit: Callable[..., Visit], study: Path) -> None:
    seen = visit()
    page = seen.open(study)
    search = page.locator("#samples [name=q]")
    search.fill("GREEN which")
    page.get_by_text("1 of the 7 on this page").wait_for()
    assert "Which is green?" in seen.shown()[0]
    search.fill("worked")
    page.get_by_text("0 of the 7 on this page").wait_for()
    search.fill("")
    page.locator("#samples output:empty").wait_for(state="attached")
    assert seen.shown() == []


def test_a_flip_opens_its_two_generations(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study, "#samples?outcome=lost&task=1")
    page.locator("#samples .item:not([hidden]) > summary").click()
    answers = page.locator("#samples .item[open] .answer")
    assert [answers.nth(i).locator("strong").inner_text() for i in range(2)] == ["base", FORMULA]
    assert [answers.nth(i).locator("pre").inner_text() for i in range(2)] == [RIGHT, WRONG]
    assert [answers.nth(i).locator("mark").all_inner_texts() for i in range(2)] == [["12", "12"], ["16", "16"]]
    assert "wrong number after ####" in answers.nth(1).inner_text()


def test_the_address_holds_the_state_and_brings_it_back(visit: Callable[..., Visit], study: Path) -> None:
    first = visit()
    page = first.open(study)
    page.locator("#samples [name=q]").fill("eggs 1?")
    page.get_by_text("1 of the 7 on this page").wait_for()
    page.locator("#samples .item:not([hidden]) > summary").first.click()
    page.wait_for_url(f"**?*at=sample-{SOLUTIONS}-1")
    fragment = page.evaluate("location.hash")
    second = visit()
    again = second.open(study, fragment)
    assert again.locator("#samples [name=q]").input_value() == "eggs 1?"
    assert second.shown() == first.shown() != []
    assert again.locator("#samples .item[open]").count() == 1


def test_a_link_leads_to_one_sample(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study, f"#sample-{SOLUTIONS}-2")
    page.locator(f"#sample-{SOLUTIONS}-2[open] .answers").wait_for()
    assert page.locator(".item[open]").count() == 1
    assert page.evaluate("document.activeElement.parentElement.id") == f"sample-{SOLUTIONS}-2"


def test_the_keyboard_moves_and_opens(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study, "#samples?outcome=lost")
    page.locator("#samples [name=q]").focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator(f"#sample-{CHOICES}-0[open]").wait_for()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator(f"#sample-{SOLUTIONS}-0[open]").wait_for()
    for key in ("ArrowUp", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    page.locator(f"#sample-{CHOICES}-0:not([open])").wait_for()


def test_numbers_lead_to_the_entries_that_they_count(visit: Callable[..., Visit], study: Path) -> None:
    seen = visit()
    page = seen.open(study)
    page.locator("#samples tr", has_text="open_llm_v1: GSM8K").first.locator("td").nth(2).locator("a").click()
    page.get_by_text("1 of the 7 on this page").wait_for()
    assert [text.split(" lost")[0] for text in seen.shown()] == [f"{SOLUTIONS} 0"]
    page.locator("#samples tr", has_text=SOLUTIONS).first.get_by_role("link").last.click()  # cut short, by the baseline
    page.get_by_text(f"{SOLUTIONS} 3").first.wait_for()
    assert [text.split(" both")[0] for text in seen.shown()] == [f"{SOLUTIONS} 3"]
    page.locator("#scores a", has_text="3").first.click()
    page.get_by_text("3 of the 7 on this page").wait_for()
    assert all(text.startswith(CHOICES) for text in seen.shown())
    page.locator("#differences details > summary").click()
    page.locator("#differences tr", has_text="ARC").get_by_role("link").first.click()  # the document gained
    page.get_by_text("1 of the 7 on this page").wait_for()
    assert [text.split(" gained")[0] for text in seen.shown()] == [f"{CHOICES} 1"]
    page.locator("#dialogues thead").get_by_role("link", name="math").click()
    page.get_by_text("2 of the 2 on this page").wait_for()
    assert page.locator("#judgments [name=category]").input_value() == "math"
    assert len(seen.shown("#judgments")) == 2


def test_judgments_can_be_filtered_and_read(visit: Callable[..., Visit], study: Path) -> None:
    seen = visit()
    page = seen.open(study, "#judgments?outcome=lower")
    assert len(seen.shown("#judgments")) == 1
    assert seen.shown("#judgments")[0].startswith("question 81, turn 1")
    page.locator("#judgments .item:not([hidden]) > summary").click()
    texts = page.locator("#judgments .item[open] .answer").all_inner_texts()
    assert ["Correct. [[9]]" in texts[0], "The sum is wrong. [[3]]" in texts[1], "Why?" in texts[1]] == [True] * 3


def copied(page: Any, kind: str, part: Any) -> str:
    button = part.get_by_role("button", name=f"copy as {kind}").first
    button.click()
    part.get_by_text("copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert isinstance(text, str)
    return text


def test_tables_are_copied_as_csv_without_formulas(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study)
    part = page.locator("#samples")
    rows = list(csv.reader(io.StringIO(copied(page, "CSV", part), newline="")))
    assert rows[0] == ["task", "model", "gained", "lost", "both right", "both wrong", "not compared"]
    assert rows[1:] == [
        ["open_llm_v1: ARC", f"'{FORMULA}", "1", "1", "1", "0", "0"],
        ["open_llm_v1: GSM8K", f"'{FORMULA}", "0", "1", "1", "2", "0"],
    ]
    rows = list(csv.reader(io.StringIO(copied(page, "CSV", page.locator("#training")), newline="")))
    assert any("-1.500" in row for row in rows)  # a plain number with a plain sign


def test_tables_are_copied_as_markdown(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study)
    lines = copied(page, "Markdown", page.locator("#samples")).splitlines()
    assert lines[:2] == [
        "| task | model | gained | lost | both right | both wrong | not compared |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    assert lines[2] == '| open\\_llm\\_v1: ARC | =1+1, "x"\\|y | 1 | 1 | 1 | 0 | 0 |'


def test_tables_of_a_sample_can_be_copied_once_it_is_open(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study, f"#sample-{CHOICES}-0")
    item = page.locator(f"#sample-{CHOICES}-0")
    rows = list(csv.reader(io.StringIO(copied(page, "CSV", item), newline="")))
    assert rows[0] == ["choice", "base", f"'{FORMULA}"]
    assert rows[1] == ["✓ this", "▸ −1.00 (−0.250)", "−9.00 (−2.250)"]


def test_dark_and_print_styles_apply(visit: Callable[..., Visit], study: Path) -> None:
    page = visit().open(study)
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(colour)
    assert sum(map(int, light[4:-1].split(", "))) > 600
    assert sum(map(int, dark[4:-1].split(", "))) < 150
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert not page.locator("#samples .filters").is_visible()
    assert not page.locator("#scores .copy").first.is_visible()
    assert page.locator("#scores table").first.is_visible()


@pytest.mark.parametrize("which", ["study", "hostile"])
def test_a_narrow_window_needs_no_sideways_scrolling(
    visit: Callable[..., Visit], request: pytest.FixtureRequest, which: str
) -> None:
    page = visit(viewport={"width": 360, "height": 700}).open(request.getfixturevalue(which))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#samples .answer").first.bounding_box()["width"] > 200


@pytest.mark.parametrize("width", [390, 1280])
def test_results_of_others_need_no_sideways_scrolling(visit: Callable[..., Visit], theirs: Path, width: int) -> None:
    page = visit(viewport={"width": width, "height": 900}).open(theirs)
    assert page.locator("#warnings [data-find] a").count() > 0
    for is_open in (False, True):
        page.evaluate(
            f"document.querySelectorAll('details').forEach((each) => {{ each.open = {str(is_open).lower()}; }})"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = [page.locator(f"#{name}").bounding_box()["y"] for name in ("headline", "matrix", "warnings")]
    assert first == sorted(first)


def test_without_scripts_everything_can_be_reached(visit: Callable[..., Visit], study: Path) -> None:
    seen = visit(java_script_enabled=False)
    page = seen.open(study)
    assert not page.locator(".filters").first.is_visible()
    assert page.locator(".copy").count() == 0
    page.locator("#samples .group > summary", has_text="GSM8K").click()
    assert len(seen.shown()) == 4
    page.locator(f"#sample-{SOLUTIONS}-0 > summary").click()
    assert [each.inner_text() for each in page.locator(f"#sample-{SOLUTIONS}-0 .answer pre").all()] == [RIGHT, WRONG]
    assert page.locator(f"#sample-{SOLUTIONS}-0 a").get_attribute("href") == f"#sample-{SOLUTIONS}-0"


def test_hostile_text_stays_text(visit: Callable[..., Visit], hostile: Path) -> None:
    page = visit().open(hostile)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for text in HOSTILE:
        page.locator("#samples [name=q]").fill(text)
        page.locator("#judgments [name=q]").fill(text)
    page.locator("#judgments output:not(:empty)").wait_for()
    for control in page.locator(".filters select").all():
        control.select_option(index=1)
    copied(page, "CSV", page.locator("#samples"))
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") == 0
    assert page.locator("script").count() == 1
    assert page.locator("img, iframe, object, embed, link, base, form").count() == 0
    handlers = (
        "[...document.querySelectorAll('*')].flatMap((e) => e.getAttributeNames()).filter((n) => n.startsWith('on'))"
    )
    assert page.evaluate(handlers) == []
    text = page.locator("#samples").text_content()
    for each in HOSTILE[:8]:
        assert each in text
    assert all(shown in text for shown in ("abc⟨U+202E⟩gnp.exe", "nul⟨U+0000⟩byte ⟨U+2028⟩"))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_no_serious_violation_of_accessibility(
    visit: Callable[..., Visit], study: Path, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra 'browser'")
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 900}).open(study)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.locator(".item .copy").first.wait_for()
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}] == []


def test_links_find_their_place_among_many_samples(
    visit: Callable[..., Visit], run_writer: Any, tmp_path: Path
) -> None:
    """Entries that are not laid out yet have guessed heights; what is linked to still ends up in sight."""
    run, count = run_writer(tmp_path / "many"), 300
    for model in ("base", "dpop"):
        solved = [solution(i, f"How many eggs {i}? {'Long. ' * (i % 7) * 40}", RIGHT) for i in range(count)]
        run.evaluation(model, {SOLUTIONS: 1.0}, n=count, samples=solved)
    path = build_report([run.path], tmp_path / "report.html")
    top = "id => document.getElementById(id).getBoundingClientRect().top"
    page = visit().open(path, f"#samples?q=eggs&at=sample-{SOLUTIONS}-250")
    page.locator(f"#sample-{SOLUTIONS}-250[open]").wait_for()
    page.wait_for_timeout(800)
    assert abs(page.evaluate(top, f"sample-{SOLUTIONS}-250")) < 100
    page.locator("nav a[href='#provenance']").evaluate("link => link.click()")
    page.wait_for_timeout(800)
    assert 0 <= page.evaluate(top, "provenance") < 900  # the last panel, which ends the page
