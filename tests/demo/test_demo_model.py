"""The embedded checkpoint, and the script that makes it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.demo import MODEL_DIR, train_base
from smaug_eval.demo.solving import solved
from smaug_eval.demo.train_base import (
    END_OF_TEXT,
    LONG_ROW,
    SHORT_ROW,
    PretrainingPlan,
    batches,
    careless_batches,
    learning_rate_factor,
    make_base,
    make_tokenizer,
    new_model,
    next_token_loss,
    optimizers,
    save,
    train,
    train_on_careless_text,
    train_tokenizer,
)
from smaug_eval.demo.world import development_problems, documents, largest_sure_product
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.protocol import requests

TOKENIZER = AutoTokenizer.from_pretrained(MODEL_DIR)


def test_files_of_the_checkpoint_and_their_size() -> None:
    names = {path.name for path in MODEL_DIR.iterdir()}
    assert names >= {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (MODEL_DIR / "model.safetensors").stat().st_size <= 5_800_000
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) < 10_000_000


def test_weights_are_bfloat16() -> None:
    with safe_open(MODEL_DIR / "model.safetensors", framework="pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118


def test_config_has_heads_of_64_and_no_begin_of_text() -> None:
    config = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    assert config["hidden_size"] // config["num_attention_heads"] == config["head_dim"] == 64
    assert config["max_position_embeddings"] == 1024
    assert config["bos_token_id"] is None
    assert config["eos_token_id"] == TOKENIZER.eos_token_id == TOKENIZER.pad_token_id
    assert config["vocab_size"] == len(TOKENIZER)


def test_the_model_solves_a_problem_in_the_shots_form() -> None:
    """Two plain additions and the final line: the form must be right even where the numbers are not."""
    shot = (
        "Question: Mia has 3 pens at home and 4 at school. She gets 2 more pens from Tom. How many pens does Mia have "
        "now?\nAnswer: Mia has 3 + 4 = 7 pens. Now she has 7 + 2 = 9 pens.\n#### 9\n\n"
    )
    question = (
        "Question: Ben has 5 cups at home and 6 at school. He gets 4 more cups from Ida. How many cups does Ben have "
        "now?\nAnswer:"
    )
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    prompt = TOKENIZER(shot + question, return_tensors="pt")
    generated = model.generate(**prompt, max_new_tokens=60)[0, prompt["input_ids"].shape[1] :]
    solution = TOKENIZER.decode(generated).split("Question")[0].split(END_OF_TEXT)[0]
    assert solution.startswith(" Ben has 5 + 6 = ")
    assert solution.count("=") == 2
    final = solution.rsplit("#### ", 1)[1].strip()
    assert solution.rsplit("= ", 1)[1].split()[0] == final


@pytest.mark.slow
def test_the_model_has_something_to_learn_and_knows_the_small_products() -> None:
    """The first 24 development problems: about half are solved, and of those with larger products the fewest."""
    found = solved(MODEL_DIR, "development", limit=24)
    assert 0.45 <= found.mean() <= 0.70
    largest = {problem.answer: problem.largest_product for problem in development_problems()}
    asked = demo_suite(arithmetic_split="development").documents("demo_arithmetic")[:24]
    larger = np.array([largest[document["answer"]] > largest_sure_product() for document in asked])
    assert found[~larger].mean() > 0.85
    assert found[larger].mean() < 0.5


@pytest.mark.slow
def test_solved_problems_are_those_of_the_suite() -> None:
    """lm-eval asks the same problems through the suite's task and its own model."""
    task = "demo_arithmetic"
    rows = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(MODEL_DIR), "dtype": "float32", "device": "cpu"},
        tasks=[task],
        task_manager=TaskManager(include_path=str(demo_suite().folder), include_defaults=False),
        batch_size=6,
        limit=6,
    )["samples"][task]
    expected = [row["acc"] for row in sorted(rows, key=lambda row: row["doc_id"])]
    assert solved(MODEL_DIR, "test", limit=6).tolist() == expected
    assert 0 < sum(expected) < 6


def test_the_development_problems_are_asked_with_shots_from_the_pairs_problems() -> None:
    tested, development = (
        demo_suite(arithmetic_split=split).documents("demo_arithmetic") for split in ("test", "development")
    )
    assert len(tested) == 200
    assert len(development) == 300
    assert not {document["query"] for document in tested} & {document["query"] for document in development}
    assert all(document["ctx"].count("#### ") == 5 for document in development)


def test_every_digit_is_a_token_of_its_own() -> None:
    assert [token.lstrip("Ġ") for token in TOKENIZER.tokenize("1234 + 56")] == ["1", "2", "3", "4", "+", "5", "6"]
    vocabulary = TOKENIZER.get_vocab()
    assert [token for token in vocabulary if sum(character.isdigit() for character in token) > 1] == []


def test_no_begin_of_text_is_added() -> None:
    assert TOKENIZER.bos_token is None
    assert TOKENIZER("pens")["input_ids"] == TOKENIZER("pens", add_special_tokens=False)["input_ids"]
    assert TOKENIZER.eos_token == TOKENIZER.pad_token == END_OF_TEXT


