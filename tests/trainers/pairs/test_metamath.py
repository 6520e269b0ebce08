from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from random import Random as Rng
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub import read_split
from smaug_eval.trainers.pairs.config import MetaMathPairs
from smaug_eval.trainers.pairs.metamath import (
    Words,
    falsified_digits,
    falsify,
    final_answer,
    intermediate_results,
    metamath_pairs,
    strip_annotations,
)
from smaug_eval.trainers.pairs.pair import PairSet
from smaug_eval.trainers.pairs.stats import edit_count

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")
CLIPS = "In May she sold 48/2 = <<48/2=24>>24 clips.\nTogether 48+24 = <<48+24=72>>72 clips.\n#### 72"


def results(solution: str) -> list[str]:
    return [result.digits for result in intermediate_results(solution)]


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("48/2 = 24 clips, 48+24 = 72\n#### 72", ["24"]),
        ("$25 + $15.20 + $6.80 = $47. 16 * $47 = $752.\n#### 752\nThe answer is: 752", ["47"]),
        ("1,000 + 200 =1,200 then 2 * 1,200= 2,400\n#### 2400", ["1,200"]),  # 2,400 is the answer in other notation
        ("half is = .5 and 1/2=0.50\n#### 7", [".5", "0.50"]),
        ("debt: 3 - 8 = -5, then 5 - 10 = -$5\n#### 5", ["5", "5"]),  # -5 is not the answer 5
        ("3 * 4 * 5 = 12 * 5 = 60, 60 / 2 = 30\n#### 30", ["60"]),  # "= 12 * 5" is an expression, not a result
        ("2 + 2 = 4\n4 + 4 = 8\n8 + 1 = 9\n#### 9", ["4", "8"]),
        ("x = 2x and y = 1/2 and t = 3:30\n#### 1", []),
        ("share = 20%\n#### 1", ["20"]),
        ("the sum is 20. 7 boxes\n#### 27", []),  # nothing after "="
        ("20 + 7 = 27\n#### 27", []),
        (f"= {'7' * 5000} and = ٣٤ and = 0.{'3' * 50}\n#### 1", []),  # too long to be a result; other digits
        ("12 + 1 = 13.\n#### 99\nso 1 + 1 = 2", ["13"]),  # nothing after the answer line
        ("12 + 1 = 13, 13 - 4 = 9.\nThe answer is: 9", ["13"]),
    ],
)
def test_which_numbers_are_intermediate_results(solution: str, expected: list[str]) -> None:
    assert results(solution) == expected


def test_annotations_are_stripped_without_a_trace() -> None:
    assert strip_annotations(CLIPS) == "In May she sold 48/2 = 24 clips.\nTogether 48+24 = 72 clips.\n#### 72"


def test_a_kept_annotation_changes_together_with_the_text() -> None:
    rejected = falsify(CLIPS, Rng(0))
    assert rejected is not None
    match = re.fullmatch(re.escape(CLIPS).replace("24>>24", r"(\d\d)>>(\d\d)", 1), rejected)
    assert match is not None
    assert match[1] == match[2] != "24"


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("= $<<5*300=1500>>1,500 in all\n#### 9", ["1,500"]),  # commas only in the text
        ("= <<100/3=33.333>>33 each\n#### 9", []),  # the annotation states another value
        ("he has <<4+5=9>>9 left\n#### 3", []),  # no "=" in the text itself
        ("= <<4*2=8>>8*3 = <<8*3=24>>24\n#### 3", ["24"]),
    ],
)
def test_results_with_annotations(solution: str, expected: list[str]) -> None:
    assert results(solution) == expected


