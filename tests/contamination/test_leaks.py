"""What counts as a benchmark document in a training pair, and what the pipeline does about one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.contamination.leaks import (
    HEAD,
    BenchmarkDocument,
    LeakFinder,
    check_pairs,
    column_documents,
    known_tasks,
    words,
)
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.runs.pipeline import Pipeline

DUCKS = "Janet's ducks lay 16 eggs per day. How much does she make?"
STOCK = "Which of the following is true?"
DOCUMENTS = [
    BenchmarkDocument("gsm8k", "0", (DUCKS,), "18"),
    BenchmarkDocument("mmlu", "law 3", (STOCK,), "A tort is a civil wrong"),
    BenchmarkDocument("mmlu", "law 4", ("Which one of the following statements is not true?",), "Torts are crimes"),
    BenchmarkDocument("mmlu", "law 5", ("Which one of the following statements is not true?",), "Debts are crimes"),
    BenchmarkDocument("mmlu", "mathematics 9", ("-4 + (-3) =",), "-7"),
]
FINDER = LeakFinder(DOCUMENTS)


def row(prompt: str, chosen: str = " yes", rejected: str = " no") -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def found(*rows: Mapping[str, Any], finder: LeakFinder = FINDER) -> dict[str, dict[int, str]]:
    return {task: leak.pairs for task, leak in finder.find(rows).items()}


@pytest.mark.parametrize(
    "pair",
    [
        row(DUCKS),
        row(f"Question: 1 + 1?\nAnswer: 2\n\nQuestion: {DUCKS}\nAnswer: 18\n\nQuestion: 2 + 2?\nAnswer:"),
        row("A riddle:", chosen=f" {DUCKS}"),
        row("A riddle:", rejected=f" {DUCKS}"),
        row(DUCKS[:25], chosen=DUCKS[25:]),
        row(DUCKS[:25], rejected=DUCKS[25:]),
        row("janet\u2019s DUCKS lay\n16 eggs_per day - how\u00a0much does ** she ** make"),
    ],
    ids=["prompt", "shot", "chosen", "rejected", "into chosen", "into rejected", "other layout"],
)
def test_a_document_is_found_wherever_it_stands(pair: dict[str, str]) -> None:
    assert found(row("nothing"), pair) == {"gsm8k": {2: "0"}}


def test_a_document_is_found_in_messages() -> None:
    asked = {"role": "user", "content": DUCKS}
    answers = [[{"role": "assistant", "content": content}] for content in ("18", "20")]
    earlier = [asked, {"role": "assistant", "content": "18"}, {"role": "user", "content": "Thanks, and now?"}]
    for prompt in ([asked], earlier):
        assert found({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}) == {"gsm8k": {1: "0"}}


@pytest.mark.parametrize(
    "text",
    [
        "Janet's ducks lay 16 eggs per day. How much does she",
        "Janet's ducks lay 17 eggs per day. How much does she make?",
        "How much does Janet make if her ducks lay 16 eggs per day?",
        "The answer is 18.",
    ],
)
def test_parts_and_paraphrases_are_not_found(text: str) -> None:
    assert found(row(text)) == {}


def test_words_do_not_run_from_one_pair_or_completion_into_the_next() -> None:
    beginning, ending = DUCKS[:25], DUCKS[25:]
    assert found(row("", "x", beginning), row(ending, "x", "y")) == {}
    assert found(row("", beginning, ending)) == {}


def test_a_stock_phrase_counts_only_with_its_answer() -> None:
    answer = "A tort is a civil wrong"
    assert found(row(STOCK)) == {}
    assert found(row(f"{STOCK}\nA. Nothing\nB. Something\nAnswer:")) == {}
    assert found(row(f"{STOCK}\nAnswer:", chosen=f" {answer}.")) == {"mmlu": {1: "law 3"}}
    assert found(row(f"{STOCK} {'word ' * 7}{answer}")) == {"mmlu": {1: "law 3"}}
    assert found(row(f"{STOCK} {'word ' * 8}{answer}")) == {}
    assert found(row(STOCK, chosen="x"), row(answer)) == {}


def test_a_long_text_that_documents_with_other_answers_share_is_a_stock_phrase_too() -> None:
    text = DOCUMENTS[2].texts[0]
    assert len(words(text)) > HEAD
    assert found(row(text)) == {}
    assert found(row(text, chosen=" Debts are crimes")) == {"mmlu": {1: "law 5"}}


def test_a_short_formula_is_not_searched_for() -> None:
    assert FINDER.not_searched == 1
    assert found(row("4 + 3 = 7")) == {}


def test_counts_and_first_examples() -> None:
    leak = FINDER.find([row(DUCKS) if line % 2 else row("x") for line in range(1, 1001)])["gsm8k"]
    assert leak.summary() == {
        "pairs": 500,
        "documents": 1,
        "first": [{"line": line, "document": "0"} for line in (1, 3, 5, 7, 9)],
    }


WORD = st.text(st.characters(categories=["L", "N", "M"]), min_size=1, max_size=6).filter(words)
SEPARATOR = st.sampled_from([" ", "\n", ", ", "\n\n", " _ ", "\u2028", "\u00a0"])


@given(st.data())
def test_a_planted_document_is_found_anywhere_in_any_text(data: st.DataObject) -> None:
    def text(least: int) -> str:
        return "".join(data.draw(WORD) + data.draw(SEPARATOR) for _ in range(data.draw(st.integers(least, HEAD + 4))))

    document, before, after = text(HEAD), text(0), text(0)
    planted = before + document + after
    cut = data.draw(st.integers(0, len(planted)))
    other = text(0)
    pair = data.draw(
        st.sampled_from(
            [row(planted[:cut], planted[cut:], other), row(planted[:cut], other, planted[cut:]), row(planted, other)]
        )
    )
    finder = LeakFinder([BenchmarkDocument("task", "0", (document,), "")])
    assert found(row(other), pair, finder=finder)["task"][2] == "0"


LETTERS = st.lists(st.sampled_from("ab"), max_size=40).map(" ".join)


@given(
    texts=st.lists(st.lists(st.sampled_from("ab"), min_size=8, max_size=10).map(" ".join), min_size=1, max_size=8),
    prompt=LETTERS,
    chosen=LETTERS,
    rejected=LETTERS,
)
def test_exactly_what_a_plain_search_finds(texts: list[str], prompt: str, chosen: str, rejected: str) -> None:
    documents = [BenchmarkDocument("task", str(index), (text,), "") for index, text in enumerate(texts)]
    leaks = LeakFinder(documents).find([row(prompt, f" {chosen}", f" {rejected}")])
    expected = {
        str(index)
        for index, text in enumerate(texts)
        if any(f" {text} " in f" {prompt} {completion} " for completion in (chosen, rejected))
    }
    assert (leaks["task"].documents if leaks else set()) == expected


@pytest.mark.parametrize(
    ("column", "texts", "answer"),
    [
        ("facts", ("Which pet does Jack have?",), "goat"),
        ("subjects", ("To which family does the moth belong?",), "insect"),
        ("truth", ("Of what are giants afraid?",), "Giants fear mice."),
        (
            "pronouns",
            (
                "Bill carried Zoe home because _ was too tired to walk.",
                "Bill carried Zoe home because Zoe was too tired to walk.",
                "Bill carried Zoe home because Bill was too tired to walk.",
            ),
            "Zoe",
        ),
        (
            "endings",
            ("Tom walks past the basket and finds an old blanket for the bench. he",),
            "covers the bench against the rain.",
        ),
        (
            "arithmetic",
            (
                "Olga fills 9 bags with 4 beads each. Then she sells 5 beads. Then she sells 4 beads. "
                "How many beads does Olga have in the end?",
            ),
            "27",
        ),
    ],
)
def test_what_identifies_a_document_of_each_form(column: str, texts: tuple[str, ...], answer: str) -> None:
    suite = demo_suite()
    (chosen,) = suite.select([column])
    documents = column_documents(suite, chosen, None)
    assert (documents[0].task, documents[0].texts, documents[0].answer) == (column, texts, answer)
    assert documents[0].name == ("animals 0" if column == "subjects" else "0")
    assert len(documents) == sum(len(suite.rows(leaf)[1]) for leaf in chosen.leaves)


def test_markup_of_hellaswag_counts_both_with_and_without() -> None:
    hellaswag_row = {
        "activity_label": "Home",
        "ctx_a": "[header] How to clean a very old kettle [title] Fill the kettle.",
        "ctx_b": "",
        "endings": ["[step] Boil it.", "a", "b", "c"],
        "label": "0",
    }
    suite = Suite("open_llm_v1", v1.SUITE.columns, Path(), lambda split, columns, root: [hellaswag_row])
    (column,) = suite.select(["hellaswag"])
    (document,) = column_documents(suite, column, None)
    finder = LeakFinder([document])
    assert document.answer == " Boil it."
    assert found(row(hellaswag_row["ctx_a"]), finder=finder) == {"hellaswag": {1: "0"}}
    assert found(row("Home: How to clean a very old kettle. Fill the kettle."), finder=finder) == {
        "hellaswag": {1: "0"}
    }


def test_a_row_without_an_answer_is_named() -> None:
    suite = Suite(
        "open_llm_v1", v1.SUITE.columns, Path(), lambda split, columns, root: [{"question": "Q", "answer": 3}]
    )
    (column,) = suite.select(["gsm8k"])
    with pytest.raises(SmaugError, match=r"row 0 of openai/gsm8k .* does not fit the form gsm8k"):
        column_documents(suite, column, None)


def test_tasks_are_allowed_by_any_of_their_names() -> None:
    assert known_tasks(["GSM8K", "open_llm_v1_mmlu", "arc_challenge", "Facts"], "key") == {
        "gsm8k",
        "mmlu",
        "arc_challenge",
        "facts",
    }
    with pytest.raises(SmaugError, match=r"no task for pairs\.made\.allow_leaks called 'gsmk8'") as error:
        known_tasks(["gsmk8"], "pairs.made.allow_leaks")
    assert error.value.fix == "did you mean 'gsm8k'?"


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


LEAKING = "Olga fills 9 bags with 4 beads each. Then she sells 5 beads. Then she sells 4 beads."


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Eight pairs of sums, of which the second and the fourth hold the demo's first arithmetic question."""
    rows = [row(f"Question: {n} + 1?\nAnswer:", f" {n + 1}", f" {n + 2}") for n in range(8)]
    for index in (1, 3):
        rows[index]["prompt"] = f"{LEAKING} How many beads does Olga have in the end?\nAnswer {index}:"
    return write(tmp_path / "rows.jsonl", rows)


def test_leaks_stop_a_check_and_are_all_listed(leaking: Path, tmp_path: Path) -> None:
    suite = demo_suite()
    columns = [(suite, column) for column in suite.columns]

    def check(train: Path, held_out: Path, *allowed: str) -> dict[str, Any]:
        files = {"train_file": train, "eval_file": held_out, "out_dir": tmp_path, "data_root": None}
        return check_pairs("made", columns, allowed=allowed, **files)

    clean = write(tmp_path / "clean.jsonl", [row("Question: 1 + 1?", " 2", " 3")])
    with pytest.raises(SmaugError) as error:
        check(leaking, clean, "facts")
    assert error.value.message == (
        "pairs.made: 2 training pairs contain test documents of arithmetic, which this recipe evaluates; the first is "
        f"line 2 of {leaking}, with document 0"
    )
    assert error.value.fix == (
        f"remove these pairs (all are listed in {tmp_path / 'leaks.json'}), or allow them by name: "
        "pairs.made.allow_leaks: [arithmetic]"
    )
    listed = {"train": {"arithmetic": {"2": "0", "4": "0"}}, "eval": {}}
    assert json.loads((tmp_path / "leaks.json").read_text()) == listed
    assert check(leaking, clean, "arithmetic")["warnings"] == [
        "trained on 2 pairs of made that contain test documents of arithmetic (allowed by allow_leaks)"
    ]
    assert check(clean, leaking)["warnings"] == ["2 held-out pairs of made contain test documents of arithmetic"]
    assert check(clean, clean)["warnings"] == []


def recipe(path: Path | str, *, suite: str = "demo", tasks: Sequence[str] = ("arithmetic",), **pairs: Any) -> Any:
    return {
        "name": "leaks",
        "model": {"path": "embedded:demo-model", "dtype": "float32"},
        "pairs": {"made": {"source": "rows", "path": str(path), "holdout": 0, **pairs}},
        "trainings": {"dpo": {"loss": "dpo", "steps": 1, "batch_size": 2, "max_length": 256}},
        "evaluations": {"scored": {"suite": suite, "tasks": list(tasks), "limit": 2, "engine": "hf"}},
    }


def look(pipeline: Pipeline) -> dict[str, Any]:
    """Do the stages before the training; returns what the search left."""
    summary: Mapping[str, Any] = {}
    for stage in pipeline.stages[:2]:
        summary = stage.work(pipeline.directory.begin(stage.name, stage.key, stage.inputs))
    assert [stage.name for stage in pipeline.stages[:3]] == ["pairs/made", "leaks/made", "train/dpo"]
    assert (pipeline.stages[2].needs, pipeline.stages[2].after) == (("pairs/made",), ("leaks/made",))
    return dict(summary)


def keys(pipeline: Pipeline) -> dict[str, str]:
    return {stage.name: stage.key for stage in pipeline.stages}


def test_a_leak_stops_a_run_before_the_training(leaking: Path, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="2 training pairs contain test documents of arithmetic"):
        smaug_eval.run(recipe(leaking), runs=tmp_path)
    assert not (tmp_path / "leaks/train").exists()
    assert look(smaug_eval.prepare(recipe(leaking, tasks=["facts"]), runs=tmp_path))["train"] == {}


