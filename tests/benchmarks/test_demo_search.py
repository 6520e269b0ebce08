"""The search for the demo's settings: what is taken, what is tested, and the page that says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from benchmarks import demo_search
from benchmarks.demo_search import SEARCH_SEED, SEARCHED, TEST_SEEDS, Measurements, contrasts, page
from smaug_eval.common.files import read_json


def trial(settings: Mapping[str, Any], seed: int, split: str, solved: list[float], chosen: float) -> dict[str, Any]:
    final = {"log_ratios/chosen": chosen, "log_ratios/rejected": -5.0, "rewards/accuracies": 0.9}
    told = {"settings": dict(settings), "seed": seed, "split": split, "final": final, "solved": solved}
    pairs = {"chosen": [chosen - 0.5, chosen + 0.5] * 4, "chosen_after": [chosen - 1.5, chosen - 0.5] * 4}
    return told | pairs | {"seconds": {"training": 1.0, "all": 2.0}}


BASE: Mapping[str, Any] = {
    "date": "2026-11-30", "machine": "x86_64", "former": "5a0ff7e", "tokenizer_is_equal": True, "documents": 24000,
    "text_is_equal": True, "last_loss": 0.495191, "different": 0, "weights": 1967808, "largest": 0.0,
    "seconds_of_a_step": 9.3, "steps": 1953,
}  # fmt: skip


def right(count: int, of: int = 10) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


@pytest.fixture
def data(tmp_path: Path) -> Measurements:
    """Of both losses the third setting is best, and the fourth as good; then seeds that are all alike."""
    found = Measurements(tmp_path / "search.json", "abc")
    found.data["base"] = {"development": right(6), "test": right(5)}
    for tried in SEARCHED.values():
        for place, settings in enumerate(tried):
            solved = right(8 if place in (2, 3) else 4)
            found.data["trials"].append(trial(settings, SEARCH_SEED, "development", solved, 0.1))
    for loss, count, chosen in (("dpo", 4, -2.0), ("dpop", 9, 1.0)):
        for seed in TEST_SEEDS:
            found.data["trials"].append(trial(SEARCHED[loss][2], seed, "test", right(count), chosen))
    found.keep()
    return found


def test_both_losses_have_as_many_tries_of_their_own_and_the_test_other_seeds() -> None:
    assert len({len(tried) for tried in SEARCHED.values()}) == 1
    for loss, tried in SEARCHED.items():
        assert {settings["loss"] for settings in tried} == {loss}
        assert len({tuple(settings.items()) for settings in tried}) == len(tried)
    assert SEARCH_SEED not in TEST_SEEDS


def test_the_best_on_the_development_problems_is_taken_and_of_equal_ones_the_first(data: Measurements) -> None:
    assert data.chosen() == {loss: tried[2] for loss, tried in SEARCHED.items()}


def test_a_search_that_is_not_done_chooses_nothing(data: Measurements) -> None:
    data.data["trials"].pop(0)
    with pytest.raises(SystemExit, match="run the search first"):
        data.chosen()


def test_contrasts_are_over_problems_and_seeds(data: Measurements) -> None:
    """Seeds that are alike add nothing: the interval is that of a paired t test over the problems."""
    found = contrasts(data)
    assert found["dpop less base"].estimate == pytest.approx(40)
    assert found["dpo less base"].estimate == pytest.approx(-10)
    assert found["dpop less dpo"].estimate == pytest.approx(50)
    assert found["preferred answers, dpo"].estimate == pytest.approx(-2)
    assert found["preferred answers, dpo, behind the wrong number"].estimate == pytest.approx(-3)
    values = [100.0 * (a - b) for a, b in zip(right(9), right(5), strict=True)]
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval()
    assert found["dpop less base"].interval == pytest.approx((expected.low, expected.high))


def test_the_page_names_what_was_taken_and_what_came_out(data: Measurements) -> None:
    text = page(data, BASE)
    taken = [line for line in text.splitlines() if line.endswith("| yes |")]
    assert [line.split(" | ")[0] for line in taken] == ["| dpo", "| dpop"]
    assert "| base | | | | 60.0 | 0 | 0 | | |" in text
    assert "| dpop less dpo | +50.00 points |" in text
    assert "- On arithmetic dpop is better than dpo." in text
    assert "- On arithmetic dpo is not shown to differ from base." in text
    assert "- dpo lowers the preferred answers." in text
    assert "| preferred answers, dpo | -2.00 nats |" in text


def test_a_page_without_the_whole_test_says_so(data: Measurements) -> None:
    data.data["trials"].pop()
    text = page(data, BASE)
    assert "The test problems have not all been asked yet.\n" in text
    assert "less base" not in text


def test_measurements_of_another_base_are_left_out(data: Measurements, tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    assert read_json(path)["base_sha256"] == "abc"
    assert len(Measurements(path, "abc").data["trials"]) == len(data.data["trials"])
    assert Measurements(path, "other").data["trials"] == []


def test_the_page_says_how_much_was_tried_and_what_of_the_base_was_made_again(data: Measurements) -> None:
    text = page(data, BASE)
    assert "both losses had the same number of tries:\n4 each." in text
    assert "Dropped: a third learning rate, 1e-3" in text
    assert "- The tokenizer, trained again, is the embedded file, byte for byte.\n" in text
    assert (
        "  0 of 1,967,808 differ from the embedded ones (largest difference\n  0); its last loss is 0.495 nats" in text
    )
    assert "one of its 1,953 steps takes 9 s of processor time" in text
    assert "The lowest rate that was tried is taken for both losses" in text
    other = page(
        data, {**BASE, "tokenizer_is_equal": False, "text_is_equal": False, "different": 7, "largest": 0.00125}
    )
    assert "is not the embedded file." in other
    assert "24,000 documents, is not the same as that of 5a0ff7e" in other
    assert "  7 of 1,967,808 differ from the embedded ones (largest difference\n  0.0013)" in other


def test_every_chosen_setting_is_tested_with_every_seed(
    data: Measurements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verb ``test`` makes the trials that are missing, of the chosen settings alone, and asks no base again."""
    data.data["trials"] = [each for each in data.data["trials"] if each["split"] == "development"]
    data.keep()
    made = []

    class Bench:
        sha256 = "abc"

        def __init__(self, folder: Path) -> None: ...

        def trial(self, settings: Mapping[str, Any], seed: int, split: str) -> dict[str, Any]:
            made.append((settings["loss"], seed, split))
            return trial(settings, seed, split, right(5), 0.0)

    monkeypatch.setattr(demo_search, "Bench", Bench)
    monkeypatch.setattr("sys.argv", ["demo_search", "test", "--results", str(tmp_path / "search.json")])
    demo_search.main()
    assert made == [(loss, seed, "test") for seed in TEST_SEEDS for loss in ("dpo", "dpop")]
    found = Measurements(tmp_path / "search.json", "abc")
    assert all(found.find(SEARCHED[loss][2], seed, "test") for loss in SEARCHED for seed in TEST_SEEDS)
