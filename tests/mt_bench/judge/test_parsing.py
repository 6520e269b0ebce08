"""What judges write, read by FastChat's rule and strictly; FastChat's own code is the oracle of the first."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fastchat.llm_judge import common
from hypothesis import example, given
from hypothesis import strategies as st

from smaug_eval.mt_bench.files.record_files import read_judgments
from smaug_eval.mt_bench.judge.parsing import (
    Reading,
    fastchat_score,
    fastchat_winner,
    read_judgment,
    strict_score,
    strict_winner,
)

LONG = "The answer is sound and complete. " * 200

# A judge's text, the score by FastChat's rule, the score by the strict reader.
SCORES: list[tuple[str, float, float | None]] = [
    # as asked for
    ("Rating: [[1]]", 1, 1),
    ("Rating: [[5]]", 5, 5),
    ("Rating: [[10]]", 10, 10),
    ("Rating: [[8.5]]", 8.5, 8.5),
    ("Rating: [[9.0]]", 9.0, 9),
    ("Rating: [[7.]]", 7.0, 7),
    ("[[6]]", 6, 6),
    ("[[6]].", 6, 6),
    ("[[6]]\n\n", 6, 6),
    ("**Rating: [[6]]**", 6, 6),
    ("Rating:[[4]]", 4, 4),
    ("rating: [[4]]", 4, 4),
    ("Final rating: [[3]].", 3, 3),
    ('Therefore: "[[9]]"', 9, 9),
    ("I give it a [[2]] out of 10.", 2, 2),
    ("Rating: [[7]]/10", 7, 7),
    (LONG + "Rating: [[9]]", 9, 9),
    ("Rating: [[9]]\n" + LONG, 9, 9),
    ("A line.\n\nRating: [[10]]\n\nThank you.", 10, 10),
    ("La réponse est bonne. Note : [[7]]", 7, 7),
    ("回答は正確です。評価：[[8]]", 8, 8),
    ("Ответ неверен. Оценка: [[2]]", 2, 2),
    ("الإجابة جيدة [[6]]", 6, 6),
    # one pair of brackets
    ("Rating: [8]", 8, 8),
    ("Rating: [8].", 8, 8),
    ("**Rating**: [8]", 8, 8),
    ("Rating: **[8]**", 8, 8),
    ("My rating is [8] because it is short.", 8, 8),
    ("a rating of [8.5], on the whole", 8.5, 8.5),
    ("Score: [3]", 3, 3),
    ("Score = [3]", 3, 3),
    ("The score would be [3]", 3, 3),
    ("Grade: [10]", 10, 10),
    ("I'd go with [[6.5]] here.", 6.5, 6.5),
    ("Rating: [[10]]\r\n", 10, 10),
    ("> Rating: [[2]]", 2, 2),
    ("| rating | [[2]] |", 2, 2),
    ("Verdict: [1]", 1, 1),
    ("[8]", 8, 8),
    ("It is good.\n[8]", 8, 8),
    ("It is good.\n\n**[8]**\n", 8, 8),
    ("It is good.\n- [8].", 8, 8),
    ("[Rating: 8]", -1, 8),
    ("Good. [Score: 8/10]", -1, 8),
    ("[8/10]", -1, 8),
    ("It earns [8/10] overall.", -1, 8),
    ("Rating: [8/10]", -1, 8),
    ("Rating: [ 8 ]", -1, 8),
    ("Rating: [9] and then again Rating: [4]", 9, 4),
    ("Rating: [8] for the style [1]", 8, 8),
    ("Rating: [12]", 12, None),
    ("Rating: [0]", 0, None),
    # list indexes, footnotes, citations
    ("[1] says so. I would say 7/10", 1, None),
    ("As in [1], the claim holds; overall 7/10.", 1, None),
    ("[1] ... 7/10", 1, None),
    ("The assistant cites [1] and [2].", 1, None),
    ("The list index arr[0] is wrong.", 0, None),
    ("arr[3] = 4 is off by one.", 3, None),
    ("It ends with a footnote [3].", 3, None),
    ("See [2]\nThe end", 2, None),
    ("x = [5] * n gives shared rows", 5, None),
    ("The credit score [3] is mentioned.", 3, None),
    ("They tell the story of [7] dwarves.", 7, None),
    ("nums = [1, 2]; nums[1] is 2. Rating: [[9]]", 9, 9),
    ("See [1] and [2]. Rating: [[4]]", 4, 4),
    ("Rating: [[4]]\n\n[1] A source.", 4, 4),
    ("[1] A source. Rating: [6]", 1, 6),
    ("In [3] the proof fails.\nScore: [2]", 3, 2),
    # a scale or a label in the brackets
    ("[[7/10]]", -1, 7),
    ("Rating: [[7/10]]", -1, 7),
    ("[[7 / 10]]", -1, 7),
    ("[[8.5/10]]", -1, 8.5),
    ("[[10/10]]", -1, 10),
    ("[[7 out of 10]]", -1, 7),
    ("[[3/5]]", -1, None),
    ("[[70/100]]", -1, None),
    ("[[11/10]]", -1, None),
    ("[[Rating: 7]]", -1, 7),
    ("[[rating: 7]]", -1, 7),
    ("[[Rating:7]]", -1, 7),
    ("[[Rating 7]]", -1, 7),
    ("[[Rating = 7]]", -1, 7),
    ("[[Score: 7]]", -1, 7),
    ("[[Final rating: 7]]", -1, 7),
    ("[[overall score: 7/10]]", -1, 7),
    ("[[Rating: 7 because it is good]]", -1, None),
    ("[[ 7 ]]", -1, 7),
    ("[[7 ]]", -1, 7),
    ("[[\n7\n]]", -1, 7),
    ("[[**7**]]", -1, 7),
    ("**[[`7`]]**", -1, 7),
    ("[[7]", 7, None),
    ("[7]]", 7, None),
    ("Rating: [[7]", 7, None),
    ("[[[7]]]", 7, 7),
    ("[[[[7]]]]", 7, 7),
    ("[ [7] ]", 7, None),
    ("[[7], [8]]", 7, None),
    ("[[seven]]", -1, None),
    ("[[Seven/10]]", -1, None),
    ("[[7-8]]", -1, None),
    ("[[7 to 8]]", -1, None),
    ("[[7–8]]", -1, None),
    ("[[7,5]]", -1, None),
    ("[[7, 8]]", -1, None),
    ("[[~7]]", -1, None),
    ("[[7+]]", -1, None),
    ("[[7%]]", -1, None),
    ("[[#7]]", -1, None),
    ("[[-7]]", -1, None),
    ("[[+7]]", -1, None),
    ("[[1e1]]", -1, None),
    ("[[0x7]]", -1, None),
    ("[[7_0]]", -1, None),
    ("[[.5]]", -1, None),
    ("[[7.5.1]]", -1, None),
    ("[[]]", -1, None),
    ("[[rating]]", -1, None),
    ("[[x]]", -1, None),
    ("[[A]]", -1, None),
    # out of the scale
    ("[[0]]", 0, None),
    ("[[0.5]]", 0.5, None),
    ("[[0.99]]", 0.99, None),
    ("[[1.0]]", 1.0, 1),
    ("[[10.0]]", 10.0, 10),
    ("[[10.01]]", 10.01, None),
    ("[[11]]", 11, None),
    ("[[15]]", 15, None),
    ("[[85]]", 85, None),
    ("[[100]]", 100, None),
    ("Rating: [[2023]]", 2023, None),
    # several
    ("[[7]] ... [[3]]", 7, 3),
    ("Rating: [[3]]. Wait, rating: [[4]]", 3, 4),
    ("First answer [[9]], second answer [[2]]. Overall [[5]]", 9, 5),
    ('With the format "[[5]]" in mind: Rating: [[8]]', 5, 8),
    ("Rating: [[8]] (strictly following the format [[rating]])", 8, 8),
    ("Rating: [[8]], that is [[8]]", 8, 8),
    ("[[8]] [[15]]", 8, None),
    ("[[15]] [[8]]", 15, 8),
    ("[[8]] then [[7/10]]", 8, 7),
    ("[[7/10]] then [[8]]", 8, 8),
    ("[[8]] then [[7-8]]", 8, None),
    ("[[x]] [[8]]", 8, 8),
    ("[[8]] [[x]]", 8, 8),
    ("Rating: [5], hence [[6]]", 6, 6),
    ("[[6]] or Rating: [5]", 6, 6),
    ("[7/10] or rather [[6]]", 6, 6),
    ("matrix [[1, 2], [3, 4]] is fine. Rating: [[9]]", 9, 9),
    ("matrix [[1, 2], [3, 4]] is fine. Rating: 9", -1, None),
    ("the matrix [[5]] has one entry. Rating: [[9]]", 5, 9),
    # none
    ("", -1, None),
    (" ", -1, None),
    ("\n", -1, None),
    (LONG, -1, None),
    ("Rating: 8", -1, None),
    ("Rating: 8/10", -1, None),
    ("8", -1, None),
    ("8/10", -1, None),
    ("(8)", -1, None),
    ("((8))", -1, None),
    ("{{8}}", -1, None),
    ("<<8>>", -1, None),
    ("Rating: ((8))", -1, None),
    ("$ERROR$", -1, None),
    ("I cannot rate this answer.", -1, None),
    ("[[", -1, None),
    ("]]", -1, None),
    ("[[]] []", -1, None),
    ("[ ]", -1, None),
    ("[x] done", -1, None),
    ("null", -1, None),
    # other scripts and signs; where FastChat stops with an error, there is no score
    ("[[７]]", -1, 7),
    ("［［7］］", -1, 7),
    ("［［７］］", -1, 7),
    ("評価：［８］", -1, None),
    ("Rating: ［８］", -1, 8),
    ("[[٧]]", -1, 7),
    ("[[७]]", -1, 7),
    ("[[⑦]]", -1, 7),
    ("[[Ⅶ]]", -1, None),
    ("[[七]]", -1, None),
    ("[[7½]]", -1, None),
    ("[[½]]", -1, None),
    ("[[7²]]", -1, None),
    ("【【7】】", -1, 7),
    ("【7】", -1, None),
    ("[[7\u200b]]", -1, None),
    ("[[\u00a07\u00a0]]", -1, 7),
    ("[[7]]\u2028[[3]]", 7, 3),
    ("\ud800 [[7]]", 7, 7),
    ("\x00[[7]]\x00", 7, 7),
    ("🙂 [[10]] 🙂", 10, 10),
    # numbers Python does not read, or reads otherwise
    ("[[08]]", -1, 8),
    ("[[00]]", 0, None),
    ("[[007]]", -1, 7),
    ("[[08.5]]", 8.5, 8.5),
    ("[[8.50]]", 8.5, 8.5),
    ("[[" + "9" * 30 + "]]", int("9" * 30), None),
    ("[[" + "9" * 400 + "]]", -1, None),
    ("[[" + "9" * 5000 + "]]", -1, None),
    ("[[7." + "0" * 60 + "]]", 7.0, None),
    ("Rating: [08] but [[x]]", -1, 8),
]  # fmt: skip

WINNERS: list[tuple[str, str, str | None]] = [
    ("[[A]]", "A", "A"),
    ("My verdict: [[B]]", "B", "B"),
    ("[[C]] for a tie", "tie", "tie"),
    ("[[B]] at first, but [[A]]", "A", "A"),
    ("[[A]] at first, but [[B]]", "A", "B"),
    ("[[C]], no: [[B]]", "B", "B"),
    ("[[B]], no: [[C]]", "B", "tie"),
    ("[A]", "error", None),
    ("[[a]]", "error", None),
    ("[[D]]", "error", None),
    ("[[A]", "error", None),
    ("[[ A ]]", "error", None),
    ("[[Ａ]]", "error", "A"),
    ("", "error", None),
    ("$ERROR$", "error", None),
]


@pytest.fixture(scope="module")
def fastchat() -> Any:
    """FastChat's own reading, by its own functions with a judge that says what it is told to."""
    said: list[str] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(common, "chat_completion_openai", lambda *_, **__: said[-1])
    answer = {"choices": [{"turns": ["x"]}]}
    question = {"turns": ["?"]}

    def score(text: str) -> Any:
        said.append(text)
        prompt = {"prompt_template": "", "system_prompt": "", "output_format": "[[rating]]"}
        try:
            rating = common.run_judge_single(question, answer, common.Judge("gpt-4", prompt), None)[0]
        except (SyntaxError, ValueError):  # what ast.literal_eval makes of "08" and of digits of other scripts
            return -1
        return -1 if rating > sys.float_info.max else rating

    def winner(text: str) -> str:
        said.append(text)
        prompt = {"prompt_template": "", "system_prompt": "", "output_format": "[[A]]"}
        return str(common.run_judge_pair(question, answer, answer, common.Judge("gpt-4", prompt), None)[0])

    yield {"score": score, "winner": winner}
    patch.undo()


