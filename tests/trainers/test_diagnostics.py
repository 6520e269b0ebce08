"""Diagnostics against numbers worked out by hand, and against plain autograd on a tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from smaug_eval.common.errors import Interrupted
from smaug_eval.prefix.scorer import NoHiddenStates, scoring
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.diagnostics import (
    by_bucket,
    by_region,
    changes,
    edit_distances,
    falling_warning,
    log_ratios,
    mean_and_error,
    profile,
    rank_correlation,
)
from smaug_eval.trainers.held_out import HeldOutWatch, held_out_rows, last_diagnosis
from smaug_eval.trainers.probes import Ches, ches, gradient_cosines, sampled_indices
from smaug_eval.trainers.reference import TokenLogProbs
from smaug_eval.trainers.tokenization import EncodedPair
from smaug_eval.trainers.training_log import read_log

Run = Callable[..., TrainingResult]


def pair(prompt: list[int], chosen: list[int], rejected: list[int]) -> EncodedPair:
    return EncodedPair(*(np.array(ids, np.int32) for ids in (prompt, chosen, rejected)))


def scores(chosen: list[list[float]], rejected: list[list[float]]) -> TokenLogProbs:
    return TokenLogProbs(*(tuple(np.array(tokens, np.float32) for tokens in side) for side in (chosen, rejected)))


# The first pair differs at its third token; the second at its first; in the third, chosen is the beginning of rejected.
PAIRS = [pair([9], [1, 2, 3, 4, 5], [1, 2, 7, 4, 5]), pair([9], [1, 2], [3, 2]), pair([9], [1], [1, 5])]
REFERENCE = scores([[-1, -1, -1, -1, -1], [-2, -2], [-1]], [[-1, -1, -3, -1, -1], [-4, -1], [-1, -2]])
POLICY = scores([[-0.5, -1, -0.25, -2, -3], [-1, -4], [-3]], [[-0.5, -1, -5, -2, -2], [-8, -2], [-3, -2]])


def test_values_are_averaged_over_the_pairs_that_have_tokens_there() -> None:
    found = by_region(POLICY.chosen, PAIRS)
    # Before: the first pair (-0.5, -1) and the third (-3); at: -0.25 and -1; after: (-2, -3) and -4.
    assert found == {
        "before": {"pairs": 2, "mean": pytest.approx((-0.75 - 3) / 2), "sum": pytest.approx((-1.5 - 3) / 2)},
        "at": {"pairs": 2, "mean": -0.625, "sum": -0.625},
        "after": {"pairs": 2, "mean": pytest.approx((-2.5 - 4) / 2), "sum": pytest.approx((-5 - 4) / 2)},
    }


def test_what_is_said_of_each_held_out_pair() -> None:
    one, two, three = (line.as_json() for line in held_out_rows(POLICY, REFERENCE, PAIRS))
    assert one == {
        "pair": one["pair"],
        "edit_distance": pytest.approx(1 / 5),
        "edits": 1,
        "chosen_tokens": 5,
        "common": 2,
        "chosen": pytest.approx(0.5 + 0 + 0.75 - 1 - 2),
        "rejected": pytest.approx(0.5 + 0 - 2 - 1 - 1),
        "chosen_before": pytest.approx(0.5),
        "chosen_at": pytest.approx(0.75),
        "chosen_after": pytest.approx(-3),
        "reference_chosen": pytest.approx(-5),
    }
    assert [two["chosen_before"], two["chosen_at"], two["chosen_after"]] == [0, 1, -2]
    assert [three["chosen_before"], three["chosen_at"], three["chosen_after"]] == [-2, None, 0]
    assert (three["edits"], three["edit_distance"], three["common"]) == (1, 0.5, 1)


def test_a_held_out_pair_is_named_by_prompt_and_chosen_answer() -> None:
    other_edit = pair([9], [1, 2, 3, 4, 5], [6, 7, 8])
    other_prompt = pair([8], [1, 2, 3, 4, 5], [1, 2, 7, 4, 5])
    found = scores([[-1] * 5] * 3, [[-1] * 5, [-1] * 3, [-1] * 5])
    names = [row.pair for row in held_out_rows(found, found, [PAIRS[0], other_edit, other_prompt])]
    assert names == [names[0], f"{names[0]}-2", names[2]]
    assert len(set(names)) == 3
    assert held_out_rows(POLICY, REFERENCE, PAIRS)[0].pair == names[0]


def test_a_region_without_tokens_has_no_mean() -> None:
    assert by_region([np.array([-1.0])], [pair([9], [1], [1, 5])])["at"] == {"pairs": 0, "mean": None, "sum": None}


def test_changes_before_at_and_after_the_edit() -> None:
    # Chosen, policy - reference: (0.5, 0 | 0.75 | -1, -2), (| 1 | -2), (-2 | |).
    # Rejected: (0.5, 0 | -2 | -1, -1), (| -4 | -1), (-2 | 0 |).
    assert changes(POLICY, REFERENCE, PAIRS) == {
        "change/chosen_before": pytest.approx((0.25 - 2) / 2),
        "change/chosen_before_sum": pytest.approx((0.5 - 2) / 2),
        "change/chosen_at": pytest.approx((0.75 + 1) / 2),
        "change/chosen_at_sum": pytest.approx((0.75 + 1) / 2),
        "change/chosen_after": pytest.approx((-1.5 - 2) / 2),
        "change/chosen_after_sum": pytest.approx((-3 - 2) / 2),
        "change/rejected_before": pytest.approx((0.25 - 2) / 2),
        "change/rejected_before_sum": pytest.approx((0.5 - 2) / 2),
        "change/rejected_at": pytest.approx((-2 - 4 + 0) / 3),
        "change/rejected_at_sum": pytest.approx((-2 - 4 + 0) / 3),
        "change/rejected_after": pytest.approx((-1 - 1) / 2),
        "change/rejected_after_sum": pytest.approx((-2 - 1) / 2),
    }


def test_a_profile_lines_pairs_up_at_their_first_different_token() -> None:
    found = profile({"reference": REFERENCE, "policy": POLICY}, PAIRS)
    assert (found["offsets"][0], found["offsets"][-1]) == (-16, 32)
    at = found["offsets"].index
    expected = {
        # offset: (pairs, reference, policy); the third pair has only the token before the edit
        -3: (0, None, None),
        -2: (1, -1.0, -0.5),
        -1: (2, -1.0, (-1 - 3) / 2),
        0: (2, (-1 - 2) / 2, (-0.25 - 1) / 2),
        1: (2, (-1 - 2) / 2, (-2 - 4) / 2),
        2: (1, -1.0, -3.0),
        3: (0, None, None),
    }
    for offset, (pairs, reference, policy) in expected.items():
        assert found["pairs"][at(offset)] == pairs
        assert found["reference"][at(offset)] == reference
        assert found["policy"][at(offset)] == policy
    assert found["after_edit"] == {"pairs": 2, "reference": (-1 - 2) / 2, "policy": (-2.5 - 4) / 2}


def test_edit_distances_and_their_buckets() -> None:
    distances = edit_distances(PAIRS)
    assert distances == [1 / 5, 1 / 2, 1 / 2]
    ratios = log_ratios(POLICY, REFERENCE)
    # rho_w: -5.75 + ... : chosen sums -6.75, -5, -3 against -5, -4, -1
    assert ratios["log_ratio_chosen"].tolist() == [-1.75, -1.0, -2.0]
    assert ratios["log_ratio_rejected"].tolist() == [-3.5, -5.0, -2.0]
    assert by_bucket(distances, ratios) == [
        {
            "bucket": "10-30%",
            "pairs": 1,
            "log_ratio_chosen": -1.75,
            "log_ratio_rejected": -3.5,
            "below_reference": 1.0,
        },
        {
            "bucket": "30-60%",
            "pairs": 2,
            "log_ratio_chosen": -1.5,
            "log_ratio_rejected": -3.5,
            "below_reference": 1.0,
        },
    ]


def test_the_standard_error() -> None:
    mean, error = mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert (mean, error) == (3.0, pytest.approx(math.sqrt(7 / 3)))  # sample variance (4 + 1 + 9) / 2
    assert mean_and_error(np.array([4.0])) == (4.0, None)


def test_a_clear_fall_is_said_in_plain_words() -> None:
    text = falling_warning(np.array([-2.0, -1.0, -3.0, 0.5, -2.0]), what="step 40 of 60: DPO")
    # mean -1.5, sample variance (0.25 + 0.25 + 2.25 + 4 + 0.25) / 4 = 1.75, standard error sqrt(1.75 / 5)
    assert text == (
        "step 40 of 60: DPO made the preferred answers less likely than the base model has them: held-out log-ratio of "
        "chosen -1.5 ± 0.59 nats (mean and standard error over 5 pairs), 80% of the pairs below the reference"
    )


@pytest.mark.parametrize(
    "rho_w",
    [
        [2.0, 1.0, 3.0],
        [0.0, 0.0, 0.0],
        [-1.0, 0.9, -0.5, 0.4],  # mean -0.05, inconclusive
        [-5.0],  # one pair
        [-3.0, 0.0],  # mean -1.5, standard error 1.5
    ],
)
def test_a_rise_or_an_inconclusive_change_is_not_warned_about(rho_w: list[float]) -> None:
    assert falling_warning(np.array(rho_w), what="DPO") is None


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3, 40], [5, 6, 7, 8]) == pytest.approx(1)
    # ranks 1, 2.5, 2.5, 4 against 4, 3, 1, 2: covariance -3 / 3, variances 4.5 / 3 and 5 / 3
    assert rank_correlation([1, 2, 2, 4], [9, 8, 5, 7]) == pytest.approx(-3 / math.sqrt(4.5 * 5))
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


LONG = [
    pair([4, 8, 15], [16, 23, 42, 7], [16, 23, 99, 8, 1]),
    pair([5, 6], [7], [8, 9, 10]),
    pair([3, 1, 4, 1, 5], [9, 2, 6], [9, 2]),
]


def head_inputs(model: LlamaForCausalLM, prompt: np.ndarray, completion: np.ndarray) -> torch.Tensor:
    """What the head is given at the positions that predict the completion, from a forward pass of this text alone."""
    ids = torch.from_numpy(np.concatenate([prompt, completion])).long()[None]
    seen: list[torch.Tensor] = []
    handle = model.lm_head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(input_ids=ids)
    handle.remove()
    start = len(prompt) - 1
    return seen[0][0, start : start + len(completion)]


@pytest.mark.parametrize("share", [True, False], ids=["packed", "padded"])
def test_ches_is_that_of_plain_forward_passes(model: LlamaForCausalLM, share: bool) -> None:
    expected = []
    for each in LONG:
        plus, minus = (head_inputs(model, each.prompt, ids).double() for ids in (each.chosen, each.rejected))
        score = (plus.sum(0) * minus.sum(0)).sum() - plus.sum(0).norm() ** 2
        normalised = (plus.mean(0) * minus.mean(0)).sum() - plus.mean(0).norm() ** 2
        expected.append((score.item(), normalised.item()))
    model.train()
    with scoring(model, share=share) as scorer:
        assert scorer.way.value == ("packed" if share else "padded")
        found = ches(scorer, model, LONG, row_tokens=16)
    assert model.training
    assert [(each.score, each.normalised) for each in found] == [pytest.approx(pair, abs=1e-4) for pair in expected]


def test_ches_by_hand() -> None:
    """h+ = (1, 0), (1, 2): sum (2, 2), mean (1, 1); h- = (3, 1): <s+, s-> = 8, |s+|^2 = 8; means: 4 - 2."""
    from smaug_eval.trainers.probes import _ches

    found = _ches(torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[3.0, 1.0]]))
    assert (found.score, found.normalised) == (0.0, 2.0)


def plain_gradient(model: LlamaForCausalLM, prompt: np.ndarray, completion: np.ndarray) -> torch.Tensor:
    ids = torch.from_numpy(np.concatenate([prompt, completion])).long()[None]
    log_probs = torch.log_softmax(model(input_ids=ids).logits[0, len(prompt) - 1 : -1], dim=-1)
    total = log_probs.gather(1, ids[0, len(prompt) :, None]).sum()
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(total, list(model.parameters()))]).double()


def test_gradient_cosines_are_those_of_plain_autograd_and_disturb_nothing(model: LlamaForCausalLM) -> None:
    expected = []
    for each in LONG:
        plus, minus = (plain_gradient(model, each.prompt, ids) for ids in (each.chosen, each.rejected))
        expected.append(float(plus @ minus / (plus.norm() * minus.norm())))
    weight = model.lm_head.weight
    weight.grad = torch.full_like(weight, 2.0)
    model.train()
    state = torch.get_rng_state()
    with scoring(model) as scorer, torch.no_grad():
        found = gradient_cosines(scorer, model, LONG)
    assert found == [pytest.approx(value, abs=1e-5) for value in expected]
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(module.training for module in model.modules())
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert set(grads) == {"lm_head.weight"}
    assert torch.equal(grads["lm_head.weight"], torch.full_like(weight, 2.0))


def test_a_gradient_of_nothing_has_no_cosine(model: LlamaForCausalLM) -> None:
    model.requires_grad_(False)
    bias = model.model.norm.weight.requires_grad_(True)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token is as likely as any other, whatever the norm's weight is
    with scoring(model) as scorer:
        assert gradient_cosines(scorer, model, LONG[:1]) == [None]
    assert bias.grad is None


def test_the_sample_is_the_same_each_time() -> None:
    assert sampled_indices(100, 8, seed=3) == sampled_indices(100, 8, seed=3)
    assert sampled_indices(100, 8, seed=3) != sampled_indices(100, 8, seed=4)
    assert sampled_indices(3, 8, seed=0) == [0, 1, 2]
    assert sampled_indices(3, 0, seed=0) == []


def watch(folder: Path, warned: list[str], step: int | None = None) -> HeldOutWatch:
    return HeldOutWatch(
        PAIRS,
        REFERENCE,
        folder=folder,
        step=step,
        loss="DPO",
        cosines=lambda: [0.5, None],
        ches=lambda: [Ches(3.0, 0.25), Ches(5.0, 0.75)],
        on_warning=warned.append,
    )


def test_the_watch_keeps_a_row_for_each_scoring_and_warns_once(tmp_path: Path) -> None:
    warned: list[str] = []
    first = watch(tmp_path, warned)
    row = first.look(0, 30, REFERENCE)
    assert warned == []
    assert row["gradient_cosine"] == 0.5
    assert row["log_ratios/chosen_se"] == 0.0
    assert (row["ches"], row["ches_normalised"]) == (4.0, 0.5)
    assert "ches" not in first.look(10, 30, POLICY)  # it tells of the model before training
    kept = [each["ches"] for each in read_log(tmp_path / "diagnostics.jsonl")]
    assert kept == [{"mean": 4.0, "mean_normalised": 0.5, "normalised": [0.25, 0.75]}, None]
    first.look(20, 30, POLICY)
    (text,) = warned
    # log-ratios -1.75, -1, -2: mean -1.583, standard error 0.3005
    assert text.startswith("step 10 of 30: DPO made the preferred answers less likely")
    assert "-1.58 ± 0.3 nats" in text
    resumed = watch(tmp_path, warned, step=10)
    resumed.look(20, 30, POLICY)
    assert len(warned) == 1  # the row of step 10 has warned already
    rows = read_log(tmp_path / "diagnostics.jsonl")
    assert [each["step"] for each in rows] == [0, 10, 20]
    assert [bool(each["warning"]) for each in rows] == [False, True, True]
    assert rows[1]["gradient_cosine"] == {"mean": 0.5, "each": [0.5, None]}
    assert rows[1]["profile"]["after_edit"]["policy"] == -3.25
    assert last_diagnosis(tmp_path) == rows[-1]
    watch(tmp_path, warned)
    assert last_diagnosis(tmp_path) is None


def test_the_end_is_told_by_the_result_alone(tmp_path: Path) -> None:
    warned: list[str] = []
    watch(tmp_path, warned).look(30, 30, POLICY)
    assert warned == []
    assert last_diagnosis(tmp_path)["warning"].startswith("step 30 of 30: DPO")  # type: ignore[index]


FALLING = {
    "loss": "hinge",
    "beta": 2.0,
    "learning_rate": 5e-2,
    "steps": 12,
    "eval_every": 4,
    "lr_scheduler": "constant",
}


def test_a_training_leaves_diagnostics_and_warns(
    run: Run, tmp_path: Path, sums: Callable[..., list[dict[str, str]]]
) -> None:
    """A step size that wrecks the model within a few steps: every completion becomes less likely."""
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in sums(24, seed=2)))
    warned: list[str] = []
    result = run(config=FALLING, eval_file=held_out, on_warning=warned.append)
    rows = read_log(tmp_path / "run" / "diagnostics.jsonl")
    assert [row["step"] for row in rows] == [0, 4, 8, 12]
    start = rows[0]
    assert start["profile"]["reference"] == start["profile"]["policy"]
    assert len(start["gradient_cosine"]["each"]) == 8
    assert result.diagnostics == rows[-1]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["diagnostics"] == rows[-1]
    evals = [row for row in read_log(tmp_path / "run" / "log.jsonl") if row["split"] == "eval"]
    for row, diagnosis in zip(evals, rows, strict=True):
        assert row["gradient_cosine"] == diagnosis["gradient_cosine"]["mean"]
        overall = sum(bucket["log_ratio_chosen"] * bucket["pairs"] for bucket in diagnosis["buckets"]) / 24
        assert row["log_ratios/chosen"] == pytest.approx(overall, abs=1e-6)
        falls = row["log_ratios/chosen"] + 1.96 * row["log_ratios/chosen_se"] < 0
        assert bool(diagnosis["warning"]) == falls
    assert result.final["log_ratios/chosen"] < -5
    assert warned == [next(row["warning"] for row in rows if row["warning"])]
    assert [text for text in result.warnings if "less likely" in text] == [rows[-1]["warning"]]


def test_the_changes_of_the_regions_add_up_to_the_log_ratio(run: Run, tmp_path: Path) -> None:
    """Every pair of sums differs in the middle, so that each has all three regions."""
    run(config={"loss": "dpo", "learning_rate": 1e-2})
    row = [row for row in read_log(tmp_path / "run" / "log.jsonl") if row["split"] == "eval"][-1]
    for side in ("chosen", "rejected"):
        regions = sum(row[f"change/{side}_{region}_sum"] for region in ("before", "at", "after"))
        assert row[f"log_ratios/{side}"] == pytest.approx(regions, abs=1e-5)


def test_gradient_cosines_can_be_switched_off_and_change_no_weight(run: Run, tmp_path: Path) -> None:
    run("with", config={"steps": 4, "eval_every": 2})
    run("without", config={"steps": 4, "eval_every": 2, "gradient_cosine_pairs": 0})
    rows = read_log(tmp_path / "without" / "diagnostics.jsonl")
    assert [row["gradient_cosine"] for row in rows] == [None, None, None]
    assert "gradient_cosine" not in read_log(tmp_path / "without" / "log.jsonl")[0]
    one, other = (tmp_path / name / "checkpoint" / "model.safetensors" for name in ("with", "without"))
    assert one.read_bytes() == other.read_bytes()


def test_a_resumed_training_has_the_rows_of_an_uninterrupted_one(run: Run, tmp_path: Path) -> None:
    config: dict[str, Any] = {"steps": 6, "eval_every": 2, "save_every": None}
    run("whole", config=config)
    seen: list[int] = []

    def stop() -> bool:
        return seen[-1:] == [3]

    with pytest.raises(Interrupted):
        run("parts", config=config, should_stop=stop, on_progress=lambda step, steps, row: seen.append(step))
    with (tmp_path / "parts" / "diagnostics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "stale": true}\n{"step": 6, "ha')
    run("parts", config=config)
    assert read_log(tmp_path / "parts" / "diagnostics.jsonl") == read_log(tmp_path / "whole" / "diagnostics.jsonl")


def test_without_held_out_pairs_there_is_nothing_to_diagnose(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "none.jsonl"
    empty.touch()
    assert run(eval_file=empty, config={"steps": 1}).diagnostics is None
    assert not (tmp_path / "run" / "diagnostics.jsonl").exists()


def test_a_model_that_hides_its_states_is_trained_without_ches(
    run: Callable[..., TrainingResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(*args: Any, **kwargs: Any) -> list[Ches]:
        raise NoHiddenStates("the model does not return its hidden states")

    monkeypatch.setattr("smaug_eval.trainers.steps.ches", hidden)
    notes: list[str] = []
    run(config={"steps": 2, "gradient_cosine_pairs": 0}, on_note=notes.append)
    assert notes[-1] == "CHES is left out: the model does not return its hidden states"
    kept = read_log(tmp_path / "run" / "diagnostics.jsonl")
    assert [row["ches"] for row in kept] == [None] * len(kept)
    assert "ches" not in read_log(tmp_path / "run" / "log.jsonl")[0]


def test_a_training_logs_the_ches_of_its_base(run: Callable[..., TrainingResult], tmp_path: Path) -> None:
    run(config={"steps": 2, "gradient_cosine_pairs": 0})
    first = read_log(tmp_path / "run" / "diagnostics.jsonl")[0]["ches"]
    row = read_log(tmp_path / "run" / "log.jsonl")[0]
    assert len(first["normalised"]) == 6
    assert row["ches_normalised"] == pytest.approx(sum(first["normalised"]) / 6, rel=1e-6)
    assert row["ches"] == pytest.approx(first["mean"], rel=1e-6)