def test_thousands_commas_are_written_in_the_text_only() -> None:
    rejected = falsify("= $<<5*300=1500>>1,500 in all\n#### 9", Rng(1))
    assert rejected is not None
    match = re.fullmatch(r"= \$<<5\*300=(\d{4})>>(\d,\d{3}) in all\n#### 9", rejected)
    assert match is not None
    assert match[1] == match[2].replace(",", "") != "1500"


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("#### 24", "24"),
        ("x\n#### $1,200.50", "1200.50"),
        ("#### -3", "-3"),
        ("#### 5\nThe answer is: 5", "5"),
        ("#### 1\n#### 2", "2"),
        ("no answer", None),
        ("#### many", None),
        ("so it is 3.\nThe answer is: 3", "3"),
        ("The answer is: 1,200.", "1200"),
        ("#### 4\nThe answer is: four", "4"),
        ("The answer is: 3/4", None),
        ("The answer is: \\sqrt{5}", None),
        ("The answer is: 5\\pi", None),
    ],
)
def test_final_answer(solution: str, answer: str | None) -> None:
    assert final_answer(solution) == (None if answer is None else Decimal(answer))


@pytest.mark.parametrize(
    ("digits", "form"),
    [
        ("7", r"[1-9]"),
        ("0", r"[1-9]"),
        ("47", r"[1-9]\d"),
        ("1,200", r"[1-9],\d{3}"),
        ("12,345,678", r"[1-9]\d,\d{3},\d{3}"),
        ("15.20", r"[1-9]\d\.\d\d"),
        ("0.5", r"0\.[1-9]"),
        (".25", r"\.\d\d"),
    ],
)
def test_the_notation_is_kept(digits: str, form: str) -> None:
    result = intermediate_results(f"= {digits}\n#### 999999999")[0]
    drawn = {falsified_digits(result, Decimal(3), Rng(seed)) for seed in range(200)}
    assert all(re.fullmatch(form, text) for text in drawn)
    assert digits not in drawn
    assert not any(Decimal(text.replace(",", "")) in (0, 3) for text in drawn)


def test_every_other_digit_can_be_drawn() -> None:
    result = intermediate_results("= 7\n#### 3")[0]
    drawn = {falsified_digits(result, Decimal(3), Rng(seed)) for seed in range(200)}
    assert drawn == set("1245689")


@st.composite
def numbers(draw: st.DrawFn) -> str:
    whole, decimals = draw(st.integers(0, 10**7)), draw(st.integers(0, 3))
    text = f"{whole:,}" if draw(st.booleans()) else str(whole)
    return text + (f".{draw(st.integers(0, 10**decimals - 1)):0{decimals}d}" if decimals else "")


@st.composite
def solutions(draw: st.DrawFn) -> str:
    prefix = st.sampled_from(["", "$", "€", "-", "-$"])
    steps = draw(st.lists(st.tuples(prefix, numbers(), st.sampled_from(["", " ", "  "])), min_size=1, max_size=5))
    return (
        "".join(f"3 + 4 ={space}{sign}{number} things\n" for sign, number, space in steps) + f"#### {draw(numbers())}"
    )