def test_the_table_has_two_hundred_texts_each_once() -> None:
    texts = [text for text, *_ in SCORES]
    assert len(texts) == len(set(texts)) >= 200


@pytest.mark.parametrize(("text", "score", "strict"), SCORES)
def test_scores(fastchat: Any, text: str, score: float, strict: float | None) -> None:
    assert fastchat_score(text) == score == fastchat["score"](text)
    assert strict_score(text) == strict


@pytest.mark.parametrize(("text", "winner", "strict"), WINNERS)
def test_winners(fastchat: Any, text: str, winner: str, strict: str | None) -> None:
    assert fastchat_winner(text) == winner == fastchat["winner"](text)
    assert strict_winner(text) == strict


def test_integers_stay_integers_as_in_fastchat_s_files() -> None:
    assert [type(fastchat_score(text)) for text in ("[[8]]", "[[8.0]]", "none")] == [int, float, int]


@pytest.mark.parametrize(
    ("text", "disagreement"),
    [
        ("[[7]]", None),
        ("nothing", "no score by either rule"),
        ("[[7/10]]", "only the strict reader finds one: 7"),
        ("[[15]]", "only FastChat's rule finds one: 15"),
        ("[[7]] [[3.5]]", "FastChat's rule says 7, the strict reader 3.5"),
    ],
)
def test_a_disagreement_in_words(text: str, disagreement: str | None) -> None:
    assert read_judgment(text) == Reading(fastchat_score(text), strict_score(text), disagreement)


