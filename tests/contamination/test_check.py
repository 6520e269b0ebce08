"""The contamination checks: the score beside a plain reading of the tool, planted documents in models and in pairs."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.contamination import score
from smaug_eval.contamination.check import MARKS, check_settings
from smaug_eval.contamination.examples import column_examples
from smaug_eval.contamination.grams import OverlapFinder
from smaug_eval.contamination.leaks import BenchmarkDocument
from smaug_eval.contamination.published import PUBLISHED
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.benchmarks import arc, gsm8k, hellaswag, mmlu, truthfulqa, winogrande
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.forms import Form, Row
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.stats import mcnemar_p_value

MODEL = "embedded:demo-model"
TEXT = "Olga fills 9 bags with 4 beads each. How many beads does Olga have? Olga has 9 * 4 = 36 beads."


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(embedded_path(MODEL))


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    loaded = build_engine(
        EngineSpec("torch", embedded_path(MODEL), dtype="float32", batch_size=100, device="cpu", engine_args={})
    )
    assert isinstance(loaded, TorchEngine)
    return loaded


# Examples


def of_rows(form: Form, rows: Sequence[Row], limit: int | None = None) -> list[tuple[int, str]]:
    spec = TaskSpec("task", form, DataSplit("set", "default", "test"))
    column = Column("Task", "task", "acc", (spec,))
    suite = Suite("suite", (column,), None, lambda split, columns, data_root: rows)
    return [(example.row, example.text) for example in column_examples(suite, column, None, limit)]


def arc_row(question: str, key: str) -> dict[str, Any]:
    return {"question": question, "choices": {"text": ["one", "two", "three", "four"]}, "answerKey": key}


@pytest.mark.parametrize(
    ("form", "row", "text"),
    [
        (arc.FORM, arc_row("How many?", "C"), "How many? three"),
        (mmlu.FORM, {"question": "Q", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 3}, "Q d"),
        (
            truthfulqa.FORM,
            {"question": "Q?", "mc1_targets": {"choices": ["no", "yes"], "labels": [0, 1]}, "mc2_targets": {}},
            "Q? yes",
        ),
        (gsm8k.FORM, {"question": "Q?", "answer": "1 + 1 = 2\nSo 2.\n#### 2"}, "Q? 1 + 1 = 2\nSo 2."),
        (
            winogrande.FORM,
            {"sentence": "Ann thanked Bea as _ had helped.", "option1": "Ann", "option2": "Bea", "answer": "2"},
            "Ann thanked Bea as Bea had helped.",
        ),
        (
            hellaswag.FORM,
            {
                "activity_label": "Baking",
                "ctx_a": "She takes the dough.",
                "ctx_b": "she",
                "endings": ["flies.", "kneads it."],
                "label": "1",
            },
            "Baking: She takes the dough. She kneads it.",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else "",
)
def test_a_document_is_question_and_right_answer(form: Form, row: Row, text: str) -> None:
    assert of_rows(form, [row]) == [(0, text)]


def test_the_examples_are_those_of_the_tool() -> None:
    rows = [arc_row(f"question {index}", "AB1E"[index % 4]) for index in range(40)]
    usable = [(index, f"question {index} {'one' if index % 4 == 0 else 'two'}") for index in range(40) if index % 4 < 2]
    random.seed(0)
    random.shuffle(usable)
    assert of_rows(arc.FORM, rows, 7) == usable[:7]
    assert sorted(of_rows(arc.FORM, rows)) == sorted(usable)


def test_a_row_that_does_not_fit_is_named() -> None:
    with pytest.raises(SmaugError, match=r"row 1 of set .* arc"):
        of_rows(arc.FORM, [arc_row("fine", "A"), {"question": "no choices", "answerKey": "A"}])


def test_every_column_of_the_demo_has_texts() -> None:
    suite = demo_suite()
    for column in suite.columns:
        assert all(len(example.text.split()) > 2 for example in column_examples(suite, column, None, 5))


def test_the_leaderboards_documents(shared: Path) -> None:
    counts = {
        column.title: len(column_examples(v1.SUITE, column, shared / "data", None)) for column in v1.SUITE.columns
    }
    arc = v1.SUITE.rows(v1.ARC, shared / "data")[1]
    lettered = sum(row["answerKey"] in ("A", "B", "C", "D") for row in arc)
    assert counts == {
        "ARC": lettered,
        "HellaSwag": 10_042,
        "MMLU": 14_042,
        "TruthfulQA": 817,
        "Winogrande": 1_267,
        "GSM8K": 1_319,
    }
    assert 1_100 < lettered < 1_172


# The score


@pytest.mark.parametrize(
    ("words", "kept", "most"), [(1, 1, 1), (2, 1, 1), (3, 2, 1), (5, 2, 3), (6, 3, 3), (10, 4, 6), (100, 40, 60)]
)
def test_how_much_is_kept(words: int, kept: int, most: int) -> None:
    text = "  ".join(f"w{index}" for index in range(words))
    assert score.beginning(text) == (" ".join(f"w{index}" for index in range(kept)), most)


def test_a_text_is_flagged_below_a_tenth() -> None:
    assert score.NeighbourComparison(1.0, 9, 100).flagged
    assert not score.NeighbourComparison(1.0, 10, 100).flagged
    assert score.NeighbourComparison(1.0, 10, 100).score == 0.1


def plain_loss(model: Any, ids: Sequence[int]) -> float:
    """The loss that transformers computes of one text."""
    if len(ids) < 2:
        return math.inf
    row = torch.tensor([list(ids)])
    with torch.no_grad():
        return float(model(input_ids=row, labels=row).loss)


@pytest.mark.parametrize("special", [False, True], ids=["no BOS", "BOS"])
def test_losses_are_those_of_plain_forward_passes(engine: TorchEngine, tokenizer: Any, special: bool) -> None:
    texts = [TEXT, TEXT[:60], TEXT, "Olga", "Olga fills many jars with oats."]
    bos = [tokenizer.eos_token_id] if special else []
    ids = [bos + tokenizer(text)["input_ids"] for text in texts]
    ids.append(ids[0][:1])
    found = score.mean_losses(engine, ids)
    model = AutoModelForCausalLM.from_pretrained(embedded_path(MODEL), dtype=torch.float32).eval()
    expected = [plain_loss(model, each) for each in ids]
    assert expected[-1] == math.inf
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_likelier_neighbours_are_counted_as_the_tool_counts_them(engine: TorchEngine, tokenizer: Any) -> None:
    usual = "Olga fills 9 bags with 4 beads each. Then she sells 5 beads. How many beads does Olga have in the end?"
    neighbours = [usual, "Zebra quorum xylophone 77 !!", TEXT, "Olga has 9 beads. " * 40, ""]
    found = score.compare(engine, tokenizer, TEXT, neighbours)
    model = AutoModelForCausalLM.from_pretrained(embedded_path(MODEL), dtype=torch.float32).eval()
    own = plain_loss(model, tokenizer(TEXT)["input_ids"])
    cut = [tokenizer(text)["input_ids"][: score.MOST_TOKENS] for text in neighbours]
    assert max(map(len, cut)) == score.MOST_TOKENS < len(tokenizer(neighbours[3])["input_ids"])
    losses = [plain_loss(model, ids) for ids in cut]
    assert found.loss == pytest.approx(own, abs=1e-4)
    assert found.neighbours == 5
    # Of the same text the loss is the same, and not smaller.
    assert found.likelier == sum(loss < own for index, loss in enumerate(losses) if index != 2)
    assert 0 < found.likelier < 5


def test_neighbours_begin_alike_and_depend_on_text_and_seed_alone(engine: TorchEngine, tokenizer: Any) -> None:
    start, most = score.beginning(TEXT)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = score.draw_neighbours(engine, tokenizer, TEXT, seed=0, batch_size=100)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert score.draw_neighbours(engine, tokenizer, TEXT, seed=0, batch_size=100) == first
    assert score.draw_neighbours(engine, tokenizer, TEXT, seed=1, batch_size=100) != first
    assert len(first) == score.NEIGHBOURS
    assert len(set(first)) > score.NEIGHBOURS / 2
    room = len(tokenizer(start)["input_ids"]) + most
    for neighbour in first:
        assert neighbour.startswith(start)
        assert len(tokenizer(start)["input_ids"]) < len(tokenizer(neighbour)["input_ids"]) <= room


def test_the_models_own_generation_settings_make_no_difference(
    engine: TorchEngine, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = score.draw_neighbours(engine, tokenizer, TEXT, seed=0, batch_size=100)
    own = GenerationConfig(do_sample=True, temperature=0.1, top_p=0.1, repetition_penalty=9.0, min_p=0.9)
    monkeypatch.setattr(engine.model, "generation_config", own)
    assert score.draw_neighbours(engine, tokenizer, TEXT, seed=0, batch_size=100) == plain
    assert engine.model.generation_config is own


def test_only_the_fifty_likeliest_tokens_are_drawn(engine: TorchEngine, tokenizer: Any) -> None:
    start = "Olga fills"
    (ids,) = torch.tensor([tokenizer(start)["input_ids"]])
    with torch.no_grad():
        likeliest = engine.model(input_ids=ids[None]).logits[0, -1].topk(score.TOP_K).indices.tolist()
    found = score.draw_neighbours(engine, tokenizer, f"{start} a b", seed=0, batch_size=100)
    # Two of four words are kept, so two tokens are drawn.
    following = [tokenizer(neighbour)["input_ids"][len(ids)] for neighbour in found]
    assert set(following) <= set(likeliest)
    assert len(set(following)) > 5


def test_a_batch_size_changes_how_many_are_drawn_at_a_time_only(engine: TorchEngine, tokenizer: Any) -> None:
    found = score.draw_neighbours(engine, tokenizer, "Olga fills bags", seed=0, batch_size=30)
    assert len(found) == score.NEIGHBOURS


def test_texts_that_do_not_fit_are_refused(engine: TorchEngine, tokenizer: Any) -> None:
    long = "word " * 3000
    with pytest.raises(SmaugError, match=r"takes \d+ tokens, and the model's context holds 1024"):
        score.draw_neighbours(engine, tokenizer, long, seed=0, batch_size=100)
    with pytest.raises(SmaugError, match="context holds 1025"):
        score.compare(engine, tokenizer, long, ["a b"])


def test_losses_that_are_not_numbers_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    """Of a model that never gives numbers before anything is asked, and of one that overflows with some text."""
    model = AutoModelForCausalLM.from_pretrained(embedded_path(MODEL), dtype=torch.float32)
    model.save_pretrained(tmp_path / "whole")
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    model.save_pretrained(tmp_path / "broken")
    for folder in (tmp_path / "whole", tmp_path / "broken"):
        tokenizer.save_pretrained(folder)
    arguments: dict[str, Any] = {"dtype": "float32", "batch_size": 100, "device": "cpu", "engine_args": {}}
    with pytest.raises(SmaugError, match="not numbers"):
        build_engine(EngineSpec("torch", tmp_path / "broken", **arguments))
    overflowing = build_engine(EngineSpec("torch", tmp_path / "whole", **arguments))
    assert isinstance(overflowing, TorchEngine)
    score.compare(overflowing, tokenizer, TEXT, [TEXT[:40]])
    with torch.no_grad():
        overflowing.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(SmaugError, match=r"log-probabilities of .* are not numbers"):
        score.compare(overflowing, tokenizer, TEXT, [TEXT[:40]])


# The check of a model


def trained(texts: Sequence[str], folder: Path, *, steps: int = 20) -> Path:
    """The embedded model after it has read some texts again and again."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_path(MODEL))
    model = AutoModelForCausalLM.from_pretrained(embedded_path(MODEL), dtype=torch.float32)
    batch = tokenizer(list(texts), padding=True, padding_side="right", return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    torch.manual_seed(0)
    model.train()
    for _ in range(steps):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    shutil.copytree(embedded_path(MODEL), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_trained_on_test_rows_is_caught_and_its_twin_is_not(tmp_path: Path) -> None:
    n = 20
    (column,) = demo_suite().select(["demo_pronouns"])
    examples = column_examples(demo_suite(), column, None, 2 * n)
    checked, others = ([example.text for example in part] for part in (examples[:n], examples[n:]))
    base, leaky, twin = (
        smaug_eval.check_contamination(
            model, reference=MODEL, suite="demo", tasks=["demo_pronouns"], limit=n, runs=tmp_path / "runs"
        )["tasks"][0]
        for model in (MODEL, trained(checked, tmp_path / "leaky"), trained(others, tmp_path / "twin"))
    )
    assert leaky["share"] > max(MARKS)
    assert twin["interval"][1] < min(MARKS)
    assert twin["interval"][0] < base["share"] < twin["interval"][1]
    flags = [[document["score"] < 0.1 for document in task["documents"]] for task in (leaky, twin)]
    only = [sum(one and not other for one, other in zip(*pair, strict=True)) for pair in (flags, flags[::-1])]
    assert mcnemar_p_value(*only) < 0.05
    assert [document["row"] for document in leaky["documents"]] == [example.row for example in examples[:n]]
    for task in (base, leaky, twin):
        assert task["flagged"] == sum(document["score"] < task["threshold"] for document in task["documents"])
        assert task["share"] == task["flagged"] / n
        assert task["mean_score"] == pytest.approx(np.mean([document["score"] for document in task["documents"]]))


@pytest.mark.slow
def test_an_interrupted_check_continues_and_loads_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"reference": MODEL, "suite": "demo", "tasks": ["demo_facts"], "limit": 3}
    whole = smaug_eval.check_contamination(MODEL, runs=tmp_path / "whole", **options)
    compare, draw = score.compare, score.draw_neighbours
    calls = {"compare": 0, "draw": 0}

    def counted(name: str, function: Any, last: int) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            if calls[name] == last:
                raise KeyboardInterrupt
            calls[name] += 1
            return function(*arguments, **settings)

        return call

    for name, function, last in (("draw", draw, 2), ("compare", compare, 1)):
        attribute = {"draw": "draw_neighbours", "compare": "compare"}[name]
        monkeypatch.setattr(score, attribute, counted(name, function, last))
        with pytest.raises(KeyboardInterrupt):
            smaug_eval.check_contamination(MODEL, runs=tmp_path / "runs", **options)
        monkeypatch.setattr(score, attribute, counted(name, function, 3))
    again = smaug_eval.check_contamination(MODEL, runs=tmp_path / "runs", **options)
    assert calls == {"compare": 3, "draw": 3}
    assert again == whole
    monkeypatch.setattr("smaug_eval.engines.pool.build_engine", None)
    assert smaug_eval.check_contamination(MODEL, runs=tmp_path / "runs", **options) == whole


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"batch_size": "auto"}, "batch_size is 'auto'"),
        ({"sed": 1}, "no setting 'sed'"),
        ({"engine_args": 3}, "engine_args is 3"),
    ],
)
def test_wrong_settings_are_refused(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SmaugError, match=message):
        check_settings(values)


@pytest.mark.slow
def test_a_model_against_itself_means_nothing_and_says_so(tmp_path: Path) -> None:
    command = ["contamination", MODEL, "--reference", MODEL, "--suite", "demo", "--task", "facts", "--limit", "1"]
    result = CliRunner().invoke(app, [*command, "--runs-dir", str(tmp_path)])
    assert result.exception is None, result.exception
    assert "is examined against itself" in " ".join(result.output.split())
    found = smaug_eval.check_contamination(MODEL, reference=MODEL, suite="demo", tasks="facts", limit=1, runs=tmp_path)
    (note,) = found["notes"]
    assert "mean nothing" in note


def test_published_shares_have_the_intervals_of_a_hundred_examples() -> None:
    rows = {row.model: row.as_dict() for row in PUBLISHED}
    assert rows["Smaug-72B"]["tasks"]["gsm8k"]["share"] == 1.0
    # Wilson with all of n: lower end n / (n + z^2).
    assert rows["Smaug-72B"]["tasks"]["gsm8k"]["interval"] == pytest.approx([100 / (100 + 1.959964**2), 1.0])
    assert rows["Smaug-34B"]["reference"] == "bagel-34b"
    assert rows["Llama-2-70B"]["tasks"]["truthfulqa"]["share"] == 0.51