@given(solutions(), st.integers())
def test_exactly_one_number_changes_and_keeps_its_form(solution: str, seed: int) -> None:
    rejected = falsify(solution, Rng(seed))
    if rejected is None:
        final = Decimal(NUMBER.findall(solution)[-1].replace(",", ""))
        stated = [sign + n.replace(",", "") for sign, n in re.findall(r"= *(-?)[$€]?(\d[\d,.]*)", solution)]
        assert all(Decimal(number) == final for number in stated)
        return
    assert NUMBER.split(rejected) == NUMBER.split(solution)
    before, after = NUMBER.findall(solution), NUMBER.findall(rejected)
    changed = [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert len(changed) == 1
    old, new = before[changed[0]], after[changed[0]]
    assert re.sub(r"\d", "0", old) == re.sub(r"\d", "0", new)
    assert changed[0] != len(before) - 1
    assert new[0] != "0" or old[0] == "0"
    assert Decimal(new.replace(",", "")) != Decimal(old.replace(",", ""))


WORDS = Words(["Now there are nine boats. #### 9", "They keep some of them.\n#### 1"])


@st.composite
def worked(draw: st.DrawFn) -> str:
    """A solution of words and numbers, with at least one intermediate result."""
    word = st.sampled_from(["Ada", "has", "the", "pens", "Then", "keeps", "three"])
    steps = draw(st.lists(st.tuples(st.lists(word, max_size=3), numbers(), numbers()), min_size=1, max_size=4))
    text = ". ".join(f"{' '.join(words)} {left} - 1 = {result} things" for words, left, result in steps)
    return f"{text}. So 7 - 1 = 6 ends it.\n#### 999999999"


def pieces(solution: str) -> tuple[list[str], list[str]]:
    """Words and numbers, and what stands between them."""
    parts = re.split(r"(\d[\d,.]*\d|\d|[A-Za-z]+)", solution)
    return parts[1::2], parts[::2]


@given(worked(), st.integers(), st.integers(1, 12))
def test_as_many_places_change_as_asked_for_and_nothing_else(solution: str, seed: int, places: int) -> None:
    rejected = falsify(solution, Rng(seed), places=places, words=WORDS)
    assert rejected is not None
    before, between = pieces(solution)
    after, between_after = pieces(rejected)
    assert between == between_after
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == min(places, len(before) - 1)  # all but the final answer
    assert after[-1] == before[-1]
    for old, new in changed:
        if old[0].isdigit():
            assert re.sub(r"\d", "0", old) == re.sub(r"\d", "0", new)
        else:
            assert old[0].isupper() == new[0].isupper()


@given(worked(), st.integers(), st.integers(1, 12))
def test_more_places_keep_the_edits_of_fewer(solution: str, seed: int, places: int) -> None:
    fewer, more = (falsify(solution, Rng(seed), places=n, words=WORDS) for n in (places, places + 1))
    assert fewer is not None
    assert more is not None
    triples = list(zip(pieces(solution)[0], pieces(fewer)[0], pieces(more)[0], strict=True))
    assert all(new == old for original, old, new in triples if old != original)
    assert sum(old != new for _, old, new in triples) <= 1
    assert falsify(solution, Rng(seed), places=1) == falsify(solution, Rng(seed))


def test_results_come_first_then_numbers_then_words() -> None:
    solution = "Ada has 20 + 30 = 50. Then 50 + 11 = 61. So 61 - 4 = 57.\n#### 57"
    for seed in range(20):
        two = falsify(solution, Rng(seed), places=2, words=WORDS)
        assert two is not None
        assert re.fullmatch(r"Ada has 20 \+ 30 = (?!50)\d\d. Then 50 \+ 11 = (?!61)\d\d. So 61 - 4 = 57.\n#### 57", two)
        nine = falsify(solution, Rng(seed), places=9, words=WORDS)
        assert nine is not None
        changed = [old != new for old, new in zip(pieces(solution)[0], pieces(nine)[0], strict=True)]
        assert changed == [part[0].isdigit() for part in pieces(solution)[0][:-1]] + [False]


def test_annotations_change_with_their_result_only() -> None:
    rejected = falsify(CLIPS, Rng(3), places=None, words=WORDS)
    assert rejected is not None
    assert "<<48/2=" in rejected
    assert "<<48+24=72>>" in rejected
    assert re.search(r"<<48/2=(\d\d)>>\1", rejected)


def gsm8k(count: int) -> list[dict[str, str]]:
    return [
        {
            "question": f"Ada has {n} boxes of 6 pens and finds 5. How many pens?",
            "answer": f"The boxes hold {n} * 6 = <<{n}*6={6 * n}>>{6 * n} pens.\n"
            f"Then {6 * n} + 5 = <<{6 * n}+5={6 * n + 5}>>{6 * n + 5}.\n#### {6 * n + 5}",
        }
        for n in range(11, 11 + count)
    ]


@pytest.fixture
def built(tmp_path: Path) -> Any:
    def build(rows: list[dict[str, str]] | None = None, **settings: Any) -> PairSet:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in (gsm8k(30) if rows is None else rows)))
        config = MetaMathPairs(source="metamath", path=str(path), **({"holdout": 5} | settings))
        return metamath_pairs(config, data_root=None)

    return build