VERDICTS = st.text("[]0123456789./10 ABCRating:＃\n*７٧½", max_size=40) | st.text(max_size=40)


@given(st.lists(VERDICTS | st.sampled_from([text for text, *_ in SCORES if len(text) < 100]), max_size=3).map(" ".join))
@example("[[" + "[" * 50)
def test_any_text_is_read_as_by_fastchat_and_strictly_within_the_scale(fastchat: Any, text: str) -> None:
    assert fastchat_score(text) == fastchat["score"](text)
    assert fastchat_winner(text) == fastchat["winner"](text)
    strict = strict_score(text)
    assert strict is None or 1 <= strict <= 10
    assert strict_winner(text) in {"A", "B", "tie", None}


@given(st.text(max_size=50).filter(lambda text: not re.search(r"[\[\]［］]|</?think", text, re.I)), st.integers(1, 10))
def test_a_verdict_as_asked_for_is_read_by_both_whatever_surrounds_it(around: str, score: int) -> None:
    text = f"{around} Rating: [[{score}]] {around}"
    assert read_judgment(text) == Reading(score, score, None)


@pytest.mark.parametrize("piece", ["[[1", "[", "[[", "[[]]", "1", " ", "[1] ", "rating ", "[[" + " " * 50, "\n"])
def test_time_grows_with_the_length_alone(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    start = time.process_time()
    read_judgment(text)
    strict_winner(text)
    assert time.process_time() - start < 5


def test_real_judgments_are_read_as_they_were_recorded(shared: Path) -> None:
    files = sorted((shared / "mt_bench" / "model_judgment").glob("*.jsonl"))
    found = read_judgments(files)
    assert [fastchat_score(record.judgment) for record in found.single] == [record.score for record in found.single]
    recorded = [winner for record in found.pairs for winner in (record.g1_winner, record.g2_winner)]
    texts = [text for record in found.pairs for text in (record.g1_judgment, record.g2_judgment)]
    first = {"A": "model_1", "B": "model_2"}
    second = {"A": "model_2", "B": "model_1"}
    read = [(first, second)[game % 2].get(winner, winner) for game, winner in enumerate(map(fastchat_winner, texts))]
    assert read == recorded
    assert (len(found.single), len(found.pairs)) == (800, 75)
    disagreeing = [record for record in found.single if read_judgment(record.judgment).disagreement]
    assert [(record.model, record.question_id, record.turn) for record in disagreeing] == [("unify", 131, 2)]
