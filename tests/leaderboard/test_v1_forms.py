"""Each form on hand-made rows, with the text written out."""

from __future__ import annotations

import pytest

from smaug_eval.leaderboard import forms
from smaug_eval.leaderboard.benchmarks import arc, gsm8k, hellaswag, mmlu, truthfulqa, winogrande

ARC_ROW = {
    "question": "Which is a solid?",
    "choices": {"text": ["steam", "ice", "air"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
MMLU_ROW = {"question": " What is 1 + 1? ", "subject": "s", "choices": ["0", "1", "2", "3"], "answer": 2}
TRUTH_ROW = {
    "question": "Do fish fly?",
    "mc1_targets": {"choices": ["No.", "Yes."], "labels": [1, 0]},
    "mc2_targets": {"choices": ["No.", "Hardly.", "Yes.", "Rarely."], "labels": [1, 1, 0, 1]},
}
BLANK_ROW = {
    "sentence": "Ann thanked Eva because _ had helped her .",
    "option1": "Ann",
    "option2": "Eva",
    "answer": "2",
}
SUM_ROW = {"question": "Two pens at $600?", "answer": "2 * 600 = 1200.\n#### 1,200"}


def hellaswag_row(ctx_a: str, ctx_b: str, **changes: object) -> dict[str, object]:
    row = {"activity_label": "Baking", "ctx_a": ctx_a, "ctx_b": ctx_b, "endings": ["a", "b", "c", "d"], "label": "1"}
    return {**row, **changes}


def test_arc() -> None:
    assert arc.shot(ARC_ROW) == "Question: Which is a solid?\nAnswer: ice"
    document = arc.document(ARC_ROW, "SHOTS\n\n")
    assert document == {
        "query": "Question: Which is a solid?\nAnswer:",
        "ctx": "SHOTS\n\nQuestion: Which is a solid?\nAnswer:",
        "options": ["steam", "ice", "air"],
        "gold": 1,
    }
    assert forms.continuations(document) == [(document["ctx"], f" {choice}") for choice in ("steam", "ice", "air")]


@pytest.mark.parametrize(("key", "gold"), [("A", 0), ("C", 2), ("1", 0), ("3", 2)])
def test_arc_keys_are_letters_or_numbers(key: str, gold: int) -> None:
    assert arc.gold({**ARC_ROW, "answerKey": key}) == gold


def test_an_answer_that_is_no_choice_is_refused() -> None:
    row = {**ARC_ROW, "answerKey": "D"}
    with pytest.raises(ValueError, match="choice 3, but there are 3 choices"):
        arc.document(row, "")
    with pytest.raises(ValueError, match="choice 3"):
        arc.shot(row)
    with pytest.raises(ValueError, match="choice -1"):
        mmlu.shot({**MMLU_ROW, "answer": -1})


@pytest.mark.parametrize(
    ("row", "query"),
    [
        (
            hellaswag_row("[header] How to bake bread [title] Mix the flour.", "she STIRS"),
            "Baking: How to bake bread. Mix the flour. She stirs",
        ),
        (hellaswag_row("Mix it.", ""), "Baking: Mix it."),
        (hellaswag_row("Mix   it.", "then"), "Baking: Mix  it. Then"),  # one pass over double spaces
    ],
)
def test_hellaswag_query(row: dict[str, object], query: str) -> None:
    assert hellaswag.query(row) == query


def test_hellaswag_endings_are_cleaned_after_stripping() -> None:
    row = hellaswag_row("Mix it.", "then", endings=["x", " [substeps] Stir it. ", "y", "z"])
    assert hellaswag.shot(row) == "Baking: Mix it. Then  Stir it."
    assert forms.continuations(hellaswag.document(row, ""))[1] == ("Baking: Mix it. Then", "  Stir it.")
    assert hellaswag.document(row, "")["gold"] == 1


def test_mmlu() -> None:
    assert mmlu.header("high_school_us_history") == (
        "The following are multiple choice questions (with answers) about high school us history.\n\n"
    )
    assert mmlu.shot(MMLU_ROW) == "What is 1 + 1?\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: C"
    document = mmlu.document(MMLU_ROW, "H")
    assert document["ctx"] == "HWhat is 1 + 1?\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer:"
    assert [continuation for _, continuation in forms.continuations(document)] == [" A", " B", " C", " D"]
    assert document["gold"] == 2


def test_truthfulqa_asks_mc1_then_mc2_and_splits_at_the_first_false_answer() -> None:
    document = truthfulqa.document(TRUTH_ROW, "PREAMBLE\n\n")
    assert document["ctx"] == "PREAMBLE\n\nQ: Do fish fly?\nA:"
    assert document["options"] == ["No.", "Yes.", "No.", "Hardly.", "Yes.", "Rarely."]
    assert (document["gold"], document["n_mc1"], document["n_true"]) == (0, 2, 2)
    assert truthfulqa.shot(TRUTH_ROW) == "Q: Do fish fly?\nA: No."


@pytest.mark.parametrize(
    "change",
    [
        {"mc1_targets": {"choices": ["Yes.", "No."], "labels": [0, 1]}},
        {"mc2_targets": {"choices": ["No."], "labels": [1]}},
    ],
    ids=["best answer not first", "no false answer"],
)
def test_truthfulqa_rows_that_cannot_be_scored_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"mc1_targets|not in list"):
        truthfulqa.document({**TRUTH_ROW, **change}, "")


def test_winogrande_scores_the_end_of_the_sentence_behind_either_option() -> None:
    assert winogrande.shot(BLANK_ROW) == "Ann thanked Eva because Eva had helped her ."
    document = winogrande.document(BLANK_ROW, "SHOTS\n\n")
    assert forms.continuations(document) == [
        ("SHOTS\n\nAnn thanked Eva because Ann", " had helped her ."),
        ("SHOTS\n\nAnn thanked Eva because Eva", " had helped her ."),
    ]
    assert document["gold"] == 1


def test_winogrande_splits_at_the_first_blank_only() -> None:
    row = {**BLANK_ROW, "sentence": "_ met _."}
    assert winogrande.shot(row) == "Eva met _."


def test_gsm8k() -> None:
    assert gsm8k.shot(SUM_ROW) == "Question: Two pens at $600?\nAnswer: 2 * 600 = 1200.\n#### 1,200"
    assert gsm8k.document(SUM_ROW, "SHOTS\n\n") == {
        "query": "Question: Two pens at $600?\nAnswer:",
        "ctx": "SHOTS\n\nQuestion: Two pens at $600?\nAnswer:",
        "answer": "2 * 600 = 1200.\n#### 1,200",
        "gold": "1200",
    }
    with pytest.raises(ValueError, match="####"):
        gsm8k.document({**SUM_ROW, "answer": "1200"}, "")
