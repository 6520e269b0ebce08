"""The class in the place of TRL's DPOTrainer: the same script gives the same losses, and what is not taken is named."""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import (
    EarlyStoppingCallback,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    TrainerCallback,
    TrainingArguments,
)

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers import PreferenceConfig, PreferenceTrainer
from smaug_eval.trainers.base_model import no_dropout

ARGUMENTS: dict[str, Any] = {
    "max_steps": 6,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
    "seed": 3,
    "gradient_checkpointing": False,
    "bf16": False,
}


@pytest.fixture
def rows(sums: Callable[..., list[dict[str, str]]]) -> Dataset:
    return Dataset.from_list(sums(20))


class Losses(TrainerCallback):
    """Keeps the logged rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.rows.append(dict(logs))

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in self.rows if "loss" in row]


def ours(
    model: Any, tokenizer: PreTrainedTokenizerFast, rows: Dataset, folder: Path, **given: Any
) -> tuple[PreferenceTrainer, list[float]]:
    trainer_keys = ("peft_config", "ref_model", "eval_dataset")
    heard = Losses()
    trainer = PreferenceTrainer(
        model,
        args=PreferenceConfig(
            str(folder), **{**ARGUMENTS, **{k: v for k, v in given.items() if k not in trainer_keys}}
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[heard],
        **{k: v for k, v in given.items() if k in trainer_keys},
    )
    trainer.train()
    return trainer, heard.losses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "lora"),
    [({}, False), ({"loss_type": ["sigmoid", "nca_pair"], "loss_weights": [1.0, 0.5]}, False), ({"beta": 0.3}, True)],
    ids=["defaults", "two losses", "adapter"],
)
def test_trls_script_gives_the_same_losses(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Dataset,
    tmp_path: Path,
    settings: dict[str, Any],
    lora: bool,
) -> None:
    """The arguments of TRL's example, its own tokenisation of the rows and its own order."""
    trl = pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
    adapter = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"]) if lora else None
    twin = copy.deepcopy(model)
    heard: list[float] = []
    theirs = trl.DPOTrainer(
        twin,
        args=trl.DPOConfig(str(tmp_path / "trl"), **ARGUMENTS, **settings),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=copy.deepcopy(adapter),
    )
    original = theirs.compute_loss  # TRL rounds the losses that it logs

    def recorded(*arguments: Any, **keywords: Any) -> Any:
        value = original(*arguments, **keywords)
        heard.append(float(value.detach()))
        return value

    theirs.compute_loss = recorded
    with no_dropout(twin):  # TRL leaves dropout in attention, which is a number there and no module
        theirs.train()
    _, losses = ours(model, tokenizer, rows, tmp_path / "ours", peft_config=adapter, **settings)
    assert losses == pytest.approx(heard, abs=1e-5)
    assert abs(losses[-1] - losses[0]) > 1e-4


@pytest.mark.slow
def test_dpop_with_held_out_rows_a_reference_and_generation(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    other = LlamaForCausalLM(model.config).eval()
    plain = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)
    held_out = rows.select(range(4))
    trainer, losses = ours(
        model, tokenizer, rows, tmp_path, loss_type="dpop", eval_dataset=held_out, ref_model=other, max_steps=2
    )
    assert abs(losses[0] - math.log(2)) > 1e-3  # another reference: the first loss is not ln 2
    found = trainer.evaluate()
    assert {"eval_loss", "eval_rewards/margins", "eval_log_ratios/chosen", "eval_penalty/nats"} <= set(found)
    # Under the model as it is outside: the sum over the chosen completions of four rows.
    expected = 0.0
    for row in held_out:
        prompt, text = (tokenizer(row["prompt"] + tail)["input_ids"] for tail in ("", row["chosen"]))
        ids = torch.tensor([[*text, tokenizer.eos_token_id]])
        with torch.no_grad():
            log_probs = trainer.model(ids).logits[0].log_softmax(-1)
        expected += sum(float(log_probs[i - 1, ids[0, i]]) for i in range(len(prompt), ids.shape[1]))
    assert found["eval_logps/chosen"] == pytest.approx(expected / 4, abs=1e-3)
    again = trainer.model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)
    assert again.shape == plain.shape
    trainer.save_model(str(tmp_path / "saved"))
    assert LlamaForCausalLM.from_pretrained(tmp_path / "saved").config._attn_implementation != "smaug"


