"""Whole trainings of a tiny model."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.tiny_models import tiny_model
from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.prefix.scorer import Scorer, Way
from smaug_eval.trainers.checkpoints import TrainingResult, newest_checkpoint, seal
from smaug_eval.trainers.start_check import start_warnings
from smaug_eval.trainers.train import check_sharded
from smaug_eval.trainers.training_log import read_log
from tests.trainers.conftest import byte_tokenizer

Run = Callable[..., TrainingResult]
LN2 = math.log(2)
EPOCH_STEPS = 5  # 20 pairs, 4 a step


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    expected = weights(other)
    assert weights(one).keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(one).items())


def rows_without_time(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(folder / "log.jsonl")]


def stop_after(steps: int) -> Callable[[], bool]:
    """True from the ``steps``-th question on that is asked while training (the reference is saved by then)."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= steps


def summed_log_prob(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str) -> float:
    ids = torch.tensor([*tokenizer(prompt)["input_ids"], *tokenizer(completion)["input_ids"], 0])[None]
    start = len(tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        log_probs = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1)
    return sum(log_probs[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1]))


def test_training_starts_at_ln_2_and_leaves_everything_in_place(run: Run, tmp_path: Path) -> None:
    result = run()
    folder = tmp_path / "run"
    rows = read_log(folder / "log.jsonl")
    places = [(row["split"], row["step"]) for row in rows]
    assert places == [
        ("eval", 0),
        ("train", 1),
        ("train", 2),
        ("train", 3),
        ("eval", 3),
        ("train", 4),
        ("train", 5),
        ("train", 6),
        ("eval", 6),
    ]
    for row in rows[:2]:  # dropout of 0.25 in the base's configuration would show here
        assert row["loss"] == pytest.approx(LN2, abs=1e-6)
        assert row["log_ratios/chosen"] == row["log_ratios/rejected"] == 0.0
    assert {"grad_norm", "learning_rate", "epoch"} <= rows[1].keys()
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("reference-")) == [
        "checkpoint",
        "diagnostics.jsonl",
        "finished.json",
        "held_out.jsonl",
        "log.jsonl",
        "summary.json",
        "tensorboard",
    ]
    assert result.warnings == []
    assert (result.steps, result.pairs, result.eval_pairs) == (6, 20, 6)
    assert json.loads((folder / "summary.json").read_text()) == result.summary()
    assert result.summary()["lambda"] == 50.0


def test_the_logged_numbers_are_those_of_the_saved_models(run: Run, tmp_path: Path, model_path: Path) -> None:
    """The last held-out row, recomputed from base and checkpoint with one plain forward pass for each text."""
    final = run(config={"learning_rate": 3e-3}).final
    base = AutoModelForCausalLM.from_pretrained(model_path)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "checkpoint")
    held_out = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]

    def scores(model: LlamaForCausalLM, name: str) -> list[float]:
        return [summed_log_prob(model, tokenizer, row["prompt"], row[name]) for row in held_out]

    chosen, rejected = scores(policy, "chosen"), scores(policy, "rejected")
    rho_w = [new - old for new, old in zip(chosen, scores(base, "chosen"), strict=True)]
    rho_l = [new - old for new, old in zip(rejected, scores(base, "rejected"), strict=True)]
    pairs = list(zip(rho_w, rho_l, strict=True))
    expected = {
        "loss": [math.log1p(math.exp(-0.3 * (w - r - 50 * max(0.0, -w)))) for w, r in pairs],
        "logps/chosen": chosen,
        "logps/rejected": rejected,
        "log_ratios/chosen": rho_w,
        "log_ratios/rejected": rho_l,
        "rewards/margins": [0.3 * (w - r) for w, r in pairs],
        "rewards/accuracies": [float(w > r) for w, r in pairs],
        "penalty/active": [float(w < 0) for w in rho_w],
        "penalty/nats": [50 * max(0.0, -w) for w in rho_w],
        "log_ratios/chosen_median": [6 * statistics.median(rho_w)],
        "log_ratios/rejected_median": [6 * statistics.median(rho_l)],
        "log_ratios/chosen_below": [float(w < 0) for w in rho_w],
    }
    assert final.keys() >= expected.keys()
    for name, values in expected.items():
        assert final[name] == pytest.approx(
            sum(values) / 6, abs=0.02 if "penalty/nats" in name else 2e-3 if name == "loss" else 2e-4
        ), name


