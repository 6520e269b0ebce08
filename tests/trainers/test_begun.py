"""A training resumes with what it was started with: the same date in its prompts, the same ids."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.common.files import read_json, write_json
from smaug_eval.trainers.begun import BEGUN_FILE, check_same_pairs, keep_date, kept_date
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.earlier import difference_to_earlier
from tests.trainers.conftest import make_sums

Run = Callable[..., TrainingResult]
FIRST, LATER = datetime.date(2026, 11, 30), datetime.date(2026, 12, 1)
DATED = (
    "{{ strftime_now('%d %b %Y') }}\n{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def dated(model_path: Path, tmp_path: Path) -> dict[str, Any]:
    """A model whose template writes today's date, and pairs of messages: arguments of ``run``."""
    folder = shutil.copytree(model_path, tmp_path / "dated")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = DATED
    tokenizer.save_pretrained(folder)
    rows = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in make_sums(8)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"model_path": folder, "train_file": path, "eval_file": None, "config": {"steps": 4, "save_every": 1}}


def after_steps(count: int) -> tuple[Callable[[], bool], Callable[[int, int, dict[str, Any]], None]]:
    """What stops a training once so many steps are done."""
    done: list[int] = []
    return (lambda: len(done) >= count), (lambda step, steps, row: done.append(step) if row else None)


def stopped(run: Run, arguments: dict[str, Any], name: str, date: datetime.date) -> None:
    should_stop, on_progress = after_steps(2)
    with pytest.raises(Interrupted, match="stopped after step"):
        run(name, date=date, should_stop=should_stop, on_progress=on_progress, **arguments)


def weights(folder: Path) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in load_file(folder / "checkpoint" / "model.safetensors").items()}


def test_a_resume_keeps_the_date(run: Run, dated: dict[str, Any], tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    whole = run("whole", date=FIRST, reference_dir=reference, **dated)
    assert whole.encoding["date"] == "2026-11-30"
    stopped(run, {**dated, "reference_dir": reference}, "parts", FIRST)
    parts = run("parts", date=LATER, reference_dir=reference, **dated)
    assert parts.encoding["date"] == "2026-11-30"
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert len(list(reference.glob("reference-*.safetensors"))) == 1  # its key has not changed with the day
    assert not (tmp_path / "parts" / "resume").exists()
    # A new one has the new date, and knows its prompts for others.
    assert run("new", date=LATER, reference_dir=reference, **dated).encoding["date"] == "2026-12-01"
    assert len(list(reference.glob("reference-*.safetensors"))) == 2


def test_a_row_that_a_template_refuses_is_named_with_its_file(run: Run, dated: dict[str, Any], tmp_path: Path) -> None:
    lines = dated["train_file"].read_text().splitlines()
    row = json.loads(lines[1])
    lines[1] = json.dumps({**row, "tools": [{"name": "f"}]})
    dated["train_file"].write_text("\n".join(lines))
    with pytest.raises(SmaugError, match=r"chats.jsonl, row 2: the model's chat template does not read tools"):
        run("refused", **dated)


def test_a_template_without_a_date_has_none(run: Run) -> None:
    assert run(config={"steps": 1, "eval_every": None}, date=FIRST, eval_file=None).encoding["date"] is None


def test_other_ids_than_those_it_was_begun_with_are_refused(run: Run, dated: dict[str, Any], tmp_path: Path) -> None:
    stopped(run, dated, "parts", FIRST)
    resume = tmp_path / "parts" / "resume"
    note = read_json(resume / BEGUN_FILE)
    assert note["date"] == "2026-11-30"
    write_json(resume / BEGUN_FILE, {**note, "pairs": {**note["pairs"], "train": "other"}})
    with pytest.raises(SmaugError, match="other ids than those that the training was begun with") as caught:
        run("parts", date=FIRST, **dated)
    assert str(resume) in str(caught.value.fix)
    # What an earlier version began has no such note: the scores of the reference tell.
    write_json(resume / BEGUN_FILE, {})
    (resume / BEGUN_FILE).unlink()
    with pytest.raises(SmaugError, match="other ids"):
        run("parts", date=LATER, **dated)
    (resume / BEGUN_FILE).unlink()
    assert run("parts", date=FIRST, **dated).steps == 4


def test_the_note_of_a_training(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="holds no date"):
        kept_date(tmp_path)
    keep_date(tmp_path, FIRST)
    keep_date(tmp_path, LATER)
    assert kept_date(tmp_path) == FIRST
    check_same_pairs(tmp_path, {"train": "a"}, resumes=False, scored=False, writes=False)
    assert "pairs" not in read_json(tmp_path / BEGUN_FILE)
    check_same_pairs(tmp_path, {"train": "a"}, resumes=False, scored=False, writes=True)
    check_same_pairs(tmp_path, {"train": "a"}, resumes=True, scored=False, writes=True)
    check_same_pairs(tmp_path, {"train": "b"}, resumes=False, scored=False, writes=True)  # nothing is done yet
    assert read_json(tmp_path / BEGUN_FILE) == {"date": "2026-11-30", "pairs": {"train": "b"}}
    with pytest.raises(SmaugError, match="other ids"):
        check_same_pairs(tmp_path, {"train": "a"}, resumes=True, scored=True, writes=True)


@pytest.mark.parametrize(
    ("row", "summary", "expected"),
    [
        ({"prompt": "Answer:", "chosen": " 4", "rejected": " 5"}, {"truncated": 0}, None),
        ({"prompt": "Answer: ", "chosen": "4", "rejected": "5"}, {"truncated": 0}, None),
        ({"prompt": "x = foo(", "chosen": ")", "rejected": " 5"}, {"truncated": 0}, "no space lies between"),
        ({"prompt": "Answer:", "chosen": " 4", "rejected": " 5"}, {"truncated": 3}, "3 pairs were cut"),
        ({"prompt": [], "chosen": [], "rejected": []}, {"truncated": 0}, "an end-of-text token behind the template's"),
        ({"prompt": "x = foo(", "chosen": ")", "rejected": " 5"}, {"truncated": 3, "encoding": {"rule": 2}}, None),
        ({"prompt": "x = foo(", "chosen": ")", "rejected": " 5"}, {}, None),
    ],
)
def test_which_finished_trainings_may_have_seen_other_ids(
    tmp_path: Path, row: dict[str, Any], summary: dict[str, Any], expected: str | None
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"prompt": "Q:", "chosen": " a", "rejected": " b"}) + "\n" + json.dumps(row) + "\n")
    found = difference_to_earlier(summary, path)
    assert found is None if expected is None else expected in str(found)
    assert difference_to_earlier(summary, tmp_path / "absent.jsonl") is None