@pytest.mark.slow
def test_a_name_an_adapter_and_the_first_loss(model_path: Path, rows: Dataset, tmp_path: Path) -> None:
    adapter = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    heard = Losses()
    trainer = PreferenceTrainer(
        str(model_path),
        args=PreferenceConfig(str(tmp_path), **{**ARGUMENTS, "max_steps": 1, "loss_type": "dpop"}),
        train_dataset=rows,
        peft_config=adapter,
        callbacks=[heard],
    )
    trainer.train()
    assert isinstance(trainer.model, PeftModel)
    assert heard.losses == pytest.approx([math.log(2)], abs=1e-5)
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({}, ("dpo", {"beta": 0.1})),
        ({"loss_type": "dpop"}, ("dpop", {"beta": 0.3, "lambda": 50.0})),
        ({"loss_type": "dpop", "dpop_lambda": 5.0, "beta": 0.2}, ("dpop", {"beta": 0.2, "lambda": 5.0})),
        ({"loss_type": "ipo"}, ("ipo_averaged", {"beta": 0.1})),
        ({"loss_type": "ipo_summed"}, ("ipo", {"beta": 0.1})),
        ({"ld_alpha": 0.3}, ("ld_dpo", {"beta": 0.1, "tail_weight": 0.3})),
        ({"rpo_alpha": 0.5}, ("dpo_nll", {"beta": 0.1, "alpha": 0.5})),
        ({"label_smoothing": 0.1}, ("dpo", {"beta": 0.1, "label_smoothing": 0.1})),
        ({"loss_type": "simpo", "simpo_gamma": 0.5}, ("simpo", {"beta": 2.0, "gamma": 0.5})),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}, ("dpo + 0.2*sft", {"beta": 0.1})),
        ({"loss_type": "dpo_shift", "loss_kwargs": {"shift": 0.9}}, ("dpo_shift", {"beta": 0.1, "shift": 0.9})),
    ],
)
def test_arguments_of_trl_are_mapped(
    tmp_path: Path, given: dict[str, Any], weights: tuple[str, dict[str, float]]
) -> None:
    settings = PreferenceConfig(str(tmp_path), use_cpu=True, **given).settings()
    assert (settings.loss, settings.weights) == weights


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"padding_free": True}, "PreferenceConfig(padding_free=True) is not taken"),
        ({"f_divergence_type": "js_divergence"}, "PreferenceConfig(f_divergence_type='js_divergence') is not taken"),
        ({"sync_ref_model": True}, "PreferenceConfig(sync_ref_model=True) is not taken"),
        ({"disable_dropout": False}, "PreferenceConfig(disable_dropout=False) is not taken"),
        ({"fp16": True}, "PreferenceConfig(fp16=True) is not taken"),
        ({"loss_type": "exo_pair"}, "there is no loss 'exo_pair'"),
        ({"loss_type": ["sigmoid"], "loss_weights": [1.0, 2.0]}, "loss_weights has 2 factors and loss_type 1 losses"),
        ({"loss_type": "dpop", "simpo_gamma": 1.0}, "gamma has no meaning for loss dpop"),
        ({"beta": -1.0}, "beta: Input should be greater than 0"),
        ({"precompute_ref_log_probs": False}, "PreferenceConfig(precompute_ref_log_probs=False) is not taken"),
        ({"dataset_num_proc": 4}, "PreferenceConfig(dataset_num_proc=4) is not taken"),
        ({"label_smoothing_factor": 0.1}, "PreferenceConfig(label_smoothing_factor=0.1) is not taken"),
        ({"neftune_noise_alpha": 5.0}, "PreferenceConfig(neftune_noise_alpha=5.0) is not taken"),
        ({"include_num_input_tokens_seen": "all"}, "include_num_input_tokens_seen='all') is not taken"),
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy='group_by_length') is not taken"),
        ({"eval_accumulation_steps": 2}, "PreferenceConfig(eval_accumulation_steps=2) is not taken"),
        ({"include_for_metrics": ["loss"]}, "PreferenceConfig(include_for_metrics=['loss']) is not taken"),
        ({"loss_type": "kto", "auto_find_batch_size": True}, "auto_find_batch_size=True) is not taken with kto"),
        ({"rpo_alpha": 1.0, "cpo_alpha": 2.0}, "rpo_alpha and cpo_alpha both give alpha"),
        ({"beta": 0.2, "loss_kwargs": {"beta": 0.3}}, "beta and loss_kwargs both give beta"),
        ({"loss_kwargs": {"steps": 3}}, "loss_kwargs: steps is no weight of a loss"),
        ({"loss_kwargs": "shift"}, "PreferenceConfig(loss_kwargs='shift') is no object"),
        ({"chat_template_kwargs": "{"}, "PreferenceConfig(chat_template_kwargs='{') is no object"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, -0.2]}, "the factor of sft is -0.2"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": 0.5}, "loss_weights has 1 factors and loss_type 2 losses"),
        ({"fsdp": "full_shard"}, "PreferenceConfig(fsdp='full_shard') is not taken"),
        ({"deepspeed": "zero3.json"}, "PreferenceConfig(deepspeed='zero3.json') is not taken"),
        ({"use_liger_kernel": True}, "PreferenceConfig(use_liger_kernel=True) is not taken"),
        ({"max_length": None}, "PreferenceConfig(max_length=None) is not taken"),
        (
            {"truncation_mode": "keep_end"},
            "PreferenceConfig: truncation_mode: keep_end, which TRL has deprecated, cuts",
        ),
    ],
)
def test_what_is_not_taken_is_named(tmp_path: Path, given: dict[str, Any], expected: str) -> None:
    with pytest.raises(SmaugError) as refused:
        PreferenceConfig(str(tmp_path), use_cpu=True, **given)
    assert expected in str(refused.value)
    assert refused.value.fix