@pytest.mark.slow
def test_dpo_lets_the_chosen_fall_where_dpop_does_not(run: Run, tmp_path: Path) -> None:
    settings = {"steps": 60, "learning_rate": 1e-3, "eval_every": None, "log_every": 60}
    dpo = run("dpo", config=settings | {"loss": "dpo"})
    dpop = run("dpop", config=settings | {"loss": "dpop"})
    train = {name: read_log(tmp_path / name / "log.jsonl")[-2] for name in ("dpo", "dpop")}
    assert train["dpop"]["log_ratios/chosen"] > 0
    assert train["dpop"]["log_ratios/chosen"] > train["dpo"]["log_ratios/chosen"]
    assert dpop.final["log_ratios/chosen_below"] <= dpo.final["log_ratios/chosen_below"]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"dropout": 0.2, "r": 4}], ids=["full", "lora"])
def test_interrupted_twice_is_the_same_as_not_at_all(run: Run, tmp_path: Path, lora: dict[str, Any] | None) -> None:
    config = {"steps": 8, "lora": lora, "log_every": 3, "save_every": None}
    run("whole", config=config)
    for steps_before_stop in (_reference_batches() + 2, EPOCH_STEPS - 2):
        with pytest.raises(Interrupted, match="stopped after step"):
            run("parts", config=config, should_stop=stop_after(steps_before_stop))
    run("parts", config=config)
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")
    rows = rows_without_time(tmp_path / "parts")
    assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2, 3, 5, 6, 8]
    assert [row for row in rows if row["split"] == "eval"] == [
        row for row in rows_without_time(tmp_path / "whole") if row["split"] == "eval"
    ]
    assert not (tmp_path / "parts" / "resume").exists()