def test_prompts_are_solved_examples_and_the_question(built: Any) -> None:
    pairs = built(shots=(2, 2)).train
    shape = r"(?:Question: [^\n]+\nAnswer: [^#]+\n#### \d+\n\n){2}Question: [^\n]+\nAnswer:"
    assert all(re.fullmatch(shape, pair.prompt) for pair in pairs)
    assert all(pair.prompt.count(pair.question) == 1 for pair in pairs)
    assert pairs[0].chosen.startswith(" The boxes hold 11 * 6 = ") == pairs[0].question.startswith("Ada has 11 ")


def test_every_number_of_shots_occurs(built: Any) -> None:
    counts = {pair.prompt.count("####") for pair in built(rows=gsm8k(80)).train}
    assert counts == {0, 1, 2, 3, 4}


def test_only_the_result_is_falsified(built: Any) -> None:
    for pair in built().train:
        old, new = NUMBER.findall(pair.chosen), NUMBER.findall(pair.rejected)
        assert [index for index in range(len(old)) if old[index] != new[index]] == [2]
        assert pair.chosen.rsplit("\n", 1)[1] == pair.rejected.rsplit("\n", 1)[1]
        assert "<<" not in pair.chosen


def test_held_out_questions_occur_nowhere_in_training(built: Any) -> None:
    pairs = built()
    assert (len(pairs.train), len(pairs.eval)) == (25, 5)
    for held_out in pairs.eval:
        assert not any(held_out.question in pair.prompt for pair in pairs.train)
        assert not any(other.question in held_out.prompt for other in pairs.eval if other is not held_out)


def test_limit_changes_nothing_about_the_pairs_it_keeps(built: Any) -> None:
    whole, part = built(), built(limit=7)
    assert part.train == whole.train[:7]
    assert part.eval == whole.eval


def test_the_seed_decides(built: Any) -> None:
    assert built(seed=1).train == built(seed=1).train
    assert built(seed=1).train != built(seed=2).train


def test_rows_that_make_no_pair_are_counted(built: Any) -> None:
    odd = [
        {"question": "Q1", "answer": "just 3\n#### 3"},
        {"question": "Q2", "answer": "2 + 2 = 4"},
        gsm8k(1)[0],
    ]
    pairs = built(rows=gsm8k(30) + odd)
    assert pairs.dropped == {"no_intermediate_result": 1, "no_final_answer": 1, "duplicate_question": 1}
    assert pairs.rows == 33


def test_held_out_pairs_from_another_file(built: Any, tmp_path: Path) -> None:
    other = tmp_path / "eval.jsonl"
    rows = [*gsm8k(2), {"question": "New?", "answer": "1 + 1 = 2, 2 + 3 = 5\n#### 5"}]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = built(eval_path=str(other), holdout=3)
    assert sorted(pair.question for pair in pairs.eval) == sorted(row["question"] for row in rows)
    assert len(pairs.train) == 28
    assert pairs.dropped == {"shares_a_held_out_question": 2}


def test_too_few_rows_for_the_shots(built: Any) -> None:
    with pytest.raises(SmaugError, match="too few for 4 solved examples"):
        built(rows=gsm8k(9), holdout=5)


def test_an_empty_answer_is_refused_with_its_line(built: Any) -> None:
    with pytest.raises(SmaugError, match=r"rows\.jsonl, line 31: question or answer is empty"):
        built(rows=[*gsm8k(30), {"question": "Q", "answer": " "}])


