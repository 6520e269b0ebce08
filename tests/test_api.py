"""The verbs as functions."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import pandas as pd
import pytest

import smaug_eval
from smaug_eval.common.arguments import name_list, of_arguments, path_list
from smaug_eval.common.errors import SmaugError


def test_no_module_hides_a_verb() -> None:
    # Importing a submodule binds its name in the package, over a function of the same name.
    modules = {module.name for module in pkgutil.iter_modules(smaug_eval.__path__)}
    assert modules.isdisjoint(smaug_eval.__all__)
    importlib.import_module("smaug_eval.runs.pipeline")
    assert all(callable(getattr(smaug_eval, name)) for name in smaug_eval.__all__)


def test_a_report_is_done_again_where_what_it_shows_has_other_names(tmp_path: Path) -> None:
    def key_of_report(evaluation: str) -> str:
        entry = {"suite": "demo", "tasks": ["facts"], "limit": 1, "engine": "torch"}
        recipe = {"name": "named", "model": "embedded:demo-model", "evaluations": {evaluation: entry}}
        return smaug_eval.prepare(recipe, runs=tmp_path).stages[-1].key

    assert key_of_report("first") == key_of_report("first")
    assert key_of_report("first") != key_of_report("second")


JUDGED = [{"question_id": n, "model": "m", "judge": ["j", "single-v1"], "score": n, "turn": 1} for n in (6, 8)]


def test_a_single_path_is_one_path(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in JUDGED))
    for given in (file, str(file), [file], (str(file),)):
        assert smaug_eval.score_mt_bench(given)["m"]["average"] == 7
        assert smaug_eval.report(given, tmp_path / "r.md", format_="md").is_file()
        frame = smaug_eval.scores(given)
        assert frame.set_index("column")["score"].to_dict() == {"turn 1": 7, "average": 7}
        assert smaug_eval.judged_scores(given).equals(frame)
    for verb in ("scores", "judged_scores", "score_views", "score_mt_bench", "report"):
        with pytest.raises(SmaugError, match=r"nowhere\.jsonl"):
            getattr(smaug_eval, verb)("/nowhere.jsonl")


@pytest.mark.parametrize("verb", ["scores", "judged_scores", "score_views", "report"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"a": 1}], "paths: a path or a name is wanted, not a dict"),
        ({"a": 1}, "paths: a path or a list of paths is wanted, not a dict"),
        (pd.DataFrame(JUDGED), "not a DataFrame\n  fix: write it with to_json"),
        (None, "not nothing"),
        (7, "not a int"),
        ([7], "not a int"),
        ("", "not nothing"),
    ],
)
def test_objects_in_memory_are_refused_by_the_arguments_name(verb: str, given: object, words: str) -> None:
    with pytest.raises(SmaugError) as caught:
        getattr(smaug_eval, verb)(given)
    assert words in str(caught.value)


class Model:
    """What transformers' models have."""

    def save_pretrained(self, folder: str) -> None: ...


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("evaluate", (Model(),)),
        ("train", (Model(), "pairs")),
        ("answer_mt_bench", (Model(),)),
        ("run_mt_bench", (Model(),)),
        ("diagnose", (Model(), "pairs")),
        ("check_contamination", (Model(),)),
        ("reproduce", (Model(),)),
    ],
)
def test_a_model_in_memory_is_refused_with_the_way_out(verb: str, arguments: tuple[object, ...]) -> None:
    more = {"run_mt_bench": {"judge": "demo"}, "check_contamination": {"reference": "x"}, "diagnose": {}}.get(verb, {})
    if verb == "diagnose":
        arguments = (arguments[0], "embedded:demo-arithmetic")
    with pytest.raises(SmaugError, match="save_pretrained") as caught:
        getattr(smaug_eval, verb)(*arguments, **more)
    assert "model: a path or a name is wanted, not a Model" in str(caught.value)


def test_lists_of_names_take_one() -> None:
    assert name_list("gsm8k", "tasks") == ["gsm8k"]
    assert name_list(None, "tasks") == []
    assert name_list(("a", "b"), "tasks") == ["a", "b"]
    assert path_list("x.jsonl", "files") == [Path("x.jsonl")]
    with pytest.raises(SmaugError, match="tasks: a name is wanted, not a int"):
        name_list([1], "tasks")


def test_messages_speak_of_arguments(tmp_path: Path) -> None:
    two = [*JUDGED, {**JUDGED[0], "judge": ["k", "single-v1"]}]
    with pytest.raises(SmaugError, match="choose one of them with judge") as caught:
        smaug_eval.score_mt_bench(two)
    assert "--" not in str(caught.value)
    with pytest.raises(SmaugError) as caught:
        smaug_eval.judge_mt_bench(tmp_path, questions="mt_bench")
    assert "name the judge's model (model)" in str(caught.value)
    assert of_arguments("--set-judge max_tokens=5 (--judge-base-url), --set model.dtype=x") == (
        "max_tokens=5 (base_url), model.dtype=x"
    )
    assert of_arguments("torchrun --nproc_per_node 2 --output_path x") == "torchrun --nproc_per_node 2 --output_path x"
