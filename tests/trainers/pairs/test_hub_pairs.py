"""Pairs and tokenizers of the Hub, outside of runs: one commit is read, and it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.benchmarks import gsm8k
from tests.hub.contents import pushed
from tests.hub.fixtures import HubHere
from tests.hub.repositories import Content

NAME = "org/pairs"


def pairs(mark: str, count: int) -> dict[str, Content]:
    rows = [{"prompt": f"{mark} {n}?", "chosen": f"yes {mark}", "rejected": "no"} for n in range(count)]
    return pushed({"default": {"train": rows}})


@pytest.fixture
def commits(hub_here: HubHere) -> list[str]:
    repository = hub_here.hub.add_dataset(NAME, pairs("old", 8))
    repository.tag("v1")
    repository.commit(pairs("new", 12), branch="next")
    return [repository.branches["main"], repository.branches["next"]]


def test_a_built_set_is_of_the_commit_that_was_asked_for(hub_here: HubHere, commits: list[str], tmp_path: Path) -> None:
    """Online both are read; then, offline, the older one: it must not become what was read last."""

    def build(revision: str | None, folder: str) -> dict[str, Any]:
        hub_here.new_process()
        stats = smaug_eval.build_pairs(NAME, tmp_path / folder, holdout=2, revision=revision)
        assert json.loads((tmp_path / folder / "stats.json").read_text()) == stats
        return stats

    first, second = build(commits[0], "a"), build("next", "b")
    assert [(stats["rows"], stats["revision"]) for stats in (first, second)] == [(8, commits[0]), (12, commits[1])]
    hub_here.offline()
    again = build(commits[0], "c")
    assert (again["train_sha256"], again["rows"]) == (first["train_sha256"], 8)
    for revision in ("deadbeef" * 5, "v1"):
        with pytest.raises(SmaugError, match="not in the local Hub cache"):
            build(revision, "d")
    assert not (tmp_path / "d").exists()


def test_figures_and_searches_name_the_commit(hub_here: HubHere, commits: list[str]) -> None:
    rows = [{"question": f"How much is {n} and {n}?", "answer": f"#### {2 * n}"} for n in range(6)]
    hub_here.hub.add_dataset("openai/gsm8k", pushed({"main": {"train": rows, "test": rows[:3]}}), sha=gsm8k.REVISION)
    stats = smaug_eval.pair_stats(NAME, revision="v1")
    assert (stats["pairs"], stats["revision"]) == (8, commits[0])
    found = smaug_eval.check_pair_overlap(NAME, suite="open_llm_v1", tasks=["gsm8k"])
    assert found["pairs"] == {"path": f"{NAME} (default, train)", "revision": commits[0], "rows": 8, "left_out": 0}
    assert found["data_revisions"] == {"openai/gsm8k": gsm8k.REVISION}
    hub_here.hub.commit("openai/gsm8k", pushed({"main": {"train": rows, "test": rows[:2]}}))
    (task,) = smaug_eval.check_pair_overlap(NAME, suite="lm_eval_0413", tasks=["gsm8k"])["tasks"]
    assert task["documents"] == 2


def test_a_tokenizer_of_the_hub_is_that_of_the_commit_of_main(hub_here: HubHere, commits: list[str]) -> None:
    files = {
        name: (embedded_path("demo-model") / name).read_bytes()
        for name in ("tokenizer.json", "tokenizer_config.json", "config.json")
    }
    hub_here.hub.add_model("org/model", files)
    tokens = smaug_eval.pair_stats(NAME, tokenizer="org/model")["tokens"]
    assert tokens == smaug_eval.pair_stats(NAME, tokenizer="embedded:demo-model")["tokens"]
    hub_here.offline()
    assert smaug_eval.pair_stats(NAME, tokenizer="org/model")["tokens"] == tokens
    with pytest.raises(SmaugError, match=r"model 'org/other': .*HF_HUB_OFFLINE is set"):
        smaug_eval.pair_stats(NAME, tokenizer="org/other")