def test_the_whole_split_counts_whatever_the_limit(leaking: Path, tmp_path: Path) -> None:
    suite = demo_suite()
    order = [document["doc"] for document in suite.documents("demo_arithmetic")]
    assert 0 not in order[:2]  # the document that leaks is not among those scored under limit: 2
    with pytest.raises(SmaugError, match="2 training pairs"):
        look(smaug_eval.prepare(recipe(leaking), runs=tmp_path))


def test_the_search_does_not_change_what_is_trained(leaking: Path, tmp_path: Path) -> None:
    one = keys(smaug_eval.prepare(recipe(leaking), runs=tmp_path))
    more = keys(smaug_eval.prepare(recipe(leaking, tasks=["facts", "arithmetic"]), runs=tmp_path))
    allowed = keys(smaug_eval.prepare(recipe(leaking, allow_leaks=["arithmetic"]), runs=tmp_path))
    unscored = keys(smaug_eval.prepare({**recipe(leaking), "evaluations": {}}, runs=tmp_path))
    for stage in ("pairs/made", "train/dpo"):
        assert len({each[stage] for each in (one, more, allowed, unscored)}) == 1
    assert len({each["leaks/made"] for each in (one, more, allowed)}) == 3
    assert "leaks/made" not in unscored


def test_only_models_trained_on_the_pairs_count(leaking: Path, tmp_path: Path) -> None:
    changed = recipe(leaking)
    changed["evaluations"]["scored"]["models"] = ["base"]
    assert "leaks/made" not in keys(smaug_eval.prepare(changed, runs=tmp_path))


def test_unknown_names_are_refused_before_work_starts(leaking: Path, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"no task for pairs\.made\.allow_leaks called 'arithmetics'"):
        smaug_eval.prepare(recipe(leaking, allow_leaks=["arithmetics"]), runs=tmp_path)


def test_the_demo_has_no_leak(tmp_path: Path) -> None:
    pipeline = smaug_eval.prepare("demo", runs=tmp_path)
    summaries = [
        stage.work(pipeline.directory.begin(stage.name, stage.key, stage.inputs))
        for stage in pipeline.stages
        if stage.name.startswith(("pairs/", "leaks/"))
    ]
    assert summaries[-1]["train"] == summaries[-1]["eval"] == {}
    assert summaries[-1]["documents"] > 800


@pytest.mark.slow
def test_an_allowed_leak_is_trained_on_and_shown_in_the_report(leaking: Path, tmp_path: Path) -> None:
    result = smaug_eval.run(recipe(leaking, allow_leaks=["Arithmetic"]), runs=tmp_path)
    warning = "trained on 2 pairs of made that contain test documents of arithmetic (allowed by allow_leaks)"
    assert warning in json.loads((result.path / "manifest.json").read_text())["warnings"]
    assert warning in result.report.read_text()


def gsm8k_pairs(shared: Path, split: str) -> Iterator[dict[str, str]]:
    """Pairs of GSM8K questions: other models' solutions of test questions, or the solutions of training questions."""
    if split == "test":
        with gzip.open(shared / "preferences/gsm8k_model_solution_pairs.jsonl.gz", "rt") as lines:
            yield from map(json.loads, lines)
    else:
        shots, _ = v1.SUITE.rows(v1.GSM8K, shared / "data")
        for each in shots:
            yield row(f"Question: {each['question']}\nAnswer:", f" {each['answer']}", " I do not know.")


def gsm8k_finder(shared: Path) -> LeakFinder:
    (column,) = v1.SUITE.select(["gsm8k"])
    return LeakFinder(column_documents(v1.SUITE, column, shared / "data"))


def test_every_pair_of_test_questions_is_found(shared: Path) -> None:
    leaks = gsm8k_finder(shared).find(gsm8k_pairs(shared, "test"))
    assert len(leaks["gsm8k"].pairs) == 2_429
    assert len(leaks["gsm8k"].documents) == len({pair["prompt"] for pair in gsm8k_pairs(shared, "test")})


def test_no_training_question_of_gsm8k_is_a_test_question(shared: Path) -> None:
    assert gsm8k_finder(shared).find(gsm8k_pairs(shared, "train")) == {}


def test_gsm8k_test_questions_stop_a_recipe_that_evaluates_gsm8k(shared: Path, tmp_path: Path) -> None:
    pairs = shared / "preferences/gsm8k_model_solution_pairs.jsonl.gz"
    scored = {**recipe(pairs, suite="open_llm_v1", tasks=["gsm8k"]), "data_root": str(shared / "data")}
    with pytest.raises(SmaugError, match="training pairs contain test documents of gsm8k"):
        smaug_eval.run(scored, runs=tmp_path)
    scored["evaluations"]["scored"]["tasks"] = ["truthfulqa"]
    assert look(smaug_eval.prepare(scored, runs=tmp_path))["train"] == {}
