"""What models are called: by the files of every version, and shortly on a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.results.asked import model_arguments
from smaug_eval.results.merging import merge_models, with_distinct_labels
from smaug_eval.results.names import model_of, plain, short_names
from smaug_eval.results.sources import read_source, read_sources
from tests.results.others import accuracy, newest, older, write

HERE = Path("folder/file.json")


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"model_name": "org/m", "config": {"model_args": "pretrained=org/other"}}, "org/m"),
        ({"config": {"model_args": "pretrained=org/m,dtype=float16,trust_remote_code=True"}}, "org/m"),
        ({"config": {"model_args": "dtype=auto,model=org/m"}}, "org/m"),
        ({"config": {"model": "openai-chat", "model_args": "engine=text-davinci-003"}}, "text-davinci-003"),
        ({"config": {"model_args": {"pretrained": "org/m", "revision": "main"}}}, "org/m"),
        ({"config": {"model_args": "org/m"}}, "org/m"),
        ({"config_general": {"model_name": "org/m"}, "config": {}}, "org/m"),
        ({"config_general": {"model_config": {"model_name": "org/m"}}}, "org/m"),
        ({"config": {"model_args": "pretrained=org/base,peft=org/adapter"}}, "org/adapter"),
        ({"config": {"model_args": "pretrained=/data/models/org--m/"}}, "org--m"),
        ({"config": {"model_args": "pretrained=./runs/dpo/checkpoint-500"}}, "dpo/checkpoint-500"),
        ({"config": {"model_args": "pretrained=/out/sft/final"}}, "sft/final"),
        ({"config": {"model_args": "base_url=http://x/v1,model=m,custom={'a': 1, 'b': [2, 3]}"}}, "m"),
        ({"model_name": "", "config": {"model_args": "base_url=http://localhost/v1"}}, "folder"),
        ({"model_name": None, "config": {"model_args": None}}, "folder"),
        ({"config": {"model_args": "pretrained=org/m,revision=step3000"}}, "org/m, revision step3000"),
        ({"config": {"model_args": "pretrained=org/m,load_in_4bit=True"}}, "org/m, load in 4bit"),
        ({"config": {"model_args": {"pretrained": "org/m", "gguf_file": "m-Q4.gguf"}}}, "org/m/m-Q4.gguf"),
    ],
)
def test_the_model_of_a_file(document: dict[str, Any], name: str, tmp_path: Path) -> None:
    assert str(model_of(document, tmp_path / HERE)) == name


def test_files_of_one_model_are_joined_and_two_models_are_two(tmp_path: Path) -> None:
    """Four files of two models under folders of one name, as one task a file is written."""
    for model in ("org/one", "org/two"):
        for task in ("piqa", "boolq"):
            path = tmp_path / model / "openllm" / f"{task}.json"
            write(path, older({task: accuracy(0.5, metric="acc")}, f"pretrained={model},dtype=float16"))
    joined = {"org/one": {"boolq", "piqa"}, "org/two": {"boolq", "piqa"}}
    assert {model: set(tasks) for model, tasks in read_source(tmp_path).results.items()} == joined
    files = sorted(tmp_path.rglob("*.json"))
    merged = merge_models(with_distinct_labels(read_sources(files)))
    assert {model: set(tasks) for model, tasks in merged.items()} == joined


def test_an_evaluation_of_ours_bears_its_checkpoint_s_name(run: Any, tmp_path: Path) -> None:
    run.manifest(models={"base": {"source": "org/model", "path": "/models/x"}})
    run.evaluation("base", {"open_llm_v1_gsm8k": 0.5})
    assert list(read_source(run.path).results) == ["org/model"]
    other = write(tmp_path / "theirs" / "results.json", newest({"piqa": accuracy(0.5)}, model="org/model"))
    merged = merge_models(with_distinct_labels(read_sources([run.path, other])))
    assert {model: set(tasks) for model, tasks in merged.items()} == {"org/model": {"open_llm_v1_gsm8k", "piqa"}}


def test_a_run_that_trained_keeps_its_own_names(run: Any) -> None:
    run.manifest(models={"base": {"source": "org/model"}, "dpop": {"source": "x"}})
    run.evaluation("base", {"open_llm_v1_gsm8k": 0.5}).evaluation("dpop", {"open_llm_v1_gsm8k": 0.5})
    assert list(read_source(run.path).results) == ["base", "dpop"]


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-70B"], ["Meta-Llama-3-8B", "Meta-Llama-3-70B"]),
        (["a/b", "a/c"], ["a/b", "a/c"]),  # short enough
        (["organisation/model, 0 shots", "organisation/model, 5 shots"], ["0 shots", "5 shots"]),
        (["organisation/one-long-model", "other/m"], ["organisation/one-long-model", "other/m"]),
        (["some-organisation/alone-here"], ["some-organisation/alone-here"]),
    ],
)  # fmt: skip
def test_what_long_names_share_is_cut(names: list[str], shown: list[str]) -> None:
    assert list(short_names(names).values()) == shown


@given(st.lists(st.text(max_size=40), max_size=6))
def test_short_names_stay_different_and_never_empty(names: list[str]) -> None:
    shown = short_names(names)
    assert list(shown) == list(dict.fromkeys(names))
    assert len(set(shown.values())) == len(shown)
    assert all(short or not name for name, short in shown.items())
    assert all(name.endswith(short) for name, short in shown.items())


@given(st.text(max_size=60))
def test_any_text_is_a_name(name: str) -> None:
    assert isinstance(plain(name), str)


VALUE = st.one_of(
    st.from_regex(r"[A-Za-z0-9_./:-]{1,12}", fullmatch=True),
    st.from_regex(r"\[[a-z]{1,3}, ?[0-9]{1,3}\]", fullmatch=True),
    st.from_regex(r"\{\"[a-z]{1,3}\": \"[a-z,]{0,5}\"\}", fullmatch=True),
)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,10}", fullmatch=True), VALUE, min_size=1, max_size=6))
def test_arguments_as_text_are_read_back(arguments: dict[str, str]) -> None:
    text = ",".join(f"{key}={value}" for key, value in arguments.items())
    assert model_arguments({"model_args": text}) == arguments


@given(
    st.one_of(st.text(max_size=80), st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.none(), st.integers())
)
def test_any_arguments_give_a_name(arguments: object) -> None:
    for document in ({"config": {"model_args": arguments}}, {"config": arguments}, {"config_general": arguments}):
        assert str(model_of(json.loads(json.dumps(document)), HERE))