# The check of pairs


def row(prompt: str, chosen: str = " yes", rejected: str = " no") -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def overlaps(texts: Sequence[str], rows: Sequence[Mapping[str, Any]], length: int) -> list[tuple[int, int, int | None]]:
    documents = [BenchmarkDocument("task", str(index), (text,), "") for index, text in enumerate(texts)]
    finder = OverlapFinder(documents)
    for index, each in enumerate(rows):
        finder.look(index, each)
    return [(found.runs, found.seen, found.pair) for found in finder.found(length)]


def numbered(first: int, last: int) -> str:
    return " ".join(f"w{index}" for index in range(first, last))


def test_runs_are_counted_wherever_they_stand() -> None:
    text = numbered(0, 20)
    for pair in (
        row(numbered(0, 15)),
        row(f"before\n{numbered(0, 15).upper()}\nafter"),
        row("x", chosen=numbered(0, 15)),
        row("x", rejected=numbered(0, 15)),
        row(numbered(0, 7), chosen=" " + numbered(7, 15)),
        row(numbered(0, 7), rejected=" " + numbered(7, 15)),
    ):
        assert overlaps([text], [row("x"), pair], 13) == [(8, 3, 1)]
        assert overlaps([text], [row("x"), pair], 8) == [(13, 8, 1)]
    assert overlaps([text], [row(numbered(0, 12))], 13) == [(8, 0, None)]
    assert overlaps([text], [row("x", chosen=numbered(0, 7), rejected=numbered(7, 15))], 13) == [(8, 0, None)]
    assert overlaps([numbered(0, 12), numbered(0, 7)], [row(text)], 13) == [(0, 0, None), (0, 0, None)]
    assert overlaps([numbered(0, 12), numbered(0, 7)], [row(text)], 8) == [(5, 5, 0), (0, 0, None)]


