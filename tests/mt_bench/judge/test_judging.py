"""Judging whole question sets over real HTTP: nothing lost and nothing doubled, whatever fails or is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.served.budget import Budget, BudgetSpent
from smaug_eval.common.served.endpoint import Endpoint
from smaug_eval.mt_bench.files.layout import read_settings
from smaug_eval.mt_bench.files.question_files import load_question_set
from smaug_eval.mt_bench.files.questions import QuestionSet
from smaug_eval.mt_bench.judge.client import JudgeRefused, JudgeUnreachable
from smaug_eval.mt_bench.judge.judging import JudgingResult, JudgmentsMissing, judge_matches, run_to_end
from smaug_eval.mt_bench.judge.judgments_file import read_games
from smaug_eval.mt_bench.judge.plan import load_answers, make_plan

Start = Callable[..., Any]
KEY = "sk-a-key-that-nobody-may-see"
FAULTS = ("429", "500", "drop", "hang", "broken", "null", "half", "html")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def questions(question_folder: Path) -> QuestionSet:
    return load_question_set(question_folder)


class Run:
    """One call of ``judge_matches``, with what it said."""

    def __init__(self, questions: QuestionSet, files: list[Path], base_url: str, file: Path) -> None:
        self.questions, self.files, self.base_url, self.file = questions, files, base_url, file
        self.few: int | None = None
        self.notices: list[str] = []
        self.progress: list[tuple[int, int]] = []

    def __call__(self, mode: str = "single", repeats: int = 1, **settings: Any) -> JudgingResult:
        budget = Budget(max_calls=settings.pop("max_calls", None))
        baseline = "two" if mode == "pairwise-baseline" else None
        asked = replace(self.questions, questions=self.questions.questions[: self.few])
        plan = make_plan(asked, load_answers(self.files), mode, baseline=baseline, repeats=repeats)
        quick = {"backoff": 0.001, "timeout": 30.0, **settings}
        return judge_matches(
            plan.matches,
            Endpoint(quick.pop("model", "judge-1"), self.base_url, **quick),
            budget,
            self.file,
            report=lambda done, total, note: self.progress.append((done, total)),
            notice=self.notices.append,
        )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@pytest.fixture
def run(questions: QuestionSet, answer_files: list[Path], tmp_path: Path) -> Callable[[str], Run]:
    return lambda base_url: Run(questions, answer_files[:1], base_url, tmp_path / "out" / "judge-1_single.jsonl")


def places(lines: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    return Counter((line["question_id"], line["turn"], line.get("model") or line["model_1"]) for line in lines)


def without_times(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["tstamp"]
        for reply in line["smaug"]["replies"]:
            del reply["attempts"]
    return lines


def test_all_160_judgments_of_a_judge_that_fails_in_every_way(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge(lambda number, body: FAULTS[number // 2 % len(FAULTS)] if number % 2 and number < 64 else None)
    judging = run(judge.base_url)
    outcome = judging(concurrency=8, timeout=1.5)
    assert outcome == JudgingResult(judged=160, new=160)
    assert len(judge.requests) == 160 + 32
    lines = judging.lines()
    assert places(lines) == Counter({(n, turn, "one"): 1 for n in range(1, 81) for turn in (1, 2)})
    for line in lines:
        shown = json.loads(json.dumps(line))
        judged = judge.judgment({"messages": [{"content": shown["user_prompt"]}]})
        assert line["judgment"] == judged
        assert f"[[{line['score']}]]" in judged
        assert line["smaug"]["strict_score"] == line["score"]
    assert judging.progress[-1] == (160, 160)


def test_lines_stand_in_the_questions_order_and_are_fastchats(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judge.slowness = 0.005
    judging = run(judge.base_url)
    judging(concurrency=16)
    lines = judging.lines()
    assert [(line["question_id"], line["turn"]) for line in lines] == [(n, t) for n in range(1, 81) for t in (1, 2)]
    assert lines[0]["judge"] == ["judge-1", "single-v1"]
    assert lines[1]["judge"] == ["judge-1", "single-v1-multi-turn"]
    assert lines[7]["judge"] == ["judge-1", "single-math-v1-multi-turn"]
    assert lines[7]["user_prompt"] == "First about 4? Then about 4? Right too 4. one says more of 4."
    assert lines[7]["smaug"]["category"] == "math"
    assert lines[0]["smaug"]["replies"] == [
        {
            "tokens": {"prompt": 100, "completion": 10},
            "finish_reason": "stop",
            "served_by": "judge-snapshot",
            "sent": {"temperature": 0.0, "max_tokens": 2048},
            "attempts": 1,
        }
    ]
    from fastchat.llm_judge.common import load_single_model_judgments

    loaded = load_single_model_judgments(str(judging.file))
    assert sum(len(games) for games in loaded.values()) == 160


def test_requests_are_under_way_together_but_not_more_than_allowed(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judge.slowness = 0.02
    run(judge.base_url)(concurrency=6)
    assert 2 < judge.most_under_way <= 6  # on a busy machine some may just be done


def test_a_second_call_asks_for_nothing(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging()
    before = judging.file.read_bytes()
    assert judging() == JudgingResult(judged=160, new=0)
    assert len(judge.requests) == 160
    assert judging.file.read_bytes() == before


def test_only_what_changed_is_asked_again_and_the_old_is_kept(
    faulty_judge: Start, run: Any, answer_files: list[Path]
) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging()
    text = answer_files[0].read_text()
    answer_files[0].write_text(text.replace('"one says more of 5."', '"one has changed its mind on 5."'))
    assert judging() == JudgingResult(judged=160, new=1)
    assert len(judge.requests) == 161
    assert "changed its mind" in judge.requests[-1]["messages"][1]["content"]
    assert len(judging.lines()) == 160
    (old,) = judging.file.parent.glob("*.superseded-*")
    assert '"First about 5? Then about 5? one says more of 5."' in old.read_text()
    assert any("1 judgments of other answers" in notice for notice in judging.notices)


def test_damaged_and_altered_judgments_are_asked_for_again(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging()
    before = without_times(judging.file)
    lines = judging.file.read_text().splitlines()
    lines[0] = lines[0][:40]
    lines[1] = lines[1].replace('"turn"', '"tuqn"').replace('"single-v1-multi-turn"', '"single-v1"')
    altered = json.loads(lines[2])
    lines[2] = json.dumps(altered | {"score": altered["score"] % 10 + 1})
    lines[3] = json.dumps({"model": "one", "judgment": "[[5]]"})
    judging.file.write_text("\n".join(lines) + "\n")
    assert judging() == JudgingResult(judged=160, new=4)
    assert without_times(judging.file) == before
    assert any("line 1, 4 damaged" in notice for notice in judging.notices)


def test_a_verdict_of_two_that_was_altered_is_asked_for_again(
    faulty_judge: Start, questions: QuestionSet, answer_files: list[Path], tmp_path: Path
) -> None:
    judging = Run(questions, answer_files, faulty_judge().base_url, tmp_path / "out" / "judge-1_pair.jsonl")
    judging.few = 4
    assert judging("pairwise-all") == JudgingResult(judged=8, new=8)
    before = without_times(judging.file)
    lines = judging.lines()
    other = {"model_1": "model_2", "model_2": "model_1", "tie": "model_1", "error": "tie"}
    lines[2]["g2_winner"] = other[lines[2]["g2_winner"]]
    judging.file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judging("pairwise-all") == JudgingResult(judged=8, new=1)
    assert without_times(judging.file) == before


def test_damaged_games_are_played_again(tmp_path: Path) -> None:
    reply = {"text": "[[A]]", "tokens": {"prompt": 1, "completion": 2}, "finish_reason": "stop", "served_by": None}
    sound = {"request": "a", "repeat": 1, "reply": reply | {"sent": {}}}
    damaged = [
        {"request": "b", "repeat": 1, "reply": reply},
        sound | {"repeat": "x"},
        sound | {"reply": 5},
        {"request": 1},
    ]
    file = tmp_path / "judge.games"
    file.write_text("".join(json.dumps(game) + "\n" for game in [*damaged, sound]) + "half a li")
    assert list(read_games(file)) == [("a", 1)]


def test_judgments_of_other_judges_and_models_stay(faulty_judge: Start, run: Any, answer_files: list[Path]) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging.few = 10
    judging()
    judging.files = answer_files[1:]
    judging()
    judging(model="judge-2")
    assert len(judge.requests) == 60
    assert Counter(places(judging.lines()).values()) == Counter({1: 20, 2: 20})
    assert not list(judging.file.parent.glob("*.superseded-*"))


def test_repeats_are_told_apart(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging.few = 10
    judging(repeats=1)
    assert judging(repeats=3) == JudgingResult(judged=60, new=40)
    assert Counter(line["smaug"]["repeat"] for line in judging.lines()) == Counter({1: 20, 2: 20, 3: 20})


def test_fastchats_own_judgments_count_as_there(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging()
    lines = [{key: value for key, value in line.items() if key != "smaug"} for line in judging.lines()]
    judging.file.write_text("".join(json.dumps(line) + "\n" for line in lines[:100]))
    assert judging() == JudgingResult(judged=160, new=60)


def test_texts_without_a_verdict_are_judgments_with_minus_one(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge(lambda number, body: "no verdict" if number < 3 else None)
    judging = run(judge.base_url)
    assert judging().judged == 160
    silent = [line for line in judging.lines() if line["score"] == -1]
    assert len(silent) == 3
    assert {line["smaug"]["strict_score"] for line in silent} == {None}


def test_a_refused_key_stops_at_once_and_keeps_what_is_done(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge(lambda number, body: f"401 no such key: {KEY}" if number >= 50 else None)
    judging = run(judge.base_url)
    with pytest.raises(JudgeRefused) as caught:
        judging(concurrency=4)
    assert 50 < len(judge.requests) <= 50 + 4
    assert len(judging.lines()) == 50
    assert KEY not in str(caught.value)
    judge.behave = lambda number, body: None
    assert judging() == JudgingResult(judged=160, new=110)
    assert set(places(judging.lines()).values()) == {1}
    for file in judging.file.parent.rglob("*"):
        assert KEY not in file.read_text()


def test_a_judge_that_goes_away_stops_it_and_what_is_done_is_kept(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge(lambda number, body: "503" if number >= 20 else None)
    judging = run(judge.base_url)
    with pytest.raises(JudgeUnreachable):
        judging(attempts=3, concurrency=4)
    assert len(judging.lines()) == 20
    assert len(judge.requests) < 40


def test_calls_without_luck_do_not_stop_the_others_and_can_be_asked_again(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge(lambda number, body: "500" if "First about 7?" in str(body) else None)
    judge.slowness = 0.002
    judging = run(judge.base_url)
    with pytest.raises(JudgmentsMissing, match="2 of 160 judgments are missing"):
        judging(attempts=2)
    assert len(judging.lines()) == 158
    judge.behave = lambda number, body: None
    assert judging() == JudgingResult(judged=160, new=2)


def test_what_the_judge_cannot_answer_is_reported_missing(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge(lambda number, body: "400 refused by a filter" if "First about 7?" in str(body) else None)
    outcome = run(judge.base_url)()
    assert outcome.judged == 158
    assert [(each["question_id"], each["turn"], each["models"]) for each in outcome.missing] == [
        (7, 1, ["one"]),
        (7, 2, ["one"]),
    ]
    assert "refused by a filter" in outcome.missing[0]["reason"]


def test_a_budget_stops_before_it_is_exceeded_and_the_next_call_goes_on(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judge.slowness = 0.005
    judging = run(judge.base_url)
    with pytest.raises(BudgetSpent, match="60 of 160 judgments are left"):
        judging(max_calls=100)
    assert len(judge.requests) == len(judging.lines()) == 100
    assert judging() == JudgingResult(judged=160, new=60)
    assert len(judge.requests) == 160


@pytest.mark.parametrize(("mode", "models"), [("pairwise-baseline", ("one", "two")), ("pairwise-all", ("one", "two"))])
def test_pairs_are_shown_in_both_orders(
    faulty_judge: Start, run: Any, answer_files: list[Path], mode: str, models: tuple[str, str]
) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging.few = 20
    judging.files = answer_files
    judging.file = judging.file.with_name("judge-1_pair.jsonl")
    assert judging(mode) == JudgingResult(judged=40, new=40)
    assert len(judge.requests) == 80
    names = {"A": ("model_1", "model_2"), "B": ("model_2", "model_1"), "C": ("tie", "tie")}
    for line in judging.lines():
        assert (line["model_1"], line["model_2"]) == models
        for game, order in ((0, ("one", "two")), (1, ("two", "one"))):
            prompt = line[f"g{game + 1}_user_prompt"]
            assert prompt.index(f" {order[0]} says") < prompt.index(f" {order[1]} says")
            said = judge.judgment({"messages": [{"content": prompt}]})
            assert line[f"g{game + 1}_judgment"] == said
            assert line[f"g{game + 1}_winner"] == names[said[-3]][game]
    assert not judging.file.with_suffix(".games").exists()
    from fastchat.llm_judge.common import load_pairwise_model_judgments

    # FastChat keeps one line for each question, of either turn.
    assert sum(len(games) for games in load_pairwise_model_judgments(str(judging.file)).values()) == 40


def test_a_game_that_was_judged_is_not_asked_again_for_the_other(
    faulty_judge: Start, run: Any, answer_files: list[Path]
) -> None:
    def second_orders_fail(number: int, body: dict[str, Any]) -> str | None:
        prompt = body["messages"][1]["content"]
        return "500" if prompt.index("two says") < prompt.index("one says") else None

    judge = faulty_judge(second_orders_fail)
    judge.slowness = 0.002
    judging = run(judge.base_url)
    judging.files = answer_files
    judging.few = 10
    with pytest.raises(JudgmentsMissing, match="20 of 20"):
        judging("pairwise-all", attempts=1, concurrency=1)
    assert judging.lines() == []
    assert len(judge.requests) == 40
    judge.behave = lambda number, body: None
    assert judging("pairwise-all") == JudgingResult(judged=20, new=20)
    assert len(judge.requests) == 60


@pytest.mark.slow
def test_sigkill_repeats_at_most_the_calls_under_way(
    faulty_judge: Start, question_folder: Path, answer_files: list[Path], tmp_path: Path
) -> None:
    judge = faulty_judge()
    judge.slowness = 0.02
    command = [sys.executable, "-m", "smaug_eval", "mt-bench", "judge", str(answer_files[0]), "--quiet"]
    command += ["--mt-bench-dir", str(question_folder), "--out", str(tmp_path / "killed")]
    command += ["--judge-base-url", judge.base_url, "--judge-model", "judge-1", "--set-judge", "concurrency=2"]
    killed = tmp_path / "killed" / "model_judgment" / "judge-1_single.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (killed.exists() and killed.read_text().count("\n") >= 30):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 30 <= killed.read_text().count("\n") < 160
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert 160 <= len(judge.requests) <= 160 + 2
    assert KEY not in finished.stdout + finished.stderr

    judged = {"base_url": judge.base_url, "model": "judge-1"}
    whole = smaug_eval.judge_mt_bench(answer_files[:1], tmp_path / "whole", questions=question_folder, **judged).file
    assert without_times(killed) == without_times(whole)
    assert read_settings(killed) == read_settings(whole)
    assert {file.name for file in killed.parent.iterdir()} == {file.name for file in whole.parent.iterdir()}


def test_a_torn_last_line_is_judged_again(faulty_judge: Start, run: Any) -> None:
    judge = faulty_judge()
    judging = run(judge.base_url)
    judging()
    content, lines = judging.file.read_bytes(), without_times(judging.file)
    judging.file.write_bytes(content[:-40])
    assert judging() == JudgingResult(judged=160, new=1)
    assert without_times(judging.file) == lines
    assert any("never finished" in notice for notice in judging.notices)


@pytest.mark.parametrize("text", ["ERROR", "$ERROR$"])
def test_answers_that_are_not_there_are_not_judged(questions: QuestionSet, answer_files: list[Path], text: str) -> None:
    content = answer_files[0].read_text().replace('"one says more of 5."', f'"{text}"')
    answer_files[0].write_text(content.replace('"one says 6."', f'"{text}"'))
    plan = make_plan(questions, load_answers(answer_files[:1]), "single")
    assert [(each["question_id"], each["turn"]) for each in plan.not_judged] == [(5, 2), (6, 1), (6, 2)]
    assert len(plan.matches) == 157
    assert not any(text in match.requests[0].user for match in plan.matches)


def test_pairs_as_fastchat_makes_them(questions: QuestionSet, answer_files: list[Path], tmp_path: Path) -> None:
    third = tmp_path / "model_answer" / "three.jsonl"
    third.write_text(answer_files[0].read_text())
    answers = load_answers([*answer_files, third])
    models = {match.models for match in make_plan(questions, answers, "pairwise-all").matches}
    assert models == {("one", "two"), ("one", "three"), ("two", "three")}
    models = {match.models for match in make_plan(questions, answers, "pairwise-baseline", baseline="two").matches}
    assert models == {("one", "two"), ("three", "two")}
    with pytest.raises(SmaugError, match="did you mean 'two'"):
        make_plan(questions, answers, "pairwise-baseline", baseline="tow")
    with pytest.raises(SmaugError, match="there is one"):
        make_plan(questions, load_answers(answer_files[:1]), "pairwise-all")
    with pytest.raises(SmaugError, match="did you mean 'single'"):
        make_plan(questions, answers, "singel")


def test_unanswered_questions_are_named(questions: QuestionSet, answer_files: list[Path]) -> None:
    lines = answer_files[0].read_text().splitlines(keepends=True)
    answer_files[0].write_text("".join(lines[:40] + lines[42:]))
    with pytest.raises(SmaugError, match="one has not answered 2 of 80 questions, such as 41"):
        make_plan(questions, load_answers(answer_files[:1]), "single")


def test_it_runs_inside_an_event_loop_too() -> None:
    async def number() -> int:
        return 7

    async def inside() -> int:
        return run_to_end(number())

    assert run_to_end(inside()) == 7