CHANGES: dict[str, dict[str, Any]] = {
    "batching": {"batching": "question"},
    "loss_type": {"loss_type": "ipo"},
    "loss_weights": {"loss_weights": [2.0]},
    "beta": {"beta": 0.7},
    "dpop_lambda": {"loss_type": "dpop", "dpop_lambda": 3.0},
    "label_smoothing": {"label_smoothing": 0.2},
    "ld_alpha": {"ld_alpha": 0.2},
    "rpo_alpha": {"rpo_alpha": 0.2},
    "simpo_gamma": {"loss_type": "simpo", "simpo_gamma": 0.2},
    "cpo_alpha": {"loss_type": "cpo", "cpo_alpha": 0.2},
    "desirable_weight": {"loss_type": "kto", "desirable_weight": 2.0},
    "undesirable_weight": {"loss_type": "kto", "undesirable_weight": 2.0},
    "loss_kwargs": {"loss_type": "dpo_shift", "loss_kwargs": '{"shift": 0.5}'},
    "system_prompt": {"system_prompt": "Answer."},
    "chat_template": {"chat_template": "chatml"},
    "chat_template_kwargs": {"chat_template_kwargs": '{"enable_thinking": false}'},
    "append_eos": {"append_eos": False},
    "long_prompts": {"long_prompts": "drop"},
    "max_length": {"max_length": 77},
    "max_prompt_length": {"max_prompt_length": 33},
    "max_completion_length": {"max_completion_length": 33},
    "truncation_mode": {"truncation_mode": "balanced"},
    "router_aux_loss_coef": {"router_aux_loss_coef": 0.01},
    "share_prefix": {"share_prefix": False},
    "row_tokens": {"row_tokens": 99},
}
"""Of each argument of ours or of TRL's, what sets it, and the loss that reads it."""
READ_BY_THE_TRAINER = {"columns", "weight_column", "model_init_kwargs", "trust_remote_code"}
REFUSED = {
    *("padding_free", "f_divergence_type", "use_weighting", "sync_ref_model", "activation_offloading", "tools"),
    *("generate_during_eval", "reference_free", "disable_dropout", "precompute_ref_log_probs", "dataset_num_proc"),
    *("ref_model_sync_steps", "ref_model_mixup_alpha", "ref_model_init_kwargs", "model_adapter_name"),
    *("ref_adapter_name", "force_use_ref_model", "use_liger_loss", "use_logits_to_keep", "pad_token"),
    *("pad_to_multiple_of", "padding_value", "label_pad_token_id", "precompute_ref_batch_size"),
    *("f_alpha_divergence_coef", "discopop_tau"),
}