def _reference_batches() -> int:
    """Forward passes that score the reference, each of which asks whether to stop: 20 training and 6 held-out pairs."""
    return 13 + 4


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_complete_checkpoint(run: Run, tmp_path: Path) -> None:
    config = {"steps": 8, "save_every": 2}
    run("whole", config=config)

    class Killed(BaseException):
        pass

    def die_at_5(step: int, steps: int, row: dict[str, Any]) -> None:
        if row and step == 5:
            raise Killed

    with pytest.raises(Killed):
        run("killed", config=config, on_progress=die_at_5)
    resume = tmp_path / "killed" / "resume"
    half_written = shutil.copytree(resume / "checkpoint-4", resume / "checkpoint-6")
    state = (half_written / "trainer_state.json").read_text()
    (half_written / "trainer_state.json").write_text(state[: len(state) // 2])
    with (tmp_path / "killed" / "log.jsonl").open("a") as log:
        log.write('{"split": "train", "st')
    seen: list[int] = []
    run("killed", config=config, on_progress=lambda step, steps, row: seen.append(step))
    assert seen[0] == 5
    assert_same_weights(tmp_path / "killed", tmp_path / "whole")
    assert rows_without_time(tmp_path / "killed") == rows_without_time(tmp_path / "whole")


def test_stopping_while_the_reference_is_scored(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="while scoring the reference"):
        run(should_stop=lambda: True)
    assert run().steps == 6


def test_trainings_that_share_a_folder_score_the_reference_once(run: Run, tmp_path: Path) -> None:
    def pairs_scored(name: str, loss: str) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []

        def note(done: int, total: int, row: dict[str, Any]) -> None:
            if not row:
                seen.append((done, total))

        run(name, config={"loss": loss}, on_progress=note, reference_dir=tmp_path / "reference")
        return seen

    first = pairs_scored("first", "dpo")
    assert len(first) == _reference_batches()
    assert (first[0], first[-1][1]) == ((0, 20), 6)
    assert pairs_scored("second", "dpop") == []
    assert len(list((tmp_path / "reference").glob("reference-*.safetensors"))) == 2


def test_the_log_goes_to_weights_and_biases_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(config={"steps": 2, "wandb_project": "preferences"})
    (written,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    content = written.read_bytes()
    for name in (b"eval/log_ratios/chosen", b"train/loss", b"preferences"):
        assert name in content


def test_an_incomplete_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "absent") is None
    for step in (9, 10, 11):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            (folder / name).touch()
        if step != 11:
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
            seal(folder)
    assert newest_checkpoint(tmp_path, remove_incomplete=True) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-11").exists()


@pytest.mark.parametrize("pairs", [16, 7], ids=["even", "uneven"])
def test_accumulated_batches_equal_one_large_batch(
    run: Run, tmp_path: Path, sums: Callable[..., list[dict[str, str]]], pairs: int
) -> None:
    """With 7 pairs a step is 4 + 3: averaging the two batch means would weigh them wrongly."""
    train_file = tmp_path / "some.jsonl"
    train_file.write_text("".join(json.dumps(row) + "\n" for row in sums(pairs)))
    settings = {"steps": 3, "lr_scheduler": "constant", "learning_rate": 1e-2}
    run("large", config=settings | {"batch_size": 8}, train_file=train_file)
    run("accumulated", config=settings | {"batch_size": 4, "gradient_accumulation": 2}, train_file=train_file)
    logs = [rows_without_time(tmp_path / name) for name in ("large", "accumulated")]
    for one, other in zip(*logs, strict=True):
        assert one.pop("split") == other.pop("split")
        assert one == pytest.approx(other, rel=2e-3, abs=2e-3)


def test_the_checkpoint_is_a_model_of_its_own(run: Run, tmp_path: Path, model_path: Path) -> None:
    base = shutil.copytree(model_path, tmp_path / "with_template")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(base)
    (base / "generation_config.json").write_text('{"temperature": 0.5, "do_sample": false}')  # contradicts itself
    run(model_path=base)
    folder = tmp_path / "run" / "checkpoint"
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    saved = json.loads((folder / "config.json").read_text())
    assert saved == json.loads((base / "config.json").read_text())
    assert saved["attention_dropout"] == 0.25
    assert (folder / "generation_config.json").read_bytes() == (base / "generation_config.json").read_bytes()
    assert AutoTokenizer.from_pretrained(folder).chat_template == "{{ messages[0].content }}"
    assert not torch.equal(loaded.lm_head.weight, AutoModelForCausalLM.from_pretrained(base).lm_head.weight)


def test_the_model_card_states_loss_and_data(run: Run, tmp_path: Path) -> None:
    run("my-dpop", config={"lambda": 5})
    card = (tmp_path / "my-dpop" / "checkpoint" / "README.md").read_text()
    digest = hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest()
    for text in ("# my-dpop", "lambda * max(0, -rho_w)", "| lambda | 5.0 |", "| beta | 0.3 |", digest):
        assert text in card


def test_lora_trains_an_adapter_on_an_unchanged_base(run: Run, tmp_path: Path, model_path: Path) -> None:
    from peft import PeftModel

    result = run(config={"loss": "dpo", "lora": {"r": 4, "alpha": 8}, "learning_rate": 1e-2})
    folder = tmp_path / "run"
    first = read_log(folder / "log.jsonl")[0]
    assert first["loss"] == pytest.approx(LN2, abs=1e-6)
    assert first["log_ratios/chosen"] == 0.0
    assert result.final["log_ratios/chosen"] != 0.0
    base = AutoModelForCausalLM.from_pretrained(model_path).eval()
    merged = AutoModelForCausalLM.from_pretrained(folder / "checkpoint").eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, folder / "adapter")(ids).logits
        torch.testing.assert_close(merged(ids).logits, adapted, atol=1e-5, rtol=1e-4)
    assert (adapted - before).abs().max() > 1e-3
    assert torch.equal(merged.lm_head.weight, base.lm_head.weight)
    assert all("lora_" in name for name in load_file(folder / "adapter" / "adapter_model.safetensors"))


@pytest.mark.parametrize("lora", [None, {}], ids=["full", "lora"])
def test_bfloat16(run: Run, tmp_path: Path, lora: dict[str, Any] | None) -> None:
    result = run(dtype="bfloat16", config={"lora": lora})
    assert result.warnings == []
    assert {tensor.dtype for tensor in weights(tmp_path / "run").values()} == {torch.bfloat16}
    first = read_log(tmp_path / "run" / "log.jsonl")[0]
    assert first["log_ratios/chosen"] == 0.0  # scored in the same batches, so rounded alike


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_number(run: Run, tmp_path: Path) -> None:
    run("plain")
    run("saving", config={"gradient_checkpointing": True})
    assert_same_weights(tmp_path / "saving", tmp_path / "plain")


@pytest.mark.slow
def test_a_seed_of_its_own_takes_precedence(run: Run, tmp_path: Path) -> None:
    run("a", config={"seed": 11})
    run("b", seed=11)
    run("c", seed=12)
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert rows_without_time(tmp_path / "c")[1] != rows_without_time(tmp_path / "b")[1]


def test_without_held_out_pairs(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "none.jsonl"
    empty.touch()
    result = run(eval_file=empty, config={"steps": 2})
    rows = read_log(tmp_path / "run" / "log.jsonl")
    assert [row["split"] for row in rows] == ["train", "train"]
    assert result.eval_pairs == 0
    assert result.final["loss"] == rows[-1]["loss"]


def test_epochs(run: Run) -> None:
    assert run(config={"steps": None, "epochs": 1.4}).steps == 7


def test_tensorboard_shows_the_same_curves(run: Run, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    run()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("eval/log_ratios/chosen")]
    expected = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["split"] == "eval"]
    assert points == [(row["step"], pytest.approx(row["log_ratios/chosen"])) for row in expected]


def test_nothing_is_printed(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    run(config={"steps": 2})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"learning_rate": 1e30}, "the (loss|gradient) is not a finite number at step 2"),
        ({"learning_rate": 1e38, "steps": 1, "weight_decay": 10.0}, "not a finite number at step 1|after step 1"),
    ],
)
def test_a_training_that_diverges_is_an_error(run: Run, tmp_path: Path, config: dict[str, Any], message: str) -> None:
    settings = {"lr_scheduler": "constant", "eval_every": None}
    with pytest.raises(SmaugError, match=message):
        run(config=settings | config, eval_file=None)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_pairs_cut_to_nothing_different(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"no pair is left to train on \(20 identical after truncation\)"):
        run(config={"max_length": 2})