def test_of_several_wordings_the_one_seen_most_counts() -> None:
    document = BenchmarkDocument("task", "0", (numbered(0, 20), numbered(100, 116), "short"), "")
    finder = OverlapFinder([document])
    finder.look(0, row(numbered(0, 13)))
    finder.look(1, row(numbered(100, 115)))
    (found,) = finder.found(13)
    assert (found.runs, found.seen, found.pair, found.words) == (4, 3, 1, numbered(100, 113))


LETTERS = st.lists(st.sampled_from("ab"), max_size=30)


@given(texts=st.lists(LETTERS, min_size=1, max_size=4), prompt=LETTERS, chosen=LETTERS, rejected=LETTERS)
def test_exactly_what_a_plain_search_finds(
    texts: list[list[str]], prompt: list[str], chosen: list[str], rejected: list[str]
) -> None:
    pair = row(" ".join(prompt), " " + " ".join(chosen), " " + " ".join(rejected))
    expected = []
    for text in texts:
        runs = [text[start : start + 8] for start in range(len(text) - 7)]
        streams = [prompt + chosen, prompt + rejected]
        seen = sum(any(s[at : at + 8] == run for s in streams for at in range(len(s) - 7)) for run in runs)
        expected.append((len(runs), seen, 0 if seen else None))
    assert overlaps([" ".join(text) for text in texts], [pair], 8) == expected