def test_every_argument_does_something_or_is_refused(tmp_path: Path) -> None:
    own = {each.name for each in fields(PreferenceConfig)} - {each.name for each in fields(TrainingArguments)}
    assert own == CHANGES.keys() | READ_BY_THE_TRAINER | REFUSED
    for name, given in CHANGES.items():
        loss = {"loss_type": given["loss_type"]} if name != "loss_type" and "loss_type" in given else {}
        plain, changed = (PreferenceConfig(str(tmp_path), use_cpu=True, **each).settings() for each in (loss, given))
        assert plain != changed, name
    for name in REFUSED:
        value = {"disable_dropout": False, "precompute_ref_log_probs": False, "dataset_num_proc": 2}.get(name, True)
        with pytest.raises(SmaugError, match=f"PreferenceConfig\\({name}="):
            PreferenceConfig(str(tmp_path), use_cpu=True, **{name: value})


def test_every_argument_of_trls_config_is_known() -> None:
    trl = pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
    assert {each.name for each in fields(trl.DPOConfig)} <= {each.name for each in fields(PreferenceConfig)}
    theirs = set(inspect.signature(trl.DPOTrainer).parameters)
    assert theirs <= set(inspect.signature(PreferenceTrainer).parameters)


EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "adapter"])
def test_the_best_model_by_held_out_rows_is_loaded_at_the_end(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Dataset,
    sums: Callable[..., list[dict[str, str]]],
    tmp_path: Path,
    adapter: bool,
) -> None:
    """Asked for the highest loss, the first checkpoint is the best, and the last is not what remains."""
    held_out = Dataset.from_list(sums(6, seed=1))
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"]) if adapter else None
    trainer, _ = ours(
        model, tokenizer, rows, tmp_path, eval_dataset=held_out, peft_config=lora, seed=1, **EVALUATED, **best
    )
    heard = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert len(heard) == 3
    assert heard[0] > heard[1] > heard[2]
    assert trainer.state.best_metric == heard[0]
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-2")
    assert trainer.evaluate()["eval_loss"] == pytest.approx(heard[0], abs=1e-6)


def test_several_held_out_sets_are_evaluated_by_their_names_and_patience_ends(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Dataset,
    sums: Callable[..., list[dict[str, str]]],
    tmp_path: Path,
) -> None:
    sets = {name: Dataset.from_list(sums(6, seed=seed)) for name, seed in (("near", 1), ("far", 2))}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_far_loss", "greater_is_better": True}
    trainer = PreferenceTrainer(
        model,
        ref_model=copy.deepcopy(model),
        args=PreferenceConfig(str(tmp_path), **{**ARGUMENTS, **EVALUATED, **best, "seed": 1, "max_steps": 8}),
        train_dataset=rows,
        eval_dataset=DatasetDict(sets),
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=1)],
    )
    assert trainer.evaluate()["eval_near_loss"] == pytest.approx(math.log(2), abs=1e-6)
    trainer.train()
    heard = [row["eval_far_loss"] for row in trainer.state.log_history if "eval_far_loss" in row][1:]
    assert len(heard) < 4, "the loss of far was to rise at each evaluation"
    assert heard == sorted(heard[:-1]) + heard[-1:]
    assert heard[-1] < heard[-2]
    found = trainer.evaluate()
    for name, own in sets.items():
        alone = trainer.evaluate(own, metric_key_prefix="test")
        assert found[f"eval_{name}_loss"] == alone["test_loss"]
    assert found["eval_near_loss"] != found["eval_far_loss"]
    assert trainer.evaluate({"again": sets["far"]})["eval_again_loss"] == found["eval_far_loss"]


def test_without_its_adapter_the_model_is_the_reference_of_further_rows(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Dataset,
    sums: Callable[..., list[dict[str, str]]],
    tmp_path: Path,
) -> None:
    """Held-out rows that come after the training are held against what those given before it are."""
    held_out = Dataset.from_list(sums(6, seed=1))
    lora = {"peft_config": LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])}
    before, _ = ours(copy.deepcopy(model), tokenizer, rows, tmp_path, eval_dataset=held_out, **lora)
    after, _ = ours(model, tokenizer, rows, tmp_path, **lora)
    expected = before.evaluate()
    assert abs(expected["eval_loss"] - math.log(2)) > 1e-5
    assert after.evaluate(held_out) == pytest.approx(expected, abs=1e-6)


