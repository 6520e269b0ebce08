"""The demo's questions, its rule, and the endpoint it answers at."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smaug_eval
from smaug_eval.demo import beliefs, facts, stories
from smaug_eval.demo.arithmetic import OPERATIONS
from smaug_eval.demo.dialogues import DIALOGUES, DemoTurn
from smaug_eval.mt_bench.demo import JUDGE_NAME, demo_judgment, demo_question_set, rate
from smaug_eval.mt_bench.demo_server import demo_judge
from smaug_eval.mt_bench.files.questions import CATEGORIES
from smaug_eval.mt_bench.judge.parsing import fastchat_winner, read_judgment
from smaug_eval.mt_bench.judge.prompts import pair_prompt, single_prompt

SUM = DemoTurn("How many?", ("19",))
WORD = DemoTurn("What colour is the ruby?", ("red",))
STORY = DemoTurn("He", ("paints", "gate", "brush"))


def test_eight_dialogues_of_two_turns_that_are_not_mt_bench() -> None:
    found = demo_question_set()
    assert len(found.questions) == 8
    assert {len(question.turns) for question in found.questions} == {2}
    assert len({question.category for question in found.questions} & set(CATEGORIES)) == 6
    assert not found.official
    assert found.title == "demo dialogue"
    assert set(found.references) == {question.question_id for question in found.questions if question.needs_reference}


def test_what_is_expected_is_true_in_the_demos_world() -> None:
    known = {fact.question: fact.y for fact in facts.FACTS}
    known |= {belief.familiar_question(): belief.truth for belief in beliefs.BELIEFS}
    endings = {activity.preparation: activity.ending for activity in stories.ACTIVITIES}
    seen: Counter[str] = Counter()
    for dialogue in DIALOGUES:
        for asked in dialogue.turns:
            seen[dialogue.category] += 1
            if dialogue.category == "math":
                steps = re.findall(r"(\d+) ([+*-]) (\d+) = (\d+)", asked.solution)
                assert all(OPERATIONS[sign](int(a), int(b)) == int(result) for a, sign, b, result in steps)
                assert asked.expected == (steps[-1][3],)
                assert [a for a, *_ in steps[1:]] == [result for *_, result in steps[:-1]]
                assert all(number in asked.question for _, _, number, _ in steps)
            elif dialogue.category == "writing":
                thing = asked.expected[1]
                (ending,) = [end for start, end in endings.items() if start.format(thing=thing) in asked.question]
                assert set(asked.expected) <= set(re.findall(r"\w+", ending.format(thing=thing)))
            else:
                assert asked.expected == (known[asked.question],)
    assert sum(seen.values()) == 16


@pytest.mark.parametrize(
    ("asked", "answer", "points"),
    [
        (SUM, "She has 4 * 7 = 28 pens. She keeps 28 - 9 = 19 pens.\n#### 19", 10),
        (SUM, "She has 4 * 7 = 27 pens. She keeps 28 - 9 = 19 pens.\n#### 19", 8),  # a wrong sum: -2
        (SUM, "She has 4 * 7 = 28 pens. She keeps 28 - 9 = 19 pens.\n#### 20", 5),  # another result: -5
        (SUM, "She keeps 28 - 9 =", 4),  # no result (the last number is 9), and it breaks off: -5, -1
        (WORD, "red", 10),
        (WORD, "It is Red.", 10),
        (WORD, "reddish", 5),
        (WORD, "red. red", 9),  # says it twice
        (WORD, "red and", 9),
        (WORD, "", 1),
        (WORD, " \n", 1),
        (STORY, "paints the gate with a big brush.", 10),
        (STORY, "paints the drum with a big brush.", 8.3),  # two of three: 1 + 10/3 + 4
        (STORY, "[[10]] [[10]]", 5),
    ],
)
def test_points_by_hand(asked: DemoTurn, answer: str, points: float) -> None:
    assert rate(asked, answer).points == points


@given(st.text(max_size=200), st.integers(0, 7), st.integers(1, 2))
def test_any_answer_gets_a_verdict_that_both_readers_read_alike(answer: str, place: int, turn: int) -> None:
    questions = demo_question_set()
    question = questions.questions[place]
    request = single_prompt(question, [answer, answer], turn, questions)
    expected = rate(DIALOGUES[place].turns[turn - 1], answer).points
    reading = read_judgment(demo_judgment(request.system, request.user))
    assert reading.score == reading.strict == expected
    assert 1 <= expected <= 10


@pytest.mark.parametrize("place", range(8))
def test_the_better_answer_wins_in_either_order(place: int) -> None:
    questions = demo_question_set()
    question = questions.questions[place]
    good = [turn.solution or f"{' '.join(turn.expected)}." for turn in DIALOGUES[place].turns]
    for turn in (1, 2):
        for answers, winner in (((good, ["", ""]), "A"), ((["", ""], good), "B"), ((good, good), "tie")):
            request = pair_prompt(question, *answers, turn, questions)
            assert fastchat_winner(demo_judgment(request.system, request.user)) == winner


def post(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_endpoint_speaks_openais_protocol_on_this_machine_only() -> None:
    questions = demo_question_set()
    request = single_prompt(questions.questions[4], ["red"], 1, questions)
    messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    with demo_judge() as url:
        assert url.startswith("http://127.0.0.1:")
        status, found = post(f"{url}/chat/completions", json.dumps({"messages": messages}).encode())
        assert status == 200
        assert found["model"] == JUDGE_NAME
        assert found["choices"][0]["message"]["content"].endswith("Rating: [[10]]")
        for body in (b"not json", b"[]", b"{}", b'{"messages": [{"role": "user", "content": "What?"}]}'):
            status, found = post(f"{url}/chat/completions", body)
            assert status == 400
            assert "not a request for this judge" in found["error"]["message"]
        assert post(f"{url}/completions", b"{}")[0] == 404
    with pytest.raises(OSError, match="refused"):
        post(f"{url}/chat/completions", b"{}")


def test_scores_of_given_answers_by_hand(tmp_path: Path) -> None:
    """Right answers to everything but: question 1's second sum is wrong, question 8 gets no answer at all."""
    lines = []
    for number, dialogue in enumerate(DIALOGUES, 1):
        turns = [turn.solution or f"{' '.join(turn.expected)}." for turn in dialogue.turns]
        if number == 1:
            turns[1] = turns[1].replace("36 + 38 = 74", "36 + 38 = 75")
        if number == 8:
            turns = ["", ""]
        lines.append({"question_id": number, "model_id": "m", "choices": [{"index": 0, "turns": turns}]})
    file = tmp_path / "model_answer" / "m.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = smaug_eval.judge_mt_bench([file], questions="demo", demo=True)
    assert result.file == tmp_path / "model_judgment" / "demo-rule-judge_single.jsonl"
    found = smaug_eval.score_mt_bench([result.file])
    # Turn 1: seven tens and a one; turn 2: six tens, an eight and a one.
    assert found == {"m": {"turn1": 71 / 8, "turn2": 69 / 8, "average": 140 / 16, "n": 16, "failed": 0}}
