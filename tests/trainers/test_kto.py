"""KTO on unpaired rows: against TRL's KTOTrainer, by hand, from recipe rows to the log, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers import PreferenceConfig, PreferenceTrainer
from smaug_eval.trainers.base_model import no_dropout
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.encoded_pair import EncodedPair
from smaug_eval.trainers.held_out import LabelledWatch
from smaug_eval.trainers.losses import PairScores, kto, loss_name
from smaug_eval.trainers.reference import TokenLogProbs
from smaug_eval.trainers.unpaired import Mismatched, Rejoined, label_remarks, unpaired_rows, with_labels

Rows = Callable[..., list[dict[str, str]]]


def unpaired(rows: list[dict[str, str]], *labels: bool) -> list[dict[str, Any]]:
    """Chosen and rejected completions in turn, each a row of its own; one, and then two, unless labels are given."""
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if label else "rejected"], "label": label}
        for row, label in zip(rows, (labels or (True, False, False)) * len(rows), strict=False)
    ]


@pytest.fixture
def files(tmp_path: Path, sums: Rows) -> dict[str, Path]:
    """Twenty unpaired rows to train on and seven held out."""
    paths = {"train_file": tmp_path / "unpaired.jsonl", "eval_file": tmp_path / "held_out.jsonl"}
    for path, rows in zip(paths.values(), (unpaired(sums(20)), unpaired(sums(7, seed=1))), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# beta 0.5, divergence 1. Desirable, rho 3: 0.8 * (1 - sigmoid(1)) = 0.2151531, slope -0.8 * 0.5 * 0.1966119.
# Undesirable: 1.3 * (1 - sigmoid(-1)) = 0.9503762, slope 1.3 * 0.5 * 0.1966119.
def test_kto_by_hand() -> None:
    rho = torch.tensor([3.0, 3.0], dtype=torch.float64, requires_grad=True)
    divergence = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([True, False])
    losses = kto(rho, labels, divergence, beta=0.5, desirable_weight=0.8, undesirable_weight=1.3)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0.2151531, 0.9503762], abs=1e-7)
    assert rho.grad is not None
    assert rho.grad.tolist() == pytest.approx([-0.0786448, 0.1277978], abs=1e-7)
    assert divergence.grad is None


def test_the_divergence_is_that_of_each_batch_and_not_below_0() -> None:
    # Log-ratios of mismatched completions 1, 3 | -4, 2 | 5: means 2, -1 (so 0) and 5.
    zeros = torch.zeros(5, dtype=torch.float64)
    scores = PairScores(zeros, torch.tensor([1.0, 3.0, -4.0, 2.0, 5.0]), zeros, zeros, zeros, zeros)
    found = with_labels(scores, [True, False, True, True, False], batch_size=2)
    assert found.kl is not None
    assert found.kl.tolist() == [2.0, 2.0, 0.0, 0.0, 5.0]
    assert with_labels(scores, [True] * 5).kl.tolist() == pytest.approx([1.4] * 5)  # type: ignore[union-attr]


def test_a_completion_stands_beside_that_of_the_prompt_before() -> None:
    def example(number: int) -> EncodedPair:
        ids = [np.full(length, number, np.int32) for length in (2, number + 1)]
        return EncodedPair(ids[0], ids[1], ids[1], label=number % 2 == 0)

    pairs = Mismatched([example(number) for number in range(5)], batch_size=2, max_length=5)
    assert [(pair.chosen[0], pair.rejected[0]) for pair in pairs] == [(0, 1), (1, 0), (2, 3), (3, 2), (4, 4)]
    assert [len(pair.rejected) for pair in pairs] == [2, 1, 3, 3, 3]  # 4 and 5 tokens are cut to what 2 leave of 5
    assert [pair.label for pair in pairs[1:3]] == [False, True]
    turned = Mismatched([example(number) for number in range(3)], batch_size=3, max_length=9, order=[2, 0, 1])
    assert [(pair.chosen[0], pair.rejected[0]) for pair in turned] == [(2, 1), (0, 2), (1, 0)]


def test_pairs_are_split_as_trl_splits_them(sums: Rows) -> None:
    data_utils = pytest.importorskip("trl.data_utils", reason="TRL, the oracle, is not installed here")
    rows = sums(1003)
    theirs = data_utils.unpair_preference_dataset(Dataset.from_list(rows))
    assert list(unpaired_rows(rows)) == [{key: row[key] for key in ("prompt", "completion", "label")} for row in theirs]
    mixed = [{"prompt": "a", "completion": "b", "label": False}, {"prompt": "c", "chosen": "d", "rejected": "e"}]
    assert [(row["completion"], row["label"]) for row in unpaired_rows(mixed)] == [
        ("b", False),
        ("d", True),
        ("e", False),
    ]


class Losses(TrainerCallback):
    """Keeps the logged rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.rows.append(dict(logs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paired", "settings"),
    [
        (False, {"row_tokens": 64}),
        (True, {"beta": 0.4, "desirable_weight": 1.5, "undesirable_weight": 0.7}),
    ],
    ids=["unpaired, several parts a batch", "pairs and weights"],
)
def test_the_losses_and_divergences_are_trls(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    sums: Rows,
    tmp_path: Path,
    paired: bool,
    settings: dict[str, Any],
) -> None:
    trl = pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
    rows = Dataset.from_list(sums(12) if paired else unpaired(sums(24), True, True, False, True))
    held_out = Dataset.from_list(unpaired(sums(9, seed=1)))
    arguments: dict[str, Any] = {
        "max_steps": 5,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "gradient_accumulation_steps": 1 if paired else 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "bf16": False,
    }
    twin, reference = copy.deepcopy(model), copy.deepcopy(model)
    theirs = trl.KTOTrainer(
        twin,
        ref_model=reference,
        args=trl.KTOConfig(
            str(tmp_path / "trl"), **arguments, **{k: v for k, v in settings.items() if k != "row_tokens"}
        ),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    heard: list[float] = []
    original = theirs.compute_loss  # TRL rounds the losses that it logs

    def recorded(*given: Any, **keywords: Any) -> Any:
        value = original(*given, **keywords)
        heard.append(float(value.detach()))
        return value

    theirs.compute_loss = recorded
    logged = Losses()
    theirs.add_callback(logged)
    with no_dropout(twin), no_dropout(reference):
        theirs.train()
        theirs.compute_loss = original
        scored = theirs.evaluate()
    ours = Losses()
    trainer = PreferenceTrainer(
        model,
        args=PreferenceConfig(str(tmp_path / "ours"), loss_type="kto", **arguments, **settings),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=tokenizer,
        callbacks=[ours],
    )
    trainer.train()
    each = [row for row in ours.rows if "loss" in row]
    step = len(heard) // 5
    means = [sum(heard[start : start + step]) / step for start in range(0, len(heard), step)]
    assert [row["loss"] for row in each] == pytest.approx(means, abs=1e-5)
    assert [row["kl"] for row in each] == pytest.approx([row["kl"] for row in logged.rows if "kl" in row], abs=1e-5)
    assert max(row["kl"] for row in each) > 1e-3
    assert abs(means[-1] - means[0]) > 1e-4
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(scored["eval_loss"], abs=1e-5)
    names = {"logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected", "rewards/margins"}
    assert names & set(logged.rows[0]) == names & set(each[0])  # those of one label alone, where a batch has no other
    for name in names & set(logged.rows[0]):
        assert each[0][name] == pytest.approx(logged.rows[0][name], abs=1e-4), name


@pytest.mark.slow
def test_a_training_on_unpaired_rows(
    run: Callable[..., TrainingResult], tmp_path: Path, files: dict[str, Path]
) -> None:
    """The log counts desirable completions as chosen; the first loss is that of an untrained policy."""
    config = {"loss": "kto", "learning_rate": 3e-3, "steps": 12, "desirable_weight": 3.0}
    notes: list[str] = []
    result = run("kto", config=config, on_note=notes.append, **files)
    rows = log(tmp_path / "kto")
    held_out = [row for row in rows if row["split"] == "eval"]
    assert result.pairs == 20
    assert (result.loss, result.weights["desirable_weight"]) == ("kto", 3.0)
    # Seven held-out rows, of which 1, 4 and 7 are desirable: (3 * 3 * 1/2 + 4 * 1/2) / 7.
    assert held_out[0]["loss"] == pytest.approx(6.5 / 7, abs=1e-6)
    assert held_out[0]["kl"] == 0.0
    assert held_out[-1]["rewards/margins"] > 0
    assert held_out[-1]["rewards/margins"] == pytest.approx(
        0.1 * (held_out[-1]["log_ratios/chosen"] - held_out[-1]["log_ratios/rejected"]), abs=1e-9
    )
    assert {"log_ratios/chosen_se", "log_ratios/chosen_below", "rewards/accuracies"} <= held_out[-1].keys()
    assert not any("first batch was" in warning for warning in result.warnings)
    assert (tmp_path / "kto" / "checkpoint" / "model.safetensors").is_file()
    assert any("7 training completions are desirable and 13 undesirable" in note for note in notes)


@pytest.mark.slow
def test_stopped_and_resumed_is_the_same(
    run: Callable[..., TrainingResult], tmp_path: Path, files: dict[str, Path]
) -> None:
    config = {"loss": "kto", "steps": 6, "save_every": 2}
    whole = run("whole", config=config, **files)
    asked = iter(range(100))
    with pytest.raises(SmaugError, match="stopped after step"):
        run("parts", config=config, should_stop=lambda: next(asked) > 14, **files)
    assert run("parts", config=config, **files).final == whole.final


def test_pairs_are_trained_on_as_unpaired_rows(run: Callable[..., TrainingResult], tmp_path: Path) -> None:
    """Each held-out completion has its line, and each pair the one that it has in other trainings."""
    result = run("kto", config={"loss": "kto", "steps": 1, "learning_rate": 3e-3, "warmup_steps": 0})
    assert (result.pairs, result.eval_pairs) == (40, 12)
    run("dpo", config={"loss": "dpo", "steps": 1})
    both, pairs = (
        [json.loads(line) for line in (tmp_path / name / "held_out.jsonl").read_text().splitlines()]
        for name in ("kto", "dpo")
    )
    lines, rejoined = both[:12], both[12:]
    assert all(line["in_pair"] for line in lines)
    same = ("pair", "edit_distance", "edits", "chosen_tokens", "common")
    assert [[line[key] for key in same] for line in rejoined] == [[line[key] for key in same] for line in pairs]
    for line, expected in zip(rejoined, pairs, strict=True):
        assert line["reference_chosen"] == pytest.approx(expected["reference_chosen"], abs=1e-4)
        parts = sum(line[f"chosen_{region}"] or 0.0 for region in ("before", "at", "after"))
        assert parts == pytest.approx(line["chosen"], abs=1e-6)
    ratios_of = {(line["completion"], line["label"]): line["log_ratio"] for line in lines}
    assert [line["chosen"] for line in rejoined] == [ratios_of[line["pair"], True] for line in rejoined]
    assert sorted(line["rejected"] for line in rejoined) == sorted(
        ratio for (_, label), ratio in ratios_of.items() if not label
    )
    assert sorted(line["label"] for line in lines) == [False] * 6 + [True] * 6
    assert {line["completion"] for line in lines if line["label"]} == {line["pair"] for line in pairs}
    before = {line["pair"]: line["reference_chosen"] for line in pairs}
    for line in lines:
        if line["label"]:
            assert line["reference"] == pytest.approx(before[line["completion"]], abs=1e-4)
    profiles = [
        [json.loads(line)["profile"] for line in (tmp_path / name / "diagnostics.jsonl").read_text().splitlines()]
        for name in ("kto", "dpo")
    ]
    for key in ("reference", "pairs"):
        assert profiles[0][-1][key] == pytest.approx(profiles[1][-1][key], abs=1e-4)
    last = [row for row in log(tmp_path / "kto") if row["split"] == "eval"][-1]
    assert last["change/chosen_at"] == pytest.approx(float(np.mean([line["chosen_at"] for line in rejoined])))
    for label, name in ((True, "chosen"), (False, "rejected")):
        ratios = [line["log_ratio"] for line in lines if line["label"] is label]
        assert float(np.mean(ratios)) == pytest.approx(last[f"log_ratios/{name}"], abs=1e-9)
        assert any(ratios)


def test_repeated_completions_have_names_of_their_own_and_need_no_desirable_one(tmp_path: Path) -> None:
    ids = np.arange(1, 4, dtype=np.int32)
    pairs = [EncodedPair(ids, ids[:2], ids[:1], label=False)] * 2
    reference = TokenLogProbs([np.full(2, -1.0, np.float32)] * 2, [np.zeros(1, np.float32)] * 2)
    policy = TokenLogProbs([np.full(2, -0.75, np.float32)] * 2, [np.zeros(1, np.float32)] * 2)
    watch = LabelledWatch(
        pairs, reference, Rejoined([], pairs), folder=tmp_path, step=None, loss="KTO", on_warning=lambda warning: None
    )  # fmt: skip
    assert watch.look(1, 2, policy) == {}
    assert not (tmp_path / "held_out.jsonl").exists()
    assert watch.look(2, 2, policy) == {}
    lines = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text().splitlines()]
    name = lines[0].pop("completion")
    assert lines[1].pop("completion") == f"{name}-2"
    assert lines == [{"label": False, "tokens": 2, "log_ratio": 0.5, "reference": -2.0, "in_pair": False}] * 2


def test_pairs_are_rejoined_from_completions_that_several_share() -> None:
    """Two wrong answers of one question, a completion of no pair, and a pair of which one half was cut."""

    def ids(*tokens: int) -> Any:
        return np.array(tokens, np.int32)

    question = ids(1, 2)
    pairs = [EncodedPair(question, ids(3, 4), ids(5)), EncodedPair(question, ids(3, 4), ids(6, 7))]
    cut = EncodedPair(ids(9), ids(3), ids(5, 5))
    completions = [
        EncodedPair(question, ids(6, 7), ids(0), label=False),
        EncodedPair(question, ids(3, 4), ids(0), label=True),
        EncodedPair(question, ids(5), ids(0), label=False),
        EncodedPair(ids(9), ids(3), ids(0), label=True),
        EncodedPair(ids(9), ids(5, 5), ids(0), label=True),  # of the other label
    ]
    rejoined = Rejoined([*pairs, cut], completions)
    assert (rejoined.pairs, rejoined.lost, rejoined.completions) == (pairs, 1, {0, 1, 2})
    tokens = TokenLogProbs([np.full(len(each.chosen), -1.0 - n) for n, each in enumerate(completions)], [])
    assert [side.tolist() for side in rejoined.scores(tokens).sums] == [[-4.0, -4.0], [-3.0, -2.0]]


def test_pairs_that_are_cut_otherwise_than_their_completions_are_counted(
    run: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    """A long rejected answer takes room from the pair's prompt that the chosen one by itself leaves to it."""
    rows = [{"prompt": "What is it? " * 3 + n, "chosen": n, "rejected": n * 30} for n in "ab"]
    rows.append({"prompt": "c", "chosen": "d", "rejected": "e"})
    file = tmp_path / "held.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes: list[str] = []
    config = {"loss": "kto", "steps": 1, "max_length": 48}
    run("cut", config=config, eval_file=file, on_note=notes.append)
    assert "2 held-out pairs are encoded otherwise than their completions: they have no margin" in notes
    lines = [json.loads(line) for line in (tmp_path / "cut" / "held_out.jsonl").read_text().splitlines()]
    assert sorted(line["in_pair"] for line in lines[:6]) == [False] * 4 + [True] * 2
    assert [line["edits"] for line in lines[6:]] == [1]


def test_a_loss_of_pairs_refuses_unpaired_rows_before_a_model_is_loaded(
    run: Callable[..., TrainingResult], tmp_path: Path, files: dict[str, Path]
) -> None:
    with pytest.raises(SmaugError, match=r"unpaired\.jsonl holds unpaired rows .*dpop compares") as refused:
        run(model_path=tmp_path / "nowhere", **files)
    assert "loss kto" in str(refused.value.fix)
    mixed = tmp_path / "mixed.jsonl"
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    mixed.write_text(json.dumps(pair) + "\n" + files["train_file"].read_text())
    with pytest.raises(SmaugError, match=r"mixed\.jsonl, row 2 has one completion and a label, and a pair is wanted"):
        run(train_file=mixed)


def test_kto_makes_no_sum_with_losses_of_pairs_and_needs_batches() -> None:
    with pytest.raises(ValueError, match="kto reads unpaired completions and dpo pairs"):
        loss_name({"kto": 1, "dpo": 0.5})
    assert loss_name("KTO") == "kto"
    with pytest.raises(ValueError, match="batch_size of 2"):
        TrainingConfig.model_validate({"loss": "kto", "batch_size": 1})
    with pytest.raises(ValueError, match="desirable_weight has no meaning for loss dpo"):
        TrainingConfig.model_validate({"loss": "dpo", "desirable_weight": 2.0})


def test_one_label_and_uneven_weights_are_said() -> None:
    even = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
    assert label_remarks([True] * 3, even, "rows") == [
        "all 3 rows are desirable: no completion is lowered by its label"
    ]
    assert label_remarks([False] * 2, even, "rows")[0].endswith("undesirable: no completion is raised by its label")
    assert label_remarks([True, False], even, "rows") == []
    assert "a ratio of 3;" in label_remarks([True, True, True, False], even, "rows")[0]
    assert label_remarks([True, True, True, False], {**even, "undesirable_weight": 3.0}, "rows") == []


def test_best_weights_by_a_column_that_is_not_there(
    run: Callable[..., TrainingResult], tmp_path: Path, files: dict[str, Path]
) -> None:
    rows = [json.loads(line) for line in files["eval_file"].read_text().splitlines()]
    files["eval_file"].write_text("".join(json.dumps({**row, "label": True}) + "\n" for row in rows))
    with pytest.raises(SmaugError, match="keep_metric rewards/margins needs held-out completions of both labels"):
        run(config={"loss": "kto", "keep": "best", "keep_metric": "rewards/margins"}, **files)


def test_the_first_loss_of_unequal_weights_is_not_known() -> None:
    entry = TrainingConfig.model_validate({"loss": "kto"}).entry
    assert entry.at_start is not None
    assert entry.at_start({"beta": 0.1, "desirable_weight": 3.0, "undesirable_weight": 3.0}) == 1.5
    assert entry.at_start({"beta": 0.1, "desirable_weight": 3.0, "undesirable_weight": 1.0}) is None


def test_one_row_is_too_few_and_its_file_is_named(run: Callable[..., TrainingResult], files: dict[str, Path]) -> None:
    files["train_file"].write_text(files["train_file"].read_text().splitlines()[0] + "\n")
    with pytest.raises(SmaugError, match=r"unpaired\.jsonl: one completion is left"):
        run(config={"loss": "kto"}, **files)