def test_what_the_class_does_not_take_is_named(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Dataset, tmp_path: Path
) -> None:
    args = PreferenceConfig(str(tmp_path), **ARGUMENTS)
    plain = TrainingArguments(str(tmp_path), use_cpu=True)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    small = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes))
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
    frozen, adapted = copy.deepcopy(model).requires_grad_(False), get_peft_model(copy.deepcopy(model), lora)
    streamed = IterableDataset.from_generator(lambda: iter(rows))
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"args": plain}, "PreferenceTrainer(args=...) is a TrainingArguments", "PreferenceConfig"),
        (
            {"quantization_config": {"load_in_4bit": True}},
            "PreferenceTrainer(quantization_config=...)",
            "load the model",
        ),
        ({"compute_metrics": print}, "PreferenceTrainer(compute_metrics=...)", "leave it out"),
        ({"model": frozen}, "has no weight that is trained", "is_trainable=True"),
        ({"model": adapted, "peft_config": lora}, "PreferenceTrainer(peft_config=...) is not taken beside", "leave"),
        ({"model": None}, "PreferenceTrainer(model=None) is no model", "its name"),
        ({"processing_class": object()}, "PreferenceTrainer(processing_class=...) is a object", "processor.tokenizer"),
        ({"ref_model": small}, "ref_model: the tokenizer gives id", "own tokenizer"),
        ({"model": small}, "model: the tokenizer gives id", "own tokenizer"),
        (
            {"peft_config": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)},
            "PreferenceTrainer(peft_config=PromptTuningConfig)",
            "LoraConfig",
        ),
        ({"train_dataset": streamed}, "train_dataset is of type IterableDataset", "datasets.Dataset, or a list"),
        (
            {"train_dataset": DatasetDict({"train": rows})},
            "train_dataset is of type DatasetDict",
            "such as train_dataset['train']",
        ),
        ({"eval_dataset": {"far": streamed}}, "eval_dataset['far'] is of type IterableDataset", "datasets.Dataset"),
    ]
    for given, said, fix in cases:
        with pytest.raises(SmaugError, match=re.escape(said)) as refused:
            PreferenceTrainer(
                **{"model": model, "args": args, "train_dataset": rows, "processing_class": tokenizer, **given}
            )
        assert fix in str(refused.value.fix)
    trainer = PreferenceTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    with pytest.raises(SmaugError, match="predict is not taken") as refused:
        trainer.predict(rows)
    assert "evaluate" in str(refused.value.fix)


@pytest.mark.parametrize("given", [{"model_init_kwargs": '{"dtype": "bfloat16"}'}, {"trust_remote_code": True}])
def test_what_says_how_to_load_is_refused_beside_a_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Dataset, tmp_path: Path, given: dict[str, Any]
) -> None:
    with pytest.raises(SmaugError, match="is for a model that is loaded here"):
        trainer_on(model, tokenizer, rows, tmp_path, **given)


def test_what_says_how_to_load_may_come_as_json(model_path: Path, rows: Dataset, tmp_path: Path) -> None:
    arguments = PreferenceConfig(str(tmp_path), **ARGUMENTS, model_init_kwargs='{"dtype": "bfloat16"}')
    trainer = PreferenceTrainer(str(model_path), args=arguments, train_dataset=rows)
    assert next(trainer.model.parameters()).dtype == torch.bfloat16