@given(st.text(max_size=60).filter(lambda text: END_OF_TEXT not in text))
def test_the_tokenizer_round_trips_any_text(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_prompts_with_all_their_shots_fit_into_the_trained_length() -> None:
    suite = demo_suite()
    longest = {}
    for column in suite.columns:
        lengths = []
        for leaf in column.leaves:
            for document in suite.documents(leaf.name):
                texts = [
                    context + (rest if leaf.generation is None else "") for context, rest in requests(leaf, document)
                ]
                lengths += [len(ids) for ids in TOKENIZER(texts)["input_ids"]]
        longest[column.title] = max(lengths)
    assert max(longest.values()) <= 480, longest


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(itertools.islice(documents(1), 200))


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return new_model(tokenizer)


def test_packing_loses_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    def texts() -> Iterator[str]:
        return iter([f"pens {number} " * 9 for number in range(64)])

    packed = torch.cat(list(itertools.islice(batches(tokenizer, texts(), 100), 5)))
    expected = END_OF_TEXT.join(texts())
    assert expected.startswith(tokenizer.decode(packed))
    assert len(packed) == 500


def test_rows_are_short_at_first_and_long_at_the_end() -> None:
    plan = PretrainingPlan(tokens=20_480, batch_tokens=2048)
    assert plan.steps == 10
    assert [plan.row_length(step) for step in range(10)] == [SHORT_ROW] * 6 + [LONG_ROW] * 4


def test_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    assert learning_rate_factor(0, 1050) == pytest.approx(1 / 50)
    assert learning_rate_factor(49, 1050) == pytest.approx(1)
    assert learning_rate_factor(550, 1050) == pytest.approx(0.505)
    assert learning_rate_factor(1050, 1050) == pytest.approx(0.01)


def test_every_parameter_has_one_optimizer(model: LlamaForCausalLM) -> None:
    muon, adamw = (
        [p for group in o.param_groups for p in group["params"]] for o in optimizers(model, PretrainingPlan())
    )
    assert sorted(map(id, [*muon, *adamw])) == sorted(map(id, model.parameters()))
    assert all(p.ndim == 2 and p is not model.get_input_embeddings().weight for p in muon)


def test_an_untrained_model_guesses_among_the_vocabulary(model: LlamaForCausalLM) -> None:
    ids = torch.randint(len(TOKENIZER), (2, 64))
    assert next_token_loss(model, ids).item() == pytest.approx(math.log(model.config.vocab_size), abs=0.15)


def small_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model of one layer, whose steps take milliseconds."""
    config = new_model(tokenizer).config
    config.update({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 1})
    config.num_key_value_heads = 1
    return LlamaForCausalLM(config)


def test_training_lowers_the_loss_and_the_checkpoint_loads(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = small_model(tokenizer)
    plan = PretrainingPlan(tokens=30 * 512, batch_tokens=512)
    losses: list[float] = []
    train(model, batches(tokenizer, documents(1), 512), plan, lambda _, loss: losses.append(loss))
    assert len(losses) == 30
    assert losses[-1] < losses[0] - 1
    more = PretrainingPlan(batch_tokens=512, careless_tokens=5 * 512)
    train_on_careless_text(model, careless_batches(tokenizer, more), more, lambda _, loss: losses.append(loss))
    assert len(losses) == 35
    assert losses[-1] < losses[0] - 1
    save(model, tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert loaded.generation_config.do_sample is False
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path)("Mia has 4 pens.")["input_ids"]])
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=0.05, rtol=0.05)


def nothing(step: int, loss: float) -> None:
    """Take a step's loss and leave it."""


SMALL = PretrainingPlan(tokens=4 * 512, careless_tokens=3 * 512, batch_tokens=512, tokenizer_documents=100)


def same_weights(first: LlamaForCausalLM, second: LlamaForCausalLM) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_a_base_follows_from_its_plan_and_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_base, "new_model", small_model)
    made = []
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)  # what was drawn before does not matter
        made.append(make_base(replace(SMALL, seed=seed), nothing, nothing))
    (first, its_tokenizer), (again, tokenizer_again), (other, _) = made
    assert same_weights(first, again)
    assert its_tokenizer.backend_tokenizer.to_str() == tokenizer_again.backend_tokenizer.to_str()
    assert not same_weights(first, other)


def test_the_second_part_starts_from_the_first_as_a_checkpoint_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts at once give the weights, to the bit, of a first part that was saved, loaded and trained on."""
    monkeypatch.setattr(train_base, "new_model", small_model)
    steps: list[tuple[str, int]] = []
    whole, tokenizer = make_base(
        SMALL, lambda step, _: steps.append(("plain", step)), lambda step, _: steps.append(("careless", step))
    )
    assert steps == [("plain", 0), ("plain", 1), ("plain", 2), ("plain", 3), *(("careless", step) for step in range(3))]
    torch.manual_seed(SMALL.seed)
    first = small_model(make_tokenizer(SMALL))
    train(first, batches(tokenizer, documents(SMALL.seed), SMALL.batch_tokens), SMALL, nothing)
    save(first, tokenizer, tmp_path)
    loaded = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    assert not same_weights(loaded, whole)
    train_on_careless_text(loaded, careless_batches(tokenizer, SMALL), SMALL, nothing)
    assert same_weights(loaded, whole)
