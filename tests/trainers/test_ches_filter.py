"""Filtering of pairs by CHES: the scores by a plain forward pass, what is kept, counted, cached and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.settings import deciding_settings
from smaug_eval.trainers import ches_filter
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.ches_filter import Selected, lowest
from smaug_eval.trainers.pairs.config import ChesKeys, RowPairs
from smaug_eval.trainers.probes import Ches

Run = Callable[..., TrainingResult]


def by_hand(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, row: dict[str, str]) -> Ches:
    """Sums of the last hidden states that predict the tokens of each completion, one text at a time."""
    sums = []
    prompt = len(tokenizer(row["prompt"])["input_ids"])
    for side in ("chosen", "rejected"):
        ids = torch.tensor([[*tokenizer(row["prompt"] + row[side])["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states[-1][0, prompt - 1 : -1].double()
        sums.append((states.sum(0), len(states)))
    (one, count), (other, other_count) = sums
    return Ches(float(one @ other - one @ one), float((one @ other) / (count * other_count) - (one @ one) / count**2))


@pytest.mark.parametrize("normalised", [True, False])
def test_the_lowest_scores_are_kept_in_their_order(
    run: Run,
    tmp_path: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    normalised: bool,
) -> None:
    notes: list[str] = []
    keys = {"keep": 0.25, "normalised": normalised}
    result = run("few", ches=keys, config={"steps": 1, "batch_size": 5}, on_note=notes.append)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    scores = [by_hand(model, tokenizer, row) for row in rows]
    values = sorted(each.normalised if normalised else each.score for each in scores)
    assert (result.pairs, result.dropped) == (5, {"high_ches": 15})
    (note,) = [note for note in notes if "CHES" in note and "kept" in note]
    form = "length-normalised CHES" if normalised else "CHES"
    assert note.startswith(f"5 of 20 training pairs are kept: those with the lowest {form} under the model")
    assert float(note.rpartition(" ")[2]) == pytest.approx(values[4], rel=1e-3)
    assert note in result.encoding["notes"]  # type: ignore[index]
    # One step over all five: the log's mean log-probability is theirs.
    numbers = sorted(range(20), key=lambda n: scores[n].normalised if normalised else scores[n].score)[:5]
    expected = 0.0
    for row in (rows[number] for number in numbers):
        prompt = len(tokenizer(row["prompt"])["input_ids"])
        ids = torch.tensor([[*tokenizer(row["prompt"] + row["chosen"])["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            log_probs = model(ids).logits[0].log_softmax(-1)
        expected += sum(float(log_probs[place - 1, ids[0, place]]) for place in range(prompt, ids.shape[1]))
    log = [json.loads(line) for line in (tmp_path / "few" / "log.jsonl").read_text().splitlines()]
    (first,) = [row for row in log if row["split"] == "train"]
    assert first["logps/chosen"] == pytest.approx(expected / 5, abs=1e-3)


def test_ties_and_small_shares() -> None:
    scores = [Ches(1.0, 3.0), Ches(1.0, 2.0), Ches(0.0, 2.0), Ches(5.0, 1.0)]
    assert lowest(scores, ChesKeys(keep=0.5)) == [1, 3]
    assert lowest(scores, ChesKeys(keep=0.5, normalised=False)) == [0, 2]
    assert lowest(scores, ChesKeys(keep=0.01)) == [3]
    assert list(Selected("abcd", [2, 0])) == ["c", "a"]
    assert Selected("abcd", [2, 0])[:1] == ["c"]


def test_scores_are_computed_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that shares the folder of references reads the scores; one that is stopped keeps what it has."""
    computed: list[int] = []
    original = ches_filter.ches

    def counted(*arguments: Any, after_batch: Any, **keywords: Any) -> Any:
        def after(new: dict[int, Ches]) -> None:
            computed.extend(new)
            after_batch(new)

        return original(*arguments, after_batch=after, **keywords)

    monkeypatch.setattr(ches_filter, "ches", counted)
    shared = tmp_path / "references"
    shared.mkdir()
    asked = iter([False, True])
    given: dict[str, Any] = {"ches": {"keep": 0.5}, "config": {"steps": 1}, "reference_dir": shared}
    with pytest.raises(SmaugError, match="stopped while the pairs were scored by CHES"):
        run("one", should_stop=lambda: next(asked), **given)
    before = len(computed)
    assert 0 < before < 20
    first = run("one", **given)
    assert sorted(computed) == list(range(20))
    second = run("two", **{**given, "config": {"steps": 1, "loss": "dpo"}})
    assert len(computed) == 20
    assert first.pairs == second.pairs == 10


def test_the_filter_and_another_reference(run: Run, tmp_path: Path, model_path: Path) -> None:
    """The reference, scored for all pairs, is read for those kept: the same model gives the first loss of DPO."""
    from smaug_eval.trainers.spec import ReferenceModel

    other = ReferenceModel(name="twin", path=model_path, sha256="twin")
    run("both", ches={"keep": 0.5}, reference=other, config={"loss": "dpo", "steps": 1})
    log = [json.loads(line) for line in (tmp_path / "both" / "log.jsonl").read_text().splitlines()]
    (first,) = [row for row in log if row["split"] == "train"]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)


def test_what_cannot_be_filtered(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="ches compares the two completions of a pair"):
        run(ches={"keep": 0.5}, config={"loss": "kto"}, model_path=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="less than 1"):
        ChesKeys(keep=1.0)


def test_a_set_without_a_filter_decides_nothing_more() -> None:
    plain = RowPairs(source="rows", path="a.jsonl")
    assert "ches" not in deciding_settings(plain, ())
    assert plain.model_copy(update={"ches": ChesKeys(keep=0.1)}).ches is not None