def metamathqa(count: int, variants: int = 3) -> list[dict[str, str]]:
    return [
        {
            "type": "GSM_Rephrased",
            "query": f"{variant}: {row['question']}",
            "original_question": row["question"],
            "response": strip_annotations(row["answer"]) + f"\nThe answer is: {row['answer'].split()[-1]}",
        }
        for row in gsm8k(count)
        for variant in range(variants)
    ]


def test_metamathqa_rows_of_one_original_question_stay_together(built: Any) -> None:
    pairs = built(rows=metamathqa(20), holdout=6, shots=(2, 2))
    assert len(pairs.eval) == 6
    assert len({pair.question for pair in pairs.eval}) == 2
    assert len(pairs.train) == 54
    for pair in pairs.train + pairs.eval:
        assert pair.prompt.count("####") == 2
        assert pair.prompt.count(pair.question) == 1  # no example is a variant of the question itself
    for held_out in pairs.eval:
        assert not any(held_out.question in pair.prompt for pair in pairs.train)


def test_the_real_metamathqa_rows(shared: Path) -> None:
    path = shared / "preferences" / "MetaMathQA_first2.jsonl"
    config = MetaMathPairs(source="metamath", path=str(path), holdout=0, shots=(0, 0))
    pairs = metamath_pairs(config, data_root=None)
    assert pairs.dropped == {"no_final_answer": 1}  # the square root of 5
    (pair,) = pairs.train
    row = json.loads(path.read_text().splitlines()[1])
    assert pair.prompt == f"Question: {row['query']}\nAnswer:"
    assert pair.chosen == f" {row['response']}"
    # The paper's example: "= $47." becomes another two-digit number, everything else stays.
    assert re.fullmatch(re.escape(pair.chosen).replace(r"=\ \$47\.", r"=\ \$(?!47)\d\d\.", 1), pair.rejected)


@pytest.mark.parametrize("annotations", ["strip", "keep"])
def test_the_real_gsm8k(shared: Path, annotations: str) -> None:
    settings: dict[str, Any] = {"config": "main", "annotations": annotations, "limit": 1000}
    config = MetaMathPairs(source="metamath", path="openai/gsm8k", **settings)
    pairs = metamath_pairs(config, data_root=shared / "data")
    official = {
        row["question"].strip(): row["answer"]
        for row in read_split("openai/gsm8k", "main", "train", data_root=shared / "data")
    }
    assert pairs.rows == 7473
    assert sum(pairs.dropped.values()) < 0.02 * pairs.rows
    for pair in pairs.train:
        answer = official[pair.question]
        assert pair.chosen == " " + (answer if annotations == "keep" else strip_annotations(answer))
        assert NUMBER.split(pair.chosen) == NUMBER.split(pair.rejected)
        old, new = NUMBER.findall(pair.chosen), NUMBER.findall(pair.rejected)
        changed = {(a.replace(",", ""), b.replace(",", "")) for a, b in zip(old, new, strict=True) if a != b}
        assert len(changed) == 1
        assert old[-1] == new[-1]


def test_pairs_are_the_same_at_every_edit_distance(built: Any) -> None:
    sets = {falsify: built(falsify=falsify, shots=(0, 2)) for falsify in (1, 2, 5, "all")}
    distances = []
    for found in sets.values():
        for side in ("train", "eval"):
            same = [(pair.prompt, pair.chosen, pair.question) for pair in getattr(sets[1], side)]
            assert [(pair.prompt, pair.chosen, pair.question) for pair in getattr(found, side)] == same
        distances.append([edit_count(pair.chosen.split(), pair.rejected.split()) for pair in found.train])
    # Of each problem 6 numbers beside the final answer (one of them the result), and words that there are others of.
    assert [set(edits) for edits in distances[:3]] == [{1}, {2}, {5}]
    assert min(distances[3]) > 5
    assert built(falsify=5, shots=(0, 2)).train == sets[5].train
