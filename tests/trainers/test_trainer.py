"""The arithmetic around the loss: means, metrics, accumulation, and what the schedule decides."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl

from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.losses import PairScores
from smaug_eval.trainers.metrics import Records, pair_metrics, summarise
from smaug_eval.trainers.schedule import Schedule


def test_metrics_of_a_pair_by_hand() -> None:
    scores = PairScores(
        chosen=torch.tensor([-10.0, -12.0, -9.0]),
        rejected=torch.tensor([-11.0, -11.0, -11.0]),
        reference_chosen=torch.tensor([-12.0, -11.0, -9.0]),
        reference_rejected=torch.tensor([-10.0, -10.0, -11.0]),
        chosen_tokens=torch.tensor([3, 3, 3]),
        rejected_tokens=torch.tensor([3, 3, 3]),
    )
    config = TrainingConfig.model_validate({"loss": "dpop", "beta": 0.5, "lambda": 20})
    metrics = pair_metrics(config, torch.tensor([0.1, 0.2, 0.3]), scores)
    assert metrics["log_ratios/chosen"].tolist() == [2.0, -1.0, 0.0]
    assert metrics["log_ratios/rejected"].tolist() == [-1.0, -1.0, 0.0]
    assert metrics["rewards/margins"].tolist() == [1.5, 0.0, 0.0]
    assert metrics["rewards/accuracies"].tolist() == [1.0, 0.0, 0.0]  # a tie is no win
    assert metrics["penalty/active"].tolist() == [0.0, 1.0, 0.0]
    assert metrics["penalty/nats"].tolist() == [0.0, 20.0, 0.0]
    assert metrics["logps/chosen"].tolist() == [-10.0, -12.0, -9.0]
    without = pair_metrics(TrainingConfig.model_validate({"loss": "sft"}), torch.zeros(3), scores)
    assert without["rewards/margins"].tolist() == [3.0, 0.0, 0.0]
    assert not any(name.startswith("penalty") for name in without)


def test_records_weigh_pairs_not_batches() -> None:
    records = Records()
    records.add({"loss": torch.tensor([1.0, 2.0, 3.0])})
    records.add({"loss": torch.tensor([10.0])})
    assert records.drain() == {"loss": [1.0, 2.0, 3.0, 10.0]}
    records.add({"loss": torch.tensor([7.0])})
    assert records.drain() == {"loss": [7.0]}
    assert records.drain() == {}


def test_a_row_sums_up_its_pairs() -> None:
    values = {"loss": [1.0, 2.0, 9.0], "log_ratios/chosen": [-3.0, 1.0, 5.0], "log_ratios/rejected": [0.0, -1.0, -2.0]}
    assert summarise(values) == pytest.approx(
        {
            "loss": 4.0,
            "log_ratios/chosen": 1.0,
            "log_ratios/chosen_median": 1.0,
            "log_ratios/chosen_p10": -2.2,  # a fifth of the way from -3 to 1
            "log_ratios/chosen_below": 1 / 3,
            "log_ratios/rejected": -1.0,
            "log_ratios/rejected_median": -1.0,
            "log_ratios/rejected_p10": -1.8,
            "log_ratios/rejected_below": 2 / 3,  # 0 is not below
        }
    )


@pytest.mark.parametrize(
    ("step", "stop", "expected"),
    [
        (1, False, "log"),  # its loss is the reference's
        (2, False, ""),
        (4, False, "log"),
        (5, False, "evaluate"),
        (6, False, "log save"),  # a row ends at every checkpoint
        (7, True, "log save stop"),
        (10, False, "log evaluate stop"),  # the finished checkpoint follows
        (10, True, "log evaluate stop"),
    ],
)
def test_what_happens_after_a_step(step: int, stop: bool, expected: str) -> None:
    config = TrainingConfig.model_validate(
        {"loss": "dpo", "steps": 10, "log_every": 4, "eval_every": 5, "save_every": 6}
    )
    schedule = Schedule(config, lambda: stop, lambda *row: None)
    state = SimpleNamespace(global_step=step, max_steps=10)
    control = schedule.on_step_end(None, state, TrainerControl())
    done = {
        "log": control.should_log,
        "save": control.should_save,
        "evaluate": control.should_evaluate,
        "stop": control.should_training_stop,
    }
    assert {name for name, value in done.items() if value} == set(expected.split())
    assert schedule.stopped == (stop and step < 10)
