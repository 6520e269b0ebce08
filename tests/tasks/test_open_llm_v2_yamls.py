"""The second leaderboard's YAML files as lm-eval sees them, over a made-up mirror."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval import evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from smaug_eval.leaderboard import v2
from smaug_eval.leaderboard.chats import Chat
from smaug_eval.leaderboard.dump import dump_requests
from smaug_eval.leaderboard.scores import suite_scores
from tests.leaderboard.v2_mirror import write_mirror


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("mirror"))


@pytest.fixture(scope="module")
def manager(mirror: Path) -> TaskManager:
    return TaskManager(include_path=str(v2.SUITE.folder), include_defaults=False, metadata={"data_root": str(mirror)})


def template(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    text = "".join(f"[{each['role']}]{each['content']}" for each in messages)
    return text + "[answer]" * add_generation_prompt


def test_the_files_are_the_suite(manager: TaskManager) -> None:
    loaded = manager.load([v2.NAME])
    assert loaded["tasks"].keys() == v2.TASKS.keys()
    for name, spec in v2.TASKS.items():
        config = loaded["tasks"][name].config
        assert config.num_fewshot == spec.num_fewshot
        if spec.generation is not None:
            expected = {"until": list(spec.generation.stops), "max_gen_toks": spec.generation.max_new_tokens}
            assert config.generation_kwargs == {**expected, "do_sample": False, "temperature": 0}
    for column in v2.SUITE.columns:
        if len(column.leaves) > 1:
            assert set(loaded["group_map"][column.task]) == {leaf.name for leaf in column.leaves}


@pytest.mark.parametrize(("chat", "multiturn"), [(False, False), (True, False), (True, True)])
def test_lm_eval_asks_what_the_dump_says(
    manager: TaskManager, mirror: Path, tmp_path: Path, chat: bool, multiturn: bool
) -> None:
    out = tmp_path / "requests.jsonl"
    dump_requests(v2.SUITE, None, data_root=mirror, out=out, chat=Chat(template, multiturn) if chat else None)
    ours: dict[str, list[Any]] = {}
    for line in map(json.loads, out.read_text().splitlines()):
        ours.setdefault(line["task"], []).extend(line["requests"])
    loaded = manager.load([v2.NAME])["tasks"]
    for name, task in loaded.items():
        task.build_all_requests(
            apply_chat_template=chat,
            fewshot_as_multiturn=multiturn,
            chat_template=template if chat else None,
            tokenizer_name="made up" if chat else "",
        )
        theirs = [
            [context, then if isinstance(then, str) else {"until": then["until"]}]
            for context, then in (instance.args for instance in task.instances)
        ]
        assert ours[name.removeprefix("open_llm_v2_")] == theirs, name


class ByLength(LM):
    """The longer a continuation, the less likely, but for a single one."""

    tokenizer_name = "made up"

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return [(-1.0 - len(request.args[1]), False) for request in requests]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return ["Well, it is $\\frac{0}{7}$." for _ in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise AssertionError("no task asks for this")


def test_scores_by_hand(manager: TaskManager) -> None:
    for package in ("math_verify", "langdetect", "immutabledict", "punkt"):
        pytest.importorskip(package)
    output = evaluate(ByLength(), manager.load([v2.NAME]), bootstrap_iters=1)
    assert output is not None
    results = dict(output["results"])
    # All options have one length, so that the first is taken; the third row's answer is none of them.
    assert results["open_llm_v2_bbh_snarks"]["acc_norm,none"] == pytest.approx(1 / 3)
    # "Ann" is likelier: -5 against -7; by characters -5/3 against -7/5 it is "Bob's".
    assert results["open_llm_v2_musr_team_allocation"]["acc,none"] == 0.0
    assert results["open_llm_v2_musr_team_allocation"]["acc_norm,none"] == 1.0
    assert results["open_llm_v2_mmlu_pro"]["acc,none"] == pytest.approx(1 / 3)
    # Rows of level 5 are 0/7 and 2/7; no text says "Final Answer".
    algebra = results["open_llm_v2_math_algebra_hard"]
    assert (algebra["exact_match,none"], algebra["exact_match_original,none"]) == (0.5, 0.0)
    # The comma breaks both prompts and two of their three instructions; there are more than four words.
    ifeval = results["open_llm_v2_ifeval"]
    assert ifeval["prompt_level_strict_acc,none"] == 0.0
    assert ifeval["inst_level_strict_acc,none"] == pytest.approx(1 / 3)
    for sample in output["samples"]["open_llm_v2_ifeval"]:
        assert len(sample["inst_level_strict_acc"]) == len(sample["doc"]["instruction_id_list"])
    results["open_llm_v2_ifeval"] = ifeval | {"strict_acc,none": 1 / 6}
    found = {column.title: column.score.value for column in suite_scores(v2.SUITE, results).columns}
    assert found["MATH Lvl 5"] == pytest.approx(50.0)
    assert found["MuSR"] == pytest.approx(100.0)
    assert found["MMLU-Pro"] == pytest.approx(100 * (1 / 3 - 0.1) / 0.9)
