"""``smaug-eval diagnose`` on the embedded model: numbers from plain forward passes, and its errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError

MODEL = "embedded:demo-model"
ROWS = [
    {
        "prompt": "Question: Ann has 3 pens and buys 4. How many?\nAnswer:",
        "chosen": " 3 + 4 = 7",
        "rejected": " 3 + 4 = 8",
    },
    {
        "prompt": "Question: Ben has 9 keys and loses 2. How many?\nAnswer:",
        "chosen": " 9 - 2 = 7.",
        "rejected": " No idea",
    },
    {"prompt": "Question: Ida has 5 eggs. How many?\nAnswer:", "chosen": " 5", "rejected": " 5 or 6"},
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "rows.jsonl"
    equal = {**ROWS[0], "rejected": ROWS[0]["chosen"]}
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, equal]))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with noise on its weights."""
    folder = tmp_path_factory.mktemp("models") / "trained"
    shutil.copytree(embedded_path(MODEL), folder)
    generator = torch.Generator().manual_seed(0)
    weights = load_file(folder / "model.safetensors")
    noisy = {name: w + 0.05 * w.std() * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    (folder / "model.safetensors").chmod(0o644)
    save_file(
        {name: w.to(weights[name].dtype) for name, w in noisy.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


def token_log_probs(place: Path) -> list[dict[str, Any]]:
    """Of each row both completions' ids and their log-probabilities, one text at a time, in double precision."""
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    found = []
    for row in ROWS:
        start = len(tokenizer(row["prompt"])["input_ids"])
        sides: dict[str, Any] = {}
        for side in ("chosen", "rejected"):
            ids = [*tokenizer(row["prompt"] + row[side])["input_ids"], tokenizer.eos_token_id]
            with torch.no_grad():
                log_probs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1)
            sides[side] = np.array([log_probs[t - 1, ids[t]].item() for t in range(start, len(ids))])
            sides[f"{side}_ids"] = ids[start:]
        found.append(sides)
    return found


def test_the_numbers_are_those_of_plain_forward_passes(pair_file: Path) -> None:
    found = smaug_eval.diagnose(MODEL, pair_file, gradient_pairs=2, dtype="float32")
    plain = token_log_probs(embedded_path(MODEL))
    assert found["pairs"] == {
        "path": str(pair_file),
        "rows": 4,
        "scored": 3,
        "dropped": {"chosen_equals_rejected": 1},
        "truncated": 0,
    }
    for side in ("chosen", "rejected"):
        values = found["log_probs"][side]
        assert values["per_pair"] == pytest.approx(np.mean([row[side].sum() for row in plain]), abs=1e-3)
        assert values["per_token"] == pytest.approx(np.mean([row[side].mean() for row in plain]), abs=1e-4)
    first = [row["chosen"].sum() > row["rejected"].sum() for row in plain]
    assert found["log_probs"]["ranked_first"] == np.mean(first)
    edits = [
        next(i for i, (a, b) in enumerate(zip(row["chosen_ids"], row["rejected_ids"], strict=False)) if a != b)
        for row in plain
    ]
    after = [
        row["chosen"][edit + 1 :].mean()
        for row, edit in zip(plain, edits, strict=True)
        if edit + 1 < len(row["chosen"])
    ]
    assert found["profile"]["after_edit"] == {"pairs": len(after), "model": pytest.approx(np.mean(after), abs=1e-4)}
    assert found["log_probs"]["chosen"]["after"]["mean"] == found["profile"]["after_edit"]["model"]
    assert sum(bucket["pairs"] for bucket in found["buckets"]) == 3
    assert len(found["gradient_cosine"]["each"]) == 2
    assert all(-1 <= each["cosine"] <= 1 for each in found["gradient_cosine"]["each"])
    highest = [each["normalised"] for each in found["ches"]["highest_normalised"]]
    assert highest == sorted(highest, reverse=True)
    assert found["ches"]["normalised"]["mean"] == pytest.approx(np.mean(highest))
    assert (found["changes"], found["correlations"], found["reference"], found["warning"]) == (None, None, None, None)
    json.dumps(found, allow_nan=False)


def test_changes_against_the_model_before_training(pair_file: Path, trained: Path) -> None:
    found = smaug_eval.diagnose(trained, pair_file, reference=MODEL, gradient_pairs=0, dtype="float32")
    new, old = token_log_probs(trained), token_log_probs(embedded_path(MODEL))
    for side in ("chosen", "rejected"):
        ratios = [a[side].sum() - b[side].sum() for a, b in zip(new, old, strict=True)]
        values = found["changes"][side]
        assert values["per_pair"] == pytest.approx(np.mean(ratios), abs=1e-3)
        assert values["se"] == pytest.approx(np.std(ratios, ddof=1) / 3**0.5, abs=1e-3)
        assert values["below"] == np.mean(np.array(ratios) < 0)
    assert found["ches"]["of"] == MODEL
    assert set(found["correlations"]) == {"ches", "ches_normalised", "edit_distance"}
    assert found["gradient_cosine"] is None
    assert {"reference", "model"} <= found["profile"].keys()
    overall = sum(bucket["log_ratio_chosen"] * bucket["pairs"] for bucket in found["buckets"]) / 3
    assert found["changes"]["chosen"]["per_pair"] == pytest.approx(overall)


def test_a_model_against_itself_has_not_changed(pair_file: Path) -> None:
    found = smaug_eval.diagnose(MODEL, pair_file, reference=MODEL, gradient_pairs=0, limit=2)
    assert found["pairs"]["scored"] == 2
    assert found["changes"]["chosen"]["per_pair"] == found["changes"]["rejected"]["after"]["sum"] == 0.0
    assert found["warning"] is None
    assert found["correlations"]["edit_distance"] is None  # nothing moved, so nothing moved together


def test_a_built_folder_gives_its_held_out_pairs(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "eval.jsonl").write_text("")
    assert smaug_eval.diagnose(MODEL, tmp_path, gradient_pairs=0)["pairs"]["scored"] == 3
    (tmp_path / "eval.jsonl").write_text(json.dumps(ROWS[1]) + "\n")
    found = smaug_eval.diagnose(MODEL, tmp_path, gradient_pairs=0)
    assert (found["pairs"]["path"], found["pairs"]["scored"]) == (str(tmp_path / "eval.jsonl"), 1)


def test_the_command_prints_json_and_a_table(pair_file: Path, trained: Path, tmp_path: Path) -> None:
    arguments = ["diagnose", str(trained), str(pair_file), "--reference", MODEL, "--quiet", "--gradient-pairs", "1"]
    printed = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path / "found.json")])
    assert printed.exit_code == 0, printed.output
    found = json.loads(printed.stdout)
    assert found == json.loads((tmp_path / "found.json").read_text())
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "150"})
    assert shown.exit_code == 0, shown.output
    for text in (
        "3 of 4 rows",
        "left out: 1 chosen equals rejected",
        f"{found['changes']['chosen']['per_pair']:.3f} ± {found['changes']['chosen']['se']:.3f}",
        f"chosen ranked first: {found['log_probs']['ranked_first']:.1%}",
        "rank correlation with the change of chosen",
        "highest CHES",
    ):
        assert text in " ".join(shown.stdout.split()), text  # lines are wrapped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "{pairs}"), "no such folder"),
        ((MODEL, "missing.jsonl"), "missing.jsonl does not exist"),
        ((MODEL, "."), "neither eval.jsonl nor train.jsonl"),
        ((MODEL, "notes.txt"), "neither a pair file nor a Hub id"),
        ((MODEL, "{pairs}", "--split", "train"), "split has no meaning for the file"),
        ((MODEL, "same.jsonl"), "no pair is left to score (1 identical after truncation)"),
        ((MODEL, "{pairs}", "--dtype", "int3"), "dtype 'int3'"),
        ((MODEL, "broken.jsonl"), "broken.jsonl, line 1"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, pair_file: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"prompt": "x"}\n')
    long = {"prompt": "x", "chosen": " word" * 2000 + " 1", "rejected": " word" * 2000 + " 2"}
    (tmp_path / "same.jsonl").write_text(json.dumps(long) + "\n")
    filled = [each.format(pairs=pair_file) for each in arguments]
    result = CliRunner()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        outcome = result.invoke(app, ["diagnose", "--quiet", *filled])
    assert isinstance(outcome.exception, SmaugError), outcome
    assert message in str(outcome.exception)


def test_models_with_other_tokens_cannot_be_compared(pair_file: Path, trained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["+"], vocabulary["-"] = vocabulary["-"], vocabulary["+"]
    vocabulary["7"], vocabulary["8"] = vocabulary["8"], vocabulary["7"]
    vocabulary["Ġ7"], vocabulary["Ġ8"] = vocabulary["Ġ8"], vocabulary["Ġ7"]
    (other / "tokenizer.json").chmod(0o644)
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SmaugError, match="split the pairs into different tokens"):
        smaug_eval.diagnose(other, pair_file, reference=MODEL)


def test_an_error_is_one_message(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "smaug_eval", "diagnose", "nowhere", "missing.jsonl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "missing.jsonl" in result.stderr