def test_cut_pairs_are_reported(run: Run, tmp_path: Path) -> None:
    row = {"prompt": "x" * 300, "chosen": " 4", "rejected": " 5"}
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"chosen": " 5"}) + "\n")
    result = run(train_file=path, config={"steps": 1})
    assert (result.truncated, result.max_length, result.dropped) == (1, 256, {"identical_tokens": 1})
    assert result.warnings == [
        "1 of 1 training pairs were cut (prompts: 1, completions: 0; max_length is 1024, but the model's context holds "
        "256 tokens)",
        "1 of 2 training pairs were left out: 1 identical tokens",
    ]


def test_models_that_cannot_be_trained(run: Run, tmp_path: Path, model_path: Path) -> None:
    with pytest.raises(SmaugError, match="cannot train in dtype 'float16'"):
        run(dtype="float16")
    with pytest.raises(SmaugError, match="does not exist"):
        run(model_path=tmp_path / "absent")
    pickled = shutil.copytree(model_path, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(SmaugError, match="cannot be loaded"):
        run(model_path=pickled)
    other = shutil.copytree(model_path, tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"vocab_size": 100}))
    tensors = load_file(other / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:100].contiguous()
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SmaugError, match="the model has only 100 embeddings"):
        run(model_path=other)
    with pytest.raises(SmaugError, match=r"lora\.target_modules"):
        run(config={"lora": {"target_modules": ["nothing_here"]}})


