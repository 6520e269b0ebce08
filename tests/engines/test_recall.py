"""Evaluations that are killed and started again: nothing is computed twice, and nothing changes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.pool import EnginePool, LoadedEngine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.evaluate import evaluate_column
from smaug_eval.leaderboard.registry import find_suite

KILLS = 8
SUITE = find_suite("demo")


def engine(journal: Path | None, *, noise: float = 0.0, **settings: Any) -> TorchEngine:
    folder = embedded_path("demo-model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if noise:
        next(model.parameters()).data.view(-1)[0] += noise
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shared = {"pretrained": model, "tokenizer": tokenizer, "device": "cpu", "batch_size": 4, "row_tokens": 64}
    return TorchEngine(**shared | settings, journal=journal)


def asked() -> list[Instance]:
    pairs = [(f"Question: What is {a} plus {b}?\nAnswer:", f" {c}") for a in range(6) for b in "23" for c in range(4)]
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


def prompts() -> list[Instance]:
    settings = {"until": ["\n"], "do_sample": False, "max_gen_toks": 8}
    texts = [f"Question: Anna has {n} plums and eats 1. How many are left?\nAnswer:" for n in range(2, 14)]
    return [Instance("generate_until", {}, (text, settings), index) for index, text in enumerate(texts)]


def forwards(some: TorchEngine) -> list[int]:
    """Grows with every forward pass of a model."""
    seen: list[int] = []
    some.model.get_input_embeddings().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numel()))
    return seen


def both(some: TorchEngine) -> tuple[list[tuple[float, bool]], list[str]]:
    answers = some.loglikelihood(asked(), disable_tqdm=True), some.generate_until(prompts(), disable_tqdm=True)
    some.close_journal()
    return answers


class Stopped(Exception):
    """An interruption."""


def stopped_after(some: TorchEngine, passes: int) -> None:
    """Ask all, and stop at a forward pass."""

    def stop(module: Any, inputs: tuple[Any, ...]) -> None:
        nonlocal passes
        passes -= 1
        if passes < 0:
            raise Stopped

    hook = some.model.get_input_embeddings().register_forward_pre_hook(stop)
    try:
        both(some)
    except Stopped:
        pass
    finally:
        hook.remove()
        some.close_journal()


def test_what_is_in_the_journal_is_not_computed_again(tmp_path: Path) -> None:
    first, second = engine(tmp_path), engine(tmp_path)
    expected = both(first)
    seen = forwards(second)
    assert both(second) == expected
    assert not seen
    assert second.work is not None
    assert (second.work.recalled, second.work.requested, second.work.saved) == (len(asked()), 0, 0.0)


@pytest.mark.parametrize(
    "other", [{"noise": 1e-6}, {"max_length": 100}, {"add_bos_token": True}], ids=["weights", "length", "bos"]
)
def test_another_model_or_setting_sees_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    both(engine(tmp_path))
    changed, alone = engine(tmp_path, **other), engine(None, **other)
    seen, expected = forwards(changed), forwards(alone)
    assert both(changed) == both(alone)
    assert seen == expected
    assert len(seen) > 10


def test_interrupted_anywhere_the_numbers_are_the_same_to_the_bit(tmp_path: Path) -> None:
    expected = both(engine(None))
    whole = engine(None)
    seen = forwards(whole)
    both(whole)
    # The first passes find out how the model is best asked.
    for passes in range(8, len(seen), 5):
        journal = tmp_path / str(passes)
        stopped_after(engine(journal), passes)
        again = engine(journal)
        count = forwards(again)
        assert both(again) == expected
        assert len(count) < len(seen)


def test_identical_requests_of_another_task_are_recalled(tmp_path: Path) -> None:
    first = engine(tmp_path)
    first.loglikelihood(asked()[:10], disable_tqdm=True)
    first.loglikelihood(asked(), disable_tqdm=True)
    first.close_journal()
    assert first.work is not None
    assert first.work.recalled == 10


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedEngine]:
    pool = EnginePool()
    settings = {"dtype": "float32", "batch_size": 8, "device": "cpu", "engine_args": {"row_tokens": 256}}
    yield pool.get(EngineSpec("torch", embedded_path("demo-model"), **settings))  # type: ignore[arg-type]
    pool.close()


def evaluate(loaded: LoadedEngine, journal: Path, out: Path) -> None:
    loaded.watch.lm.keep_journal(journal)
    for column in columns():
        folder = out / column.title
        folder.mkdir(parents=True, exist_ok=True)
        evaluate_column(loaded, SUITE, column, limit=20, data_root=None, out_dir=folder, report=lambda *_: None)


def columns() -> list[Column]:
    return list(SUITE.select(["facts", "arithmetic"]))


def in_a_child(loaded: LoadedEngine, journal: Path, out: Path) -> int:
    """The process id of a copy of this process that evaluates."""
    child = os.fork()
    if not child:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        status = 1
        try:
            evaluate(loaded, journal, out)
            status = 0
        finally:
            os._exit(status)
    return child


def files(out: Path) -> dict[str, Any]:
    """Results without what tells of time, and samples as they are."""
    found: dict[str, Any] = {}
    for file in sorted(out.rglob("*.json*")):
        name = f"{file.parent.name}/{file.name.partition('_20')[0]}"
        if file.suffix == ".jsonl":
            found[name] = file.read_bytes()
        else:
            result = json.loads(file.read_text())
            for key in ("date", "start_time", "end_time", "total_evaluation_time_seconds"):
                result.pop(key, None)
            found[name] = json.dumps(result)
    return found


@pytest.mark.slow
def test_the_record_of_an_evaluation_says_what_was_saved(loaded: LoadedEngine, tmp_path: Path) -> None:
    facts, arithmetic = columns()

    def summary(column: Column, folder: str) -> dict[str, Any]:
        loaded.watch.lm.keep_journal(tmp_path / "journal")
        out = tmp_path / folder
        out.mkdir()
        return evaluate_column(loaded, SUITE, column, limit=5, data_root=None, out_dir=out, report=lambda *_: None)

    first, again, generated = summary(facts, "one"), summary(facts, "two"), summary(arithmetic, "three")
    assert first["tokens"]["recalled"] == 0
    assert first["tokens"]["saved"] == round(1 - first["tokens"]["computed"] / first["tokens"]["requested"], 4) > 0.5
    assert again["tokens"]["recalled"] == again["requests"] == first["requests"]
    assert generated["tokens"] == {}


@pytest.mark.slow
def test_killed_8_times_an_evaluation_ends_as_if_it_had_not_been(loaded: LoadedEngine, tmp_path: Path) -> None:
    rng = random.Random(0)
    started = time.monotonic()
    assert os.waitpid(in_a_child(loaded, tmp_path / "calm", tmp_path / "expected"), 0)[1] == 0
    seconds = time.monotonic() - started
    print(f"undisturbed: {seconds:.1f} s")
    kills, journal = 0, tmp_path / "journal"
    while kills < KILLS:
        child = in_a_child(loaded, journal, tmp_path / "found")
        time.sleep(rng.uniform(0, seconds / 2))
        os.kill(child, signal.SIGKILL)
        # Whoever is done before the end is near is started again, on nothing: the journal begins anew.
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            kills += 1
    assert os.waitpid(in_a_child(loaded, journal, tmp_path / "found"), 0)[1] == 0
    expected, found = files(tmp_path / "expected"), files(tmp_path / "found")
    assert expected.keys() == found.keys()
    assert len(expected) == 2 * len(columns())
    assert found == expected
    (file,) = journal.glob("*.jsonl")
    keys = Counter(key for line in file.read_text().splitlines() for key in json.loads(line).get("answers", {}))
    assert set(keys.values()) == {1}  # nothing that was finished has been computed again