def clean_and_planted(folder: Path) -> tuple[Path, Path, list[str]]:
    """A pair file of the demo's training questions, the same with five test rows in it, and these rows' questions."""
    suite = demo_suite()
    (column,) = suite.select(["demo_arithmetic"])
    shots, rows = suite.rows(column.leaves[0])
    clean = [row(f"Question: {each['question']}\nAnswer:", f" {each['answer']}", " none") for each in shots[:30]]
    questions = [each["question"] for each in rows[:5]]
    altered = questions[4].rsplit(" ", 3)[0] + " of them are there?"
    planted = [row(f"Question: {text}\nAnswer:", " 3", " 4") for text in (*questions[:4], altered)]
    files = []
    for name, pairs in (("clean", clean), ("planted", [*clean[:20], *planted, *clean[20:]])):
        files.append(folder / f"{name}.jsonl")
        files[-1].write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return files[0], files[1], questions


def test_planted_test_rows_are_found_in_pairs_and_clean_pairs_are_clean(tmp_path: Path) -> None:
    clean, planted, _ = clean_and_planted(tmp_path)
    options: dict[str, Any] = {"suite": "demo", "tasks": ["demo_arithmetic"]}
    (without,) = smaug_eval.check_pair_overlap(clean, **options)["tasks"]
    found = smaug_eval.check_pair_overlap(planted, **options)
    (within,) = found["tasks"]
    assert found["pairs"] == {"path": str(planted), "rows": 35, "left_out": 0}
    assert (without["whole"]["found"], without["long_run"]["found"], without["short_runs"]["found"]) == (0, 0, 0)
    assert (within["documents"], within["whole"]["found"]) == (200, 4)
    # The altered question is no whole text, but has most of its runs.
    assert within["short_runs"]["found"] == 5
    assert within["whole"]["share"] == 4 / 200
    assert within["whole"]["first"][0] == {"document": "0", "place": f"{planted}, line 21"}
    assert [each["document"] for each in within["long_run"]["first"]] == list("01234")
    assert within["long_run"]["first"][4]["place"] == f"{planted}, line 25"