def test_code_in_a_model_folder_is_not_run(run: Run, tmp_path: Path, model_path: Path) -> None:
    hostile = shutil.copytree(model_path, tmp_path / "hostile")
    (hostile / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass M: pass\n")
    settings = json.loads((hostile / "config.json").read_text())
    auto_map = {"AutoConfig": "evil.M", "AutoModelForCausalLM": "evil.M"}
    (hostile / "config.json").write_text(json.dumps(settings | {"model_type": "evil", "auto_map": auto_map}))
    with pytest.raises(SmaugError, match="cannot be loaded"):
        run(model_path=hostile)
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_trained_on(run: Run, tmp_path: Path) -> None:
    """An encoder is refused before its weights are read."""
    tiny_model("bert", vocab_size=257).save_pretrained(tmp_path / "bert")
    byte_tokenizer().save_pretrained(tmp_path / "bert")
    with pytest.raises(SmaugError, match="is an encoder"):
        run(model_path=tmp_path / "bert")
    assert not list((tmp_path / "run").glob("reference-*"))


@pytest.mark.slow
def test_a_model_that_is_asked_one_text_at_a_time_is_trained_on_its_own_numbers(run: Run, tmp_path: Path) -> None:
    """DeepSeek's sparse attention: padded and packed rows would score other log-probabilities than the model has."""
    tiny_model("deepseek_v32", vocab_size=257, eos_token_id=0, bos_token_id=None).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    result = run(model_path=tmp_path / "base", config={"steps": 2, "eval_every": 2, "gradient_cosine_pairs": 0})
    assert (result.forward, result.warnings) == ("single", [])
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "checkpoint")
    held_out = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    found = [summed_log_prob(policy, tokenizer, row["prompt"], row["chosen"]) for row in held_out]
    assert result.final["logps/chosen"] == pytest.approx(statistics.mean(found), abs=1e-4)


def test_texts_of_their_own_and_sharded_weights_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_sharded(Scorer(Way.PACKED), 1024)
    check_sharded(Scorer(Way.PACKED, limit=4096, because="sliding_window"), 4096)
    with pytest.raises(SmaugError, match="texts of up to 8192 tokens") as raised:
        check_sharded(Scorer(Way.PACKED, limit=4096, because="sliding_window"), 8192)
    assert raised.value.fix == "set max_length to 4096 at most, or launch it with recipes/accelerate/ddp.yaml"
    with pytest.raises(SmaugError, match="FSDP and DeepSpeed cannot train this model") as raised:
        check_sharded(Scorer(Way.SINGLE, "a reason"), 16)
    assert raised.value.fix == "launch it with recipes/accelerate/ddp.yaml"
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    check_sharded(Scorer(Way.SINGLE, "a reason"), 16)


def test_a_wrong_reference_is_noticed() -> None:
    rows = [
        {"split": "eval", "step": 0, "loss": 0.75},
        {"split": "train", "step": 1, "loss": 0.6932},
        {"split": "train", "step": 2, "loss": 5.0},
    ]
    (warning,) = start_warnings(rows, {("eval", 0): LN2, ("train", 1): LN2}, 1e-3)
    assert "held-out pairs was 0.7500, not 0.6931" in warning
    assert start_warnings(rows, {("eval", 0): LN2, ("train", 1): LN2}, 0.1) == []