def test_no_rows_and_a_row_that_is_no_pair(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    arguments = PreferenceConfig(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(SmaugError, match="needs train_dataset"):
        PreferenceTrainer(model, args=arguments, processing_class=tokenizer)
    rows = Dataset.from_list([{"prompt": "a", "chosen": "b"}])
    with pytest.raises(SmaugError, match="train_dataset, row 1"):
        PreferenceTrainer(model, args=arguments, processing_class=tokenizer, train_dataset=rows)
    with pytest.raises(SmaugError, match=r"PreferenceTrainer\(data_collator=...\) is not taken"):
        PreferenceTrainer(model, args=arguments, data_collator=object(), train_dataset=rows)


def trainer_on(
    model: Any, tokenizer: PreTrainedTokenizerFast, rows: list[dict[str, Any]], folder: Path, **given: Any
) -> PreferenceTrainer:
    return PreferenceTrainer(
        model,
        args=PreferenceConfig(str(folder), **{**ARGUMENTS, **given}),
        train_dataset=rows,  # type: ignore[arg-type]
        processing_class=tokenizer,
    )


def test_every_answer_and_weight_of_a_row_is_taken(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Two?", "chosen": " b", "rejected": [" c", " d", " e"], "weight": 2.0},
        {"prompt": "Ranked?", "answers": [{"answer": " x", "rank": 1}, {"answer": " y", "rank": 2}], "weight": None},
        {"prompt": "None?", "chosen": " b", "rejected": " c", "weight": 0},
    ]
    trainer = trainer_on(model, tokenizer, rows, tmp_path)
    found = [
        (
            *(tokenizer.decode(ids, skip_special_tokens=True) for ids in (pair.prompt, pair.chosen, pair.rejected)),
            pair.weight,
        )
        for pair in trainer.train_dataset.pairs  # type: ignore[union-attr]
    ]
    assert found == [
        ("Two?", " b", " c", 2.0),
        ("Two?", " b", " d", 2.0),
        ("Two?", " b", " e", 2.0),
        ("Ranked?", " x", " y", 1.0),
    ]
    plain = trainer_on(model, tokenizer, rows[:1], tmp_path, weight_column=None)
    assert [pair.weight for pair in plain.train_dataset.pairs] == [1.0] * 3  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_row_of_three_answers_weighs_as_three_rows(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """One step on both forms leaves the same weights, and a weight of 2 doubles the gradient of the only pair."""
    apart = [{"prompt": "Two?", "chosen": " b", "rejected": text} for text in (" c", " d", " ef")]
    together = [{"prompt": "Two?", "chosen": " b", "rejected": [" c", " d", " ef"]}]
    moved, norms = [], []
    for number, rows in enumerate((apart, together, apart[:1], [{**apart[0], "weight": 2.0}])):
        twin, heard = copy.deepcopy(model), Losses()
        trainer = trainer_on(twin, tokenizer, rows, tmp_path / str(number), max_steps=1)
        trainer.add_callback(heard)
        trainer.train()
        moved.append(torch.cat([weight.flatten() for weight in twin.parameters()]))
        norms.append(next(row["grad_norm"] for row in heard.rows if "grad_norm" in row))
    assert torch.equal(moved[0], moved[1])
    assert norms[3] == pytest.approx(2 * norms[2], rel=1e-4)


def test_columns_a_system_prompt_and_a_template_are_taken(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    row = {"asked": [{"role": "user", "content": "Hi"}], "chosen": "Yes", "rejected": "No"}
    chatty = copy.deepcopy(tokenizer)
    trainer = trainer_on(
        model, chatty, [row], tmp_path, columns={"prompt": "asked"}, system_prompt="Be brief.", chat_template="chatml"
    )
    (pair,) = trainer.train_dataset.pairs  # type: ignore[union-attr]
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert chatty.decode(pair.prompt) == expected
    assert chatty.chat_template


def test_models_that_cannot_be_trained_are_named(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    with pytest.raises(SmaugError, match="has weights in float16, whose gradients would need a scaler"):
        trainer_on(copy.deepcopy(model).half(), tokenizer, rows, tmp_path)
    text = {"vocab_size": 257, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2}
    pictured = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision))
    with pytest.raises(SmaugError, match=r"is a vision-language model \(qwen2_vl\)"):
        trainer_on(pictured, tokenizer, rows, tmp_path)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": "b", "label": True}, "train_dataset, row 1 has one completion and a label"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "weight": -1}, "train_dataset, row 1: weight is -1"),
    ],
)
def test_rows_that_do_not_fit_are_named(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, row: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SmaugError) as refused:
        trainer_on(model, tokenizer, [row], tmp_path)
    assert refused.value.message.startswith(expected)
