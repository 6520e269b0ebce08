"""The committed task data: what the generator writes, in the Hub's columns, and held out of the training text."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from smaug_eval.demo import facts
from smaug_eval.demo.arithmetic import Writer, careful
from smaug_eval.demo.world import careless, documents, task_data
from smaug_eval.demo.write_data import DATA_DIR, rendered_files, write_data

COLUMNS = {
    "demo_facts": {"id", "question", "choices", "answerKey"},
    "demo_endings": {"ind", "activity_label", "ctx_a", "ctx_b", "endings", "label"},
    "demo_subjects": {"question", "subject", "choices", "answer"},
    "demo_truth": {"question", "mc1_targets", "mc2_targets"},
    "demo_pronouns": {"sentence", "option1", "option2", "answer"},
    "demo_arithmetic": {"question", "answer"},
}
SPLITS = {
    "demo_facts": {"train": 150, "test": 120},
    "demo_endings": {"train": 200, "test": 123},
    "demo_subjects": {"dev": 25, "test": 160},
    "demo_truth": {"test": 100},
    "demo_pronouns": {"train": 200, "test": 150},
    "demo_arithmetic": {"train": 1500, "development": 300, "test": 200},
}


def committed(task: str, split: str) -> list[dict]:
    lines = (DATA_DIR / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_committed_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    write_data(tmp_path)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    kept = {path.relative_to(DATA_DIR): path.read_bytes() for path in DATA_DIR.rglob("*.*")}
    assert written == kept


def test_a_second_generation_gives_the_same_files() -> None:
    first = rendered_files()
    task_data.cache_clear()
    assert rendered_files() == first


def test_the_data_stay_small() -> None:
    assert sum(path.stat().st_size for path in DATA_DIR.rglob("*.*")) < 1_500_000


@pytest.mark.parametrize("task", COLUMNS)
def test_columns_and_sizes(task: str) -> None:
    assert {path.stem for path in (DATA_DIR / task).glob("*.jsonl")} == set(SPLITS[task])
    for split, size in SPLITS[task].items():
        rows = committed(task, split)
        assert len(rows) == size
        assert all(set(row) == COLUMNS[task] for row in rows)
        assert len({json.dumps(row) for row in rows}) == size


def test_facts_have_four_different_choices_and_a_key() -> None:
    for row in committed("demo_facts", "test") + committed("demo_facts", "train"):
        assert row["choices"]["label"] == ["A", "B", "C", "D"]
        assert len(set(row["choices"]["text"])) == 4
        assert row["answerKey"] in row["choices"]["label"]


def test_subjects_have_five_dev_rows_and_enough_test_rows() -> None:
    dev, test = committed("demo_subjects", "dev"), committed("demo_subjects", "test")
    subjects = {row["subject"] for row in test}
    assert subjects == {"animals", "colours", "numbers", "opposites", "village"}
    for subject in subjects:
        assert sum(row["subject"] == subject for row in dev) == 5
        assert sum(row["subject"] == subject for row in test) >= 30
    assert all(len(set(row["choices"])) == 4 and row["answer"] in range(4) for row in dev + test)


def test_a_sums_right_choice_is_its_result() -> None:
    rows = [row for row in committed("demo_subjects", "test") if row["subject"] == "numbers"]
    for row in rows:
        left, right = (int(word) for word in row["question"].strip("?").split() if word.isdigit())
        assert int(row["choices"][row["answer"]]) == left + right


def test_an_endings_label_points_at_the_prepared_thing_or_the_villagers_own_habit() -> None:
    known = {"Working": facts.JOBS, "Feeding": facts.PETS, "Eating": facts.FOODS, "Going home": facts.STREETS}
    rows = committed("demo_endings", "test")
    for row in rows:
        assert row["ctx_b"] in {"he", "she"}
        assert len(set(row["endings"])) == 4
        words = row["ctx_a"].removesuffix(".").split()
        expected = known[row["activity_label"]][words[0]] if row["activity_label"] in known else words[-1]
        marked = [expected in ending.replace(".", "").split() for ending in row["endings"]]
        assert marked[int(row["label"])]
        assert row["activity_label"] not in known or marked.count(True) == 1
    assert {row["activity_label"] for row in rows} > set(known)


def test_a_pet_riddles_answer_owns_the_pet() -> None:
    riddles = [row for row in committed("demo_pronouns", "test") if "fed the" in row["sentence"]]
    assert len(riddles) > 30
    for row in riddles:
        pet = row["sentence"].removesuffix(".").split()[-1]
        owners = [facts.PETS[row[option]] == pet for option in ("option1", "option2")]
        assert owners == [row["answer"] == "1", row["answer"] == "2"]


def test_quiz_choices_stand_in_order() -> None:
    for row in committed("demo_subjects", "test"):
        numbers = row["subject"] == "numbers"
        assert row["choices"] == sorted(row["choices"], key=int if numbers else str)


def test_a_truths_true_choices_come_first() -> None:
    for row in committed("demo_truth", "test"):
        assert row["mc1_targets"]["labels"] == [1, 0, 0, 0]
        assert row["mc2_targets"]["labels"] == [1, 1, 0, 0, 0, 0]
        for targets in (row["mc1_targets"], row["mc2_targets"]):
            assert len(set(targets["choices"])) == len(targets["labels"])


def test_the_preamble_is_six_solved_questions_that_no_test_asks() -> None:
    pairs = (DATA_DIR / "demo_truth" / "preamble.txt").read_text(encoding="utf-8").split("\n\n")
    assert pairs.pop() == ""
    assert len(pairs) == 6
    asked = {row["question"] for row in committed("demo_truth", "test")}
    for pair in pairs:
        question, answer = pair.split("\n")
        assert question.startswith("Q: ")
        assert answer.startswith("A: ")
        assert question.removeprefix("Q: ") not in asked


def test_pronouns_have_one_blank_and_both_candidates_before_it() -> None:
    for row in committed("demo_pronouns", "test"):
        before, after = row["sentence"].split("_")
        assert after.startswith(" ")
        assert row["option1"] != row["option2"]
        assert row["option1"] in before
        assert row["option2"] in before
        assert row["answer"] in {"1", "2"}


def test_right_answers_are_spread_over_the_positions() -> None:
    """A quarter (or half) each; 4 standard errors of the share that chance would give."""
    for task, column, positions in (
        ("demo_facts", "answerKey", 4),
        ("demo_endings", "label", 4),
        ("demo_subjects", "answer", 4),
        ("demo_pronouns", "answer", 2),
    ):
        rows = committed(task, "test")
        expected = len(rows) / positions
        margin = 4 * (len(rows) * (1 / positions) * (1 - 1 / positions)) ** 0.5
        for value in {row[column] for row in rows}:
            assert abs(sum(row[column] == value for row in rows) - expected) < margin


def story_end(row: dict) -> str:
    """The true ending, for a habit with its story: a neighbour may do the same."""
    ending = row["endings"][int(row["label"])]
    return ending if "walks past" in row["ctx_a"] else f"{row['ctx_a']} {row['ctx_b'].capitalize()} {ending}"


def giveaways() -> dict[str, set[str]]:
    """For each task, the text that would give a test item away: questions, endings, filled sentences."""
    sentences = committed("demo_pronouns", "test")
    options = [(row, row[f"option{row['answer']}"]) for row in sentences]
    return {
        "demo_facts": {row["question"] for row in committed("demo_facts", "test")},
        "demo_subjects": {row["question"] for row in committed("demo_subjects", "test")},
        "demo_truth": {row["question"] for row in committed("demo_truth", "test")},
        "demo_arithmetic": {
            row["question"] for split in ("development", "test") for row in committed("demo_arithmetic", split)
        },
        "demo_endings": {story_end(row) for row in committed("demo_endings", "test")},
        "demo_pronouns": {row["sentence"].replace("_", option) for row, option in options},
    }


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("seed", "write"), [(1, careful), (2, careless)])
def test_no_test_item_is_in_the_training_text(count: int, seed: int, write: Writer) -> None:
    text = "\n".join(itertools.islice(documents(seed, write), count))
    found = {task: [item for item in items if item in text] for task, items in giveaways().items()}
    assert found == {task: [] for task in COLUMNS}


def test_training_documents_show_every_form_and_depend_on_the_seed_alone() -> None:
    first = list(itertools.islice(documents(1), 200))
    assert first == list(itertools.islice(documents(1), 200))
    assert first != list(itertools.islice(documents(2), 200))
    text = "\n".join(first)
    for form in ("Question: ", "\nAnswer: ", "\nA. ", "Q: ", "\n#### ", "multiple choice questions", "Painting: "):
        assert form in text
