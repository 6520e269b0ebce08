from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from smaug_eval.trainers.config import LoraConfig, PairsConfig, TrainingConfig
from smaug_eval.trainers.losses import LOSSES
from smaug_eval.trainers.pairs.config import (
    ArcPairs,
    HellaSwagPairs,
    MetaMathPairs,
    MixturePairs,
    RowPairs,
    SourcedPairs,
)

PAIRS: TypeAdapter[SourcedPairs | MixturePairs] = TypeAdapter(PairsConfig)


def test_a_recipe_is_read_without_torch() -> None:
    check = "import sys, smaug_eval.trainers.config; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_lambda_of_the_paper_is_the_default_of_dpop_alone() -> None:
    assert TrainingConfig(loss="dpop").lambda_ == 50.0
    assert TrainingConfig(loss="dpo").lambda_ is None
    assert TrainingConfig.model_validate({"loss": "dpop", "lambda": 5}).lambda_ == 5.0


def test_lambda_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(ValidationError, match="lambda has no meaning for loss dpo"):
        TrainingConfig.model_validate({"loss": "dpo", "lambda": 5})


def test_one_epoch_unless_steps_are_given() -> None:
    assert TrainingConfig(loss="dpo").epochs == 1.0
    assert TrainingConfig(loss="dpo", steps=10).epochs is None
    with pytest.raises(ValidationError, match="steps or epochs, not both"):
        TrainingConfig(loss="dpo", steps=10, epochs=1.0)


def test_warmup_is_a_share_or_a_number_of_steps() -> None:
    assert TrainingConfig(loss="dpo").warmup_ratio == 0.1
    assert TrainingConfig(loss="dpo", lr_scheduler="constant").warmup_ratio == 0.0
    assert TrainingConfig(loss="dpo", warmup_steps=7).warmup_ratio is None
    with pytest.raises(ValidationError, match="not both"):
        TrainingConfig(loss="dpo", warmup_steps=7, warmup_ratio=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": 0},
        {"lambda": -1},
        {"learning_rate": 0},
        {"batch_size": 0},
        {"max_length": 64, "max_prompt_length": 64},
        {"learning_rte": 1e-5},
        {"lora": {"rank": 8}},
        {"loss": "ppo"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate({"loss": "dpop"} | wrong)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_settings_survive_a_file(loss: str) -> None:
    config = TrainingConfig(loss=loss, lora=LoraConfig())
    assert TrainingConfig.model_validate_json(config.model_dump_json(by_alias=True)) == config


def test_pairs_survive_a_file() -> None:
    for config in (
        MetaMathPairs(source="metamath", path="openai/gsm8k", config="main"),
        RowPairs(source="rows", path="a.jsonl", eval_path="b.jsonl.gz"),
        RowPairs(source="rows", path="org/set", revision="main", format="orca"),
        ArcPairs(source="arc", limit=5),
        HellaSwagPairs(source="hellaswag", path="a.parquet"),
        MixturePairs(source="mixture", sets={"a": 1, "b": 0.5}, count=10),
    ):
        assert PAIRS.validate_json(PAIRS.dump_json(config)) == config


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"source": "rows", "path": "a.jsonl", "shots": [0, 4]}, "Extra inputs"),
        ({"source": "metamath", "path": "a.jsonl", "drop_equal": True}, "Extra inputs"),
        ({"source": "rows", "path": "a.jsonl", "split": "train"}, "split has no meaning where path is a file"),
        ({"source": "rows", "path": "org/set", "eval_path": "b.jsonl"}, "eval_path has no meaning where path is a Hub"),
        ({"source": "rows", "path": "a.jsonl", "eval_path": "b.txt"}, "eval_path must be a .jsonl"),
        ({"source": "metamath", "path": "a.jsonl", "shots": [4, 0]}, "fewest, most"),
        ({"source": "arc", "shots": [2, 1]}, "fewest, most"),
        ({"source": "rows", "path": "a.jsonl", "revision": "main"}, "revision has no meaning where path is a file"),
        ({"source": "rows", "path": "a.jsonl", "format": "csv"}, "auto"),
        ({"source": "mixture", "sets": {}}, "at least 1 item"),
        ({"source": "mixture", "sets": {"a": 0}}, "greater than 0"),
        ({"source": "mixture", "sets": {"a": float("inf")}}, "finite"),
        ({"source": "mixture", "sets": {"a": 1}, "path": "a.jsonl"}, "Extra inputs"),
        ({"source": "orca", "path": "a.jsonl"}, "metamath"),
    ],
)
def test_pair_settings_without_effect_are_refused(pairs: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PAIRS.validate_python(pairs)


def test_what_is_dropped_depends_on_whether_the_rows_can_be_mended() -> None:
    file, hub = RowPairs(source="rows", path="a.jsonl"), RowPairs(source="rows", path="org/set", drop_empty=False)
    assert (file.drop_equal, file.drop_empty) == (False, False)
    assert (hub.drop_equal, hub.drop_empty) == (True, False)


@pytest.mark.parametrize(
    "model", [TrainingConfig, LoraConfig, MetaMathPairs, ArcPairs, HellaSwagPairs, RowPairs, MixturePairs]
)
def test_every_setting_is_described(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []
