"""Plans: sizes from configurations, memory, steps and hours, and what is said where something does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.embedded import find_recipe
from smaug_eval.common.errors import SmaugError
from smaug_eval.planning.activations import PairLengths, Step, activations
from smaug_eval.planning.estimate import plan_recipe
from smaug_eval.planning.figures import PairFigures, pair_figures
from smaug_eval.planning.machines import parse_machine
from smaug_eval.planning.memory import Memory, MemorySetting, Sharing, base_bytes, training_memory
from smaug_eval.planning.shapes import ModelShape, model_shape, shape_of
from smaug_eval.planning.work import pairs_seen, steps_of, training_flops
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe
from smaug_eval.trainers.config import LoraConfig, TrainingConfig

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}
SMAUG = ("smaug-7b", "smaug-34b", "smaug-72b")


def small() -> ModelShape:
    return shape_of(LLAMA, "small", "a test")


def training(**keys: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"loss": "dpop", **keys})


def llama_weights(hidden: int, inner: int, layers: int, key_width: int, vocabulary: int, biases: int = 0) -> int:
    """By hand: four attention and three MLP matrices and two norms a layer, embedding, head and the last norm."""
    layer = 2 * hidden * hidden + 2 * hidden * key_width + 3 * hidden * inner + 2 * hidden + biases
    return layers * layer + 2 * vocabulary * hidden + hidden


@pytest.mark.parametrize(
    ("recipe", "by_hand", "published"),
    [
        ("smaug-7b", llama_weights(4096, 14336, 32, 1024, 32000), 7_241_732_096),
        ("smaug-34b", llama_weights(7168, 20480, 60, 1024, 64000), 34.4e9),
        ("smaug-72b", llama_weights(8192, 24576, 80, 8192, 152064, biases=4 * 8192), 72.3e9),
    ],
)
def test_the_bases_of_the_smaug_recipes_have_their_published_sizes(recipe: str, by_hand: int, published: float) -> None:
    shape = model_shape(load_recipe(find_recipe(recipe)).model.path)
    assert shape.parameters == by_hand
    assert by_hand == pytest.approx(published, rel=0 if recipe == "smaug-7b" else 5e-3)


def test_an_adapters_weights_by_hand() -> None:
    shape = small()
    # q and o: 64 + 64; k and v: 64 + 32; gate, up and down: 64 + 96.
    assert shape.adapter_weights(8, "all-linear") == 3 * 8 * (2 * 128 + 2 * 96 + 3 * 160)
    assert shape.adapter_weights(8, ["q_proj", "v_proj"]) == 3 * 8 * (128 + 96)
    with pytest.raises(SmaugError, match="has none of them"):
        shape.adapter_weights(8, ["query"])


def test_bytes_of_bases() -> None:
    shape = small()
    matrices = 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    assert shape.matrix_weights == matrices
    rest = 2 * 128 * 64 + 7 * 64
    assert shape.parameters == matrices + rest
    assert base_bytes(shape, None, "bfloat16") == 4 * (matrices + rest)
    assert base_bytes(shape, LoraConfig(), "bfloat16") == 2 * (matrices + rest)
    nf4 = base_bytes(shape, LoraConfig(quantize="nf4"), "bfloat16")
    assert nf4 == pytest.approx((0.5 + 1 / 64 + 1 / 4096) * matrices + 4 * rest)


def test_a_layer_keeps_what_the_arithmetic_says() -> None:
    # A plain row in float32 keeps, for each token and layer, three vectors of each of both norms (the input, the
    # normalised input, the output) and its factor, queries, keys and values of the two key heads, what attention puts
    # out and a sum for each of its four heads, and four vectors of the MLP's width.
    deeper, shape = shape_of({**LLAMA, "num_hidden_layers": 4}, "deeper", "a test"), small()
    pair = PairLengths(20, 4, 6, 6)
    step = Step(pair, 2, share=True, flex=True, dtype="float32")
    tokens = 2 * pair.shared_tokens
    kept = activations(deeper, step).kept - activations(shape, step).kept
    by_hand = tokens * 4 * (6 * 64 + 2 + 64 + 2 * 32 + 64 + 4 + 4 * 96)
    assert kept == by_hand


def test_what_saves_memory() -> None:
    shape = small()
    plain = Step(PairLengths(100, 10, 20, 20), 4, share=True, flex=True, dtype="float32")

    def peak(**changes: Any) -> float:
        return activations(shape, replace(plain, **changes)).peak

    assert peak(share=False) > 1.5 * peak()
    assert peak(checkpointing=True) < 0.7 * peak()
    assert peak(dtype="bfloat16") < 0.8 * peak()
    assert peak(pairs=8) == pytest.approx(2 * peak(), rel=0.25)


def test_states_of_a_training_by_hand() -> None:
    shape, pair = small(), PairLengths(20, 4, 6, 6)
    weights = shape.parameters

    def memory(sharing: Sharing, **keys: object) -> Memory:
        processes = 1 if sharing is Sharing.SINGLE else 4
        gpus = 1 if sharing is Sharing.SINGLE else 4
        return training_memory(
            shape, MemorySetting(training(batch_size=2, **keys), "bfloat16", sharing, processes, gpus, pair)
        )

    single = memory(Sharing.SINGLE)
    assert (single.weights, single.gradients, single.optimiser) == (4 * weights, 4 * weights, 8 * weights)
    assert single.total == 12 * weights + max(4 * weights, single.activations)
    accumulated = memory(Sharing.SINGLE, gradient_accumulation=2)
    assert accumulated.total == 16 * weights + accumulated.activations
    assert memory(Sharing.COPIES).gradients == 8 * weights
    sharded = memory(Sharing.FSDP2)
    assert (sharded.weights, sharded.optimiser) == (weights, 2 * weights)
    assert memory(Sharing.ZERO3).weights == 6 * weights / 4
    adapter = shape.adapter_weights(16, "all-linear")
    lora = memory(Sharing.SINGLE, lora={"r": 16})
    assert (lora.weights, lora.optimiser) == (2 * weights + 4 * adapter, 8 * adapter)


def test_operations_of_a_step_by_hand() -> None:
    shape, pair = small(), PairLengths(20, 4, 6, 6)
    tokens, scored, length = 20 + 4 + 5 + 5, 4 + 6 + 6, 30
    products, attention = 2 * shape.matrix_weights * tokens, 4 * 3 * 64 * tokens * length / 2
    head = 2 * 128 * 64 * scored
    full = training_flops(shape, training(), pair, True, 1)
    assert full == pytest.approx(3 * products + 3 * attention + 3 * head)
    again = training_flops(shape, training(gradient_checkpointing=True), pair, True, 1)
    assert again - full == pytest.approx(products + attention)
    adapter = 2 * shape.adapter_weights(8, "all-linear") * tokens
    lora = training_flops(shape, training(lora={"r": 8}), pair, True, 1)
    assert lora == pytest.approx(2 * products + 3 * attention + 2 * head + 3 * adapter)


@pytest.mark.parametrize(
    ("settings", "pairs", "processes", "seen"),
    [
        ({"steps": 3, "batch_size": 1000}, 480, 1, 3 * 480),  # each step is an epoch
        ({"steps": 3, "batch_size": 1000}, 480, 2, 3 * 2000),  # two processes fill up
        ({"steps": 5, "batch_size": 4}, 10, 1, 4 + 4 + 2 + 4 + 4),
        ({"steps": 4, "batch_size": 4, "gradient_accumulation": 2}, 10, 1, 8 + 2 + 8 + 2),
        ({"epochs": 2, "batch_size": 4}, 10, 1, 20),
        ({"steps": 60, "batch_size": 8}, 480, 1, 480),
    ],
)
def test_pairs_seen(settings: dict[str, Any], pairs: int, processes: int, seen: int) -> None:
    assert pairs_seen(training(**settings), pairs, processes) == seen


def test_steps() -> None:
    assert steps_of(training(steps=7), 1000, 8) == 7
    # 100 pairs in batches of 4 on 2 processes are 13, two of them a step, twice over.
    assert steps_of(training(epochs=2, batch_size=4, gradient_accumulation=2), 100, 2) == 14


def test_pairs_of_a_question_share_all_but_the_rejected_answer() -> None:
    figures = PairFigures(30, 9, 100.0, 0.0, 20.0, 20.0, "made up", of_a_question=2.9)
    together, alone = (figures.within(200, together=each) for each in (True, False))
    assert alone.shared_tokens == 100 + 1 + 19 + 19
    assert together.shared_tokens == pytest.approx((100 + 1 + 19) / 3 + 19)
    assert together.scored_tokens(True) == pytest.approx((1 + 20) / 3 + 20)
    assert together.scored_tokens(False) == alone.scored_tokens(False)
    assert together.padded_tokens == alone.padded_tokens


def test_trainings_by_question_are_planned_with_a_prompt_for_three_pairs() -> None:
    keys = {"loss": "dpo", "steps": 100, "batch_size": 12}
    arc = {"source": "arc", "path": "allenai/ai2_arc", "config": "ARC-Challenge", "holdout": 0}
    recipe = parse_recipe(
        {
            "name": "questions",
            "model": "embedded:demo-model",
            "pairs": {"arc": arc},
            "trainings": {"one": keys, "whole": {**keys, "batching": "question"}},
        }
    )
    (machine,) = plan_recipe(recipe, [parse_machine("A100-80")]).machines
    stages = {stage.name: stage for stage in machine.stages}
    # 108 tokens of the prompt, 1 that the answers share, and 5 of each answer, whose last one predicts nothing.
    assert stages["train/one"].tokens == pytest.approx(1200 * (109 + 4 + 4))
    assert stages["train/whole"].tokens == pytest.approx(1200 * ((109 + 4) / 3 + 4))
    assert stages["reference/one"].tokens == pytest.approx(3357 * ((109 + 4) / 3 + 4))
    assert stages["train/whole"].hours < stages["train/one"].hours / 2
    assert stages["train/whole"].hours_unshared == stages["train/one"].hours_unshared


def test_pairs_share_their_beginning_once() -> None:
    pair = PairLengths(694, 89, 89, 89)
    assert pair.shared_tokens == 694 + 89 + 88 + 88
    assert pair.padded_tokens == 2 * (872 - 1)


def test_figures_of_a_mixture_are_weighted() -> None:
    figures = pair_figures(load_recipe(find_recipe("smaug-7b")), "mix")
    assert figures.pairs == 32_000
    assert figures.prompt == pytest.approx(0.65 * 694 + 0.26 * 253 + 0.09 * 108)


def test_built_pairs_are_counted_rather_than_looked_up(tmp_path: Path) -> None:
    def spread(value: float) -> dict[str, float]:
        return {"mean": value, "median": value}

    tokens = {"prompt": spread(50), "chosen": spread(20), "rejected": spread(22), "edit_distance": spread(0.05)}
    folder = tmp_path / "pairs" / "metamath"
    folder.mkdir(parents=True)
    (folder / "stats.json").write_text(json.dumps({"train": 77, "tokens": tokens}), encoding="utf-8")
    figures = pair_figures(load_recipe(find_recipe("smaug-7b")), "metamath", tmp_path)
    assert (figures.pairs, figures.prompt, figures.common, figures.chosen, figures.rejected) == (77, 50, 10, 10, 12)


def test_a_pair_makes_two_completions_and_an_unpaired_row_one() -> None:
    # Answers of 20 and 24 tokens, of which the first 10 are alike: two completions of 22 tokens on average.
    pairs = PairFigures(10, 4, 50.0, 10.0, 10.0, 14.0, "a test")
    assert pairs.completions() == PairFigures(20, 8, 50.0, 0.0, 22.0, 22.0, "a test", 1.0)
    rows = PairFigures(10, 4, 50.0, 0.0, 20.0, 30.0, "a test", 1.0)
    assert rows.completions() == replace(rows, chosen=25.0, rejected=25.0)
    desirable = replace(rows, rejected=0.0)
    assert desirable.completions() == replace(rows, chosen=20.0, rejected=20.0)


def test_kto_is_planned_by_completions(tmp_path: Path) -> None:
    """Eight pairs are sixteen completions; the rows of a file of single ones are counted as they are."""
    LlamaConfig(**{**LLAMA, "vocab_size": 300}).save_pretrained(tmp_path / "base")
    file = tmp_path / "unpaired.jsonl"
    rows = [{"prompt": f"{n} + 1 =", "completion": f" {n}", "label": n % 3 == 0} for n in range(12)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {"epochs": 1, "batch_size": 4, "pairs": "made"}
    made = {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 8, "shots": [0, 0], "holdout": 0}
    recipe = parse_recipe(
        {
            "name": "kto",
            "model": str(tmp_path / "base"),
            "pairs": {"made": made, "marked": {"source": "rows", "path": str(file), "holdout": 0}},
            "trainings": {
                "dpo": {"loss": "dpo", **keys},
                "kto": {"loss": "kto", **keys},
                "single": {"loss": "kto", **keys, "pairs": "marked"},
            },
        }
    )
    plan = plan_recipe(recipe, [parse_machine("A100-80")])
    stages = {stage.name: stage for stage in plan.machines[0].stages}
    assert {name: stages[f"train/{name}"].steps for name in recipe.trainings} == {"dpo": 2, "kto": 4, "single": 3}
    # Other completions stand beside the pairs', so that their scores are no use to KTO.
    assert {name for name in stages if name.startswith("reference/")} == {
        f"reference/{name}" for name in recipe.trainings
    }
    figures = plan.pairs["marked"]
    assert (figures["pairs"], figures["unpaired"]) == (12, 1.0)
    # Of a prompt, its completion and that of another prompt; the last token of each predicts nothing.
    prompt, answer = round(figures["prompt"]), round((figures["chosen"] + figures["rejected"]) / 2) or 1
    assert stages["reference/single"].tokens == 12 * (prompt + 2 * (answer - 1) + 1)


def test_unknown_pairs_are_refused() -> None:
    recipe = parse_recipe({"name": "x", "model": "a/b", "pairs": {"p": {"source": "rows", "path": "some/set"}}})
    with pytest.raises(SmaugError, match=r"pairs\.p: nothing is known"):
        pair_figures(recipe, "p")


def test_machines() -> None:
    machine = parse_machine("h200X8")
    assert (machine.name, machine.count, machine.gpu.memory) == ("H200x8", 8, 141e9)
    assert machine.usable == pytest.approx((141e9 - 1.5e9) * 0.95)
    assert parse_machine("A100-80").count == 1
    with pytest.raises(SmaugError, match="did you mean 'H200'"):
        parse_machine("H2000x8")
    with pytest.raises(SmaugError, match="no such GPU"):
        parse_machine("H200x0")
    names = {"H100": "H100-80", "A100": "A100-80", "nvidia h100 80GB": "H100-80", "RTX 4090": "RTX-4090"}
    names |= {name: name for name in ("B200", "MI300X", "L40S", "H20", "T4")}
    assert {name: parse_machine(name).gpu.name for name in names} == names
    assert parse_machine("A100x4") == parse_machine("a100-80 x 4")


def test_an_unknown_gpu_is_refused_before_what_takes_seconds_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from smaug_eval.cli import app\n"
        "try:\n    app(['plan', 'demo', '--gpu', 'H1000'], standalone_mode=False)\n"
        "except Exception as error:\n    print(error, 'torch' in sys.modules, 'smaug_eval.api' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no such GPU; did you mean 'H100-80'?" in done.stdout
    assert done.stdout.rstrip().endswith("False False")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMAUG)
def test_the_smaug_recipes_are_planned_offline(name: str, tmp_path: Path) -> None:
    plan = smaug_eval.plan(name, gpus=["H200x8"], runs=tmp_path)
    (large,) = plan.machines
    assert sum(stage.share for stage in large.stages) == pytest.approx(1)
    assert large.hours < large.hours_unshared
    assert {"dpop", "dpop-full"} <= set(plan.trained)
    unfit = [stage.name for stage in large.stages if not stage.fits]
    assert unfit == (["train/dpop-full"] if name == "smaug-72b" else [])


@pytest.mark.slow
def test_each_change_that_is_proposed_makes_it_fit(tmp_path: Path) -> None:
    (stage,) = (s for s in smaug_eval.plan("smaug-34b", gpus=["A100-80x8"]).machines[0].stages if not s.fits)
    assert stage.name == "train/dpop-full"
    assert "16 GPUs" in stage.changes
    two_machines = Path(__file__).resolve().parents[2] / "recipes" / "accelerate" / "fsdp2-two-machines.yaml"
    changed = (f"trainings.dpop-full.launch={two_machines}",)
    again = smaug_eval.plan("smaug-34b", gpus=["A100-80x16"], overrides=changed, runs=tmp_path)
    assert again.machines[0].fits


@pytest.mark.slow
def test_the_hours_follow_the_machine_and_the_utilisation(tmp_path: Path) -> None:
    plan = smaug_eval.plan("smaug-7b", gpus=["H200x8"], runs=tmp_path)
    half = smaug_eval.plan("smaug-7b", gpus=["H200x8"], runs=tmp_path, utilisation=0.2)
    train, slower = (next(s for s in p.machines[0].stages if s.name == "train/dpop") for p in (plan, half))
    assert slower.hours == pytest.approx(2 * train.hours)
    assert train.steps == 1000
    # 7.1e9 weights, three passes with checkpointing, 1,000 steps of 32 pairs, 8 GPUs at 40% of 989 TFLOP/s.
    by_hand = 3 * 2 * 7.1e9 * train.tokens / (8 * 0.4 * 989e12) / 3600
    assert train.hours == pytest.approx(by_hand, rel=0.2)


@pytest.mark.slow
def test_scored_checkpoints_cost_an_evaluation_each(tmp_path: Path) -> None:
    """Of 1,000 steps with one every 250: the start, three in between, and the end."""
    followed = ("trainings.dpop.evaluate={every: 250, evaluations: [leaderboard]}",)
    plan = smaug_eval.plan("smaug-7b", gpus=["H200x8"], overrides=followed, runs=tmp_path)
    hours = {stage.name: stage.hours for stage in plan.machines[0].stages}
    assert hours["curve/dpop/leaderboard"] == pytest.approx(5 * hours["eval/dpop/leaderboard"])


@pytest.mark.slow
def test_the_command_prints_tables_and_json() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["plan", "demo", "--gpu", "L4"])
    assert shown.exit_code == 0
    assert "train/dpop" in shown.output
    assert "…" not in shown.output  # on 80 columns no figure is cut
    assert "40% of the data sheet" in shown.output.replace("\n", " ")
    found = json.loads(runner.invoke(app, ["plan", "demo", "--gpu", "L4x2", "--json"]).output)
    assert found["machines"][0]["machine"] == "L4x2"


def test_a_start_is_planned_with_its_own_sizes(tmp_path: Path) -> None:
    """A training that goes on from another model, or is held against it, is that model's size; so is what follows."""
    sizes = {"base": 32, "wide": 64}
    for name, hidden in sizes.items():
        config = LlamaConfig(vocab_size=100, hidden_size=hidden, intermediate_size=hidden, num_hidden_layers=2)
        config.save_pretrained(tmp_path / name)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    keys = {"loss": "dpo", "steps": 2}
    recipe = parse_recipe(
        {
            "name": "chain",
            "model": str(tmp_path / "base"),
            "pairs": {"made": {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 8, "shots": [0, 0]}},
            "trainings": {
                "plain": keys,
                "wide": {**keys, "start": str(tmp_path / "wide")},
                "after": {**keys, "start": "wide"},
                "held": {**keys, "reference": str(tmp_path / "wide")},
                "adapted": {**keys, "lora": {"r": 2}, "start": str(tmp_path / "adapter")},
                "again": {**keys, "start": "wide"},
            },
            "evaluations": {"demo": {"suite": "demo", "tasks": ["facts"], "models": ["plain", "after"]}},
        }
    )
    plan = plan_recipe(recipe, [parse_machine("A100-80")])
    narrow, wide = (model_shape(str(tmp_path / name)).parameters for name in sizes)
    assert {name: plan.trained[name] for name in ("plain", "wide", "after", "held")} == {
        "plain": narrow,
        "wide": wide,
        "after": wide,
        "held": narrow,
    }
    stages = {stage.name: stage for stage in plan.machines[0].stages}
    # Each model is a reference of its own; trainings that are held against the same one share it.
    assert [name for name in stages if name.startswith("reference/")] == [
        f"reference/{name}" for name in ("plain", "wide", "after", "adapted")
    ]
    assert stages["reference/wide"].memory["weights"] == stages["reference/plain"].memory["weights"] * wide / narrow
    assert stages["eval/after/demo"].memory["weights"] > stages["eval/plain/demo"].memory["weights"]
