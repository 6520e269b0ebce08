"""Mistakes in a training's keys: each is named with its key and what to do, before anything is read or computed."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.runs.checks import check_trainings
from smaug_eval.runs.recipe_file import parse_recipe

NAN, INF = math.nan, math.inf


def recipe(training: dict[str, Any], pairs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": "mistakes",
        "model": "org/base",
        "pairs": {"p": {"source": "rows", "path": "org/pairs", **(pairs or {})}},
        "trainings": {"t": {"loss": "dpo", "steps": 2, **training}},
    }


@pytest.mark.parametrize(
    ("training", "pairs", "expected"),
    [
        ({"start": "t"}, {}, "trainings.t.start: it waits for itself"),
        ({"start": 3}, {}, "trainings.t.start = 3: input should be a valid string"),
        ({"start": ""}, {}, "trainings.t.start = ''"),
        ({"start": "sft"}, {}, "trainings.t.start = 'sft': no such training"),
        ({"start": "t/adapter"}, {}, "trainings.t.start"),
        ({"reference": "nope"}, {}, "trainings.t.reference = 'nope': no such training"),
        ({"reference_sync_every": 0}, {}, "reference_sync_every = 0: input should be greater than 0"),
        ({"reference_sync_every": True}, {}, "reference_sync_every is true: give a number"),
        ({"sync_every": 2}, {}, "trainings.t.sync_every = 2: unknown key"),
        ({"loss": "simpo", "reference_sync_every": 2}, {}, "no meaning for loss simpo, which reads no reference"),
        ({"reference_sync_weight": 0.5}, {}, "no meaning without reference_sync_every"),
        ({"loss": {"dpo": 1, "sft": -0.2}}, {}, "the factor of sft is -0.2: give a number above 0"),
        ({"loss": {"dpo": 1, "sft": 0}}, {}, "the factor of sft is 0: give a number above 0"),
        ({"loss": {"dpo": NAN}}, {}, "the factor of dpo is nan: give a number above 0"),
        ({"loss": {"dpo": INF}}, {}, "the factor of dpo is inf: give a number above 0"),
        ({"loss": {"dpo": "x"}}, {}, "the factor of dpo is 'x': give a number above 0"),
        ({"loss": {}}, {}, "an empty sum is no loss"),
        ({"loss": ["dpo", "sft"]}, {}, "give a name, or names with their factors"),
        ({"loss": "dpo + -1*sft"}, {}, "trainings.t.loss = 'dpo + -1*sft': unknown"),
        ({"loss": {"kto": 1, "dpo": 1}}, {}, "kto reads unpaired completions and dpo pairs"),
        ({"loss": "kto", "batch_size": 1}, {}, "give a batch_size of 2 at least"),
        ({"loss": "kto"}, {"ches": {"keep": 0.5}}, "loss kto reads single completions, and pairs.p.ches compares"),
        ({"beta": True}, {}, "beta is true: give a number"),
        ({"beta": NAN}, {}, "trainings.t.beta = nan: input should be a finite number"),
        ({"batch_size": False}, {}, "batch_size is false: give a number"),
        ({"keep": "best", "eval_every": 2}, {"holdout": 0}, "keep: best uses held-out pairs, and pairs.p.holdout is 0"),
        ({"patience": 2, "eval_every": 2}, {"holdout": 0}, "patience uses held-out pairs, and pairs.p.holdout is 0"),
        ({"sample_prompts": 2}, {"holdout": 0}, "sample_prompts uses held-out pairs, and pairs.p.holdout is 0"),
        ({"keep": "best", "eval_every": None}, {}, "keep: best uses evaluations: give eval_every"),
        ({"keep": "best", "keep_metric": "accuracy"}, {}, "keep_metric = 'accuracy': neither a column of the log"),
        ({"keep": "best", "keep_metric": None}, {}, "trainings.t.keep_metric = None"),
        ({"chat_template": ["chatml"]}, {}, "trainings.t.chat_template = ['chatml']"),
        ({"chat_template_kwargs": {"messages": []}}, {}, "messages decides what is rendered, not how"),
        (
            {"lora": {"modules_to_save": "lm_head"}},
            {},
            "lora.modules_to_save = 'lm_head': input should be a valid list",
        ),
        ({"lora": {"target_modules": []}}, {}, "trainings.t.lora.target_modules = []: "),
        (
            {"lora": {"target_modules": "q_proj"}},
            {},
            "target_modules = 'q_proj': unknown; there is all-linear; or input",
        ),
        (
            {"lora": {"trainable_tokens": [-1]}},
            {},
            "trainable_tokens.0 = -1: input should be greater than or equal to 0",
        ),
        ({"lora": {"target_parameters": ["w"], "dropout": 0.1}}, {}, "target_parameters have no inputs of their own"),
        ({"lora": {"r": True}}, {}, "r is true: give a number"),
        ({"optimizer": "adafactor", "betas": [0.8, 0.9]}, {}, "betas are AdamW's"),
        ({"betas": [NAN, 0.9]}, {}, "trainings.t.betas.0 = nan"),
        ({"router_aux_loss_coef": -1}, {}, "router_aux_loss_coef = -1: input should be greater than or equal to 0"),
        ({}, {"ches": {"keep": 2}}, "pairs.p.ches.keep = 2: input should be less than 1"),
        ({}, {"ches": {"keep": NAN}}, "pairs.p.ches.keep = nan: input should be a finite number"),
        ({}, {"ches": True}, "pairs.p.ches = True"),
        ({}, {"limit": True}, "limit is true: give a number"),
    ],
)
def test_mistakes_are_named(training: dict[str, Any], pairs: dict[str, Any], expected: str) -> None:
    with pytest.raises(SmaugError) as refused:
        parse_recipe(recipe(training, pairs))
    assert expected in str(refused.value.message)


def test_both_forms_of_a_value_are_said_in_one_line() -> None:
    with pytest.raises(SmaugError) as refused:
        parse_recipe(recipe({"lora": {"trainable_tokens": [-1]}}))
    assert str(refused.value.message).count("trainable_tokens") == 1
    assert "; or input should be a valid string" in str(refused.value.message)
    assert "constrained-int" not in str(refused.value.message)


def test_truth_values_stay_what_they_are_where_they_belong() -> None:
    training = parse_recipe(recipe({"share_prefix": False, "chat_template_kwargs": {"thinking": True}})).trainings["t"]
    assert (training.share_prefix, training.chat_template_kwargs) == (False, {"thinking": True})


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"optimizer": "adamw_8bit"}, "trainings.t: optimizer is adamw_8bit, and bitsandbytes is not installed"),
        ({"lora": {"quantize": "nf4"}}, "trainings.t: lora.quantize is nf4, and bitsandbytes is not installed"),
    ],
)
def test_a_missing_library_is_named_before_the_run(
    monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], expected: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    asked = parse_recipe(recipe(training))
    check_trainings(asked, ["pairs/p", "report"])
    with pytest.raises(SmaugError) as refused:
        check_trainings(asked, ["train/t"])
    assert str(refused.value.message) == expected