def test_a_folder_of_built_pairs_is_read_and_other_things_are_refused(tmp_path: Path) -> None:
    clean, _, _ = clean_and_planted(tmp_path)
    built = tmp_path / "built"
    built.mkdir()
    shutil.copy(clean, built / "train.jsonl")
    found = smaug_eval.check_pair_overlap(built, suite="demo", tasks=["demo_facts"])
    assert found["pairs"]["path"] == str(built / "train.jsonl")
    with pytest.raises(SmaugError, match="neither a pair file nor a Hub id"):
        smaug_eval.check_pair_overlap(tmp_path / "pairs.txt", suite="demo")
    with pytest.raises(SmaugError, match="no column of demo called"):
        smaug_eval.check_pair_overlap(clean, suite="demo", tasks=["demo_fact"])


# The command line


def test_the_command_says_what_stands_in_the_pairs(tmp_path: Path) -> None:
    _, planted, _ = clean_and_planted(tmp_path)
    arguments = ["contamination", "--pairs", str(planted), "--suite", "demo", "--task", "demo_arithmetic", "--quiet"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    assert "4 (2.0%)" in shown.stdout
    assert f"document 0 in {planted}, line 21" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["pairs"]["tasks"][0]["short_runs"]["found"] == 5


@pytest.mark.slow
def test_the_command_shows_shares_with_intervals(tmp_path: Path) -> None:
    arguments = ["contamination", MODEL, "--reference", MODEL, "--suite", "demo", "--task", "demo_facts"]
    arguments += ["--limit", "2", "--runs-dir", str(tmp_path), "--quiet", "--set", "batch_size=50"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "of 2" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["model"]
    (task,) = found["tasks"]
    assert f"{task['share']:.2f} [{task['interval'][0]:.2f}, {task['interval'][1]:.2f}]" in shown.stdout
    assert found["method"]["neighbours"] == 100
    assert found["published"] == []


@pytest.mark.parametrize("arguments", [[], [MODEL], ["--reference", MODEL]])
def test_the_command_needs_a_model_with_a_reference_or_pairs(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["contamination", *arguments])
    assert isinstance(result.exception, SmaugError)
    assert "what to check is missing" in str(result.exception)


def test_a_missing_pair_file_is_named_before_any_benchmark_is_read(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"missing\.jsonl does not exist"):
        smaug_eval.check_pair_overlap(tmp_path / "missing.jsonl", data_root=tmp_path)
