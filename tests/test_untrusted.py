"""What comes from elsewhere stays where it belongs, runs nothing, and sees no key."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import save_file
from safetensors.torch import load_file

import smaug_eval
from smaug_eval import api
from smaug_eval.common import redaction
from smaug_eval.common.console import Reporter, captured_output
from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, write_json
from smaug_eval.common.hub import mirror_file
from smaug_eval.common.names import is_plain_name, path_within
from smaug_eval.common.safe_yaml import parse_yaml
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.journal import Journal
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.archive import read_archive
from smaug_eval.leaderboard.rescore import document_metrics, leaderboard_task
from smaug_eval.models.checkpoint import locate
from smaug_eval.models.remote_code import refuse_smuggled_code
from smaug_eval.models.to_safetensors import convert
from smaug_eval.mt_bench.demo_server import demo_judge
from smaug_eval.mt_bench.files.layout import judgments_file
from smaug_eval.reports.samples.documents import task_samples
from smaug_eval.reports.samples.outcomes import task_rows
from smaug_eval.results.sources import read_source
from smaug_eval.runs.directory import RunDirectory
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe
from smaug_eval.trainers.pairs.read import pairs_of_file
from smaug_eval.trainers.pairs.sources import Location

HOSTILE_NAMES = ("../x", "/etc/x", "a\x00b", "..\\x", "..", ".", "", "a/../../b", "a" * 300, "C:x", "a\nb", "~/x\x7f")
KEYS = {
    "OPENAI_API_KEY": "sk-planted-openai-key-0123456789",
    "HF_TOKEN": "hf_plantedHubToken0123456789",
    "WANDB_API_KEY": "planted-wandb-0123456789abcdef",
    "MY_JUDGE": "planted judge pass+word/123",
}


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that one test makes known are unknown to the next."""
    monkeypatch.setattr(redaction, "_kept", set())


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the environment; all but the judge's, whose variable has a name like any other, are found by name."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return list(KEYS.values())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(3, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def message(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(SmaugError) as caught:
        call(*arguments, **options)
    return str(caught.value)


# Names


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "ｎame", "na\u0301me", "nam\u0435", "con", "NUL.txt", "-x", ".x"])
@pytest.mark.parametrize("key", ["name", "pairs", "trainings", "evaluations", "mt_bench"])
def test_no_name_of_a_recipe_becomes_a_path(name: str, key: str) -> None:
    entries = {
        "pairs": {"source": "rows", "path": "p.jsonl"},
        "trainings": {"loss": "dpo"},
        "evaluations": {},
        "mt_bench": {},
    }
    raw: dict[str, Any] = {"name": "run", "model": "org/base", "pairs": {"p": entries["pairs"]}}
    raw[key] = name if key == "name" else {name: entries[key]}
    assert "becomes a folder" in message(parse_recipe, raw)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("part", ["hub_id", "config", "split"])
def test_no_name_leads_out_of_a_mirror(tmp_path: Path, name: str, part: str) -> None:
    (tmp_path / "outside.parquet").write_bytes(b"")
    names = {"hub_id": "org/set", "config": "default", "split": "train"} | {part: name}
    assert "is not a name that stays in" in message(mirror_file, tmp_path / "mirror", **names)


def test_names_of_a_mirror_may_be_those_of_the_hub(tmp_path: Path) -> None:
    assert (
        path_within(tmp_path, "allenai/ai2_arc", "ARC-Challenge", what="x")
        == tmp_path / "allenai/ai2_arc/ARC-Challenge"
    )
    for name in ("20220301.en", "zh-CN", "train.parquet", "Größe 2", "...x"):
        assert path_within(tmp_path, name, what="x").parent == tmp_path


@pytest.mark.parametrize("judge", ["../../x", "/etc/passwd", "a/b", "..", "x" * 4000, "\x00", "ｇpt"])
def test_a_judge_s_name_stays_in_its_folder(tmp_path: Path, judge: str) -> None:
    file = judgments_file(tmp_path, judge, pairs=False)
    assert file.parent == tmp_path
    assert len(file.name) < 128
    file.write_text("")


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "x" * 300, "nul"])
def test_a_model_id_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    assert not is_plain_name(name)
    assert "--model-id" in message(
        api.answer_mt_bench, "embedded:demo-model", out=tmp_path, questions="demo", model_id=name
    )


@pytest.mark.parametrize("task", ["../../outside", "/etc/hostname", "..\\x", "a\x00b"])
def test_a_task_s_name_in_a_result_file_opens_nothing(tmp_path: Path, task: str) -> None:
    stamp = "2026-11-22T13-43-28.721867"
    (tmp_path / f"outside_{stamp}.jsonl").write_text("{}")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / f"results_{stamp}.json").write_text(json.dumps({"results": {task: {"acc,none": 1.0}}}))
    found = next(iter(read_source(folder).results.values()))
    assert found[task].samples is None


def test_links_that_lead_out_of_a_folder_of_results_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"name": "x", "password": "y"}')
    run = tmp_path / "run"
    (run / "train").mkdir(parents=True)
    (run / "manifest.json").symlink_to(secret)
    assert "leads out of" in message(read_source, run)
    (run / "manifest.json").unlink()
    (run / "manifest.json").write_text('{"name": "run"}')
    (run / "train" / "dpo").symlink_to(tmp_path)
    assert "leads out of" in message(read_source, run)
    (run / "train" / "dpo").unlink()
    (run / "train" / "inside.json").symlink_to(run / "manifest.json")
    assert read_source(run).is_run


def test_links_that_lead_out_of_a_run_directory_are_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "profile"
    outside.write_text("kept")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.log").symlink_to(outside)
    with pytest.raises(SmaugError, match="leads out of"), RunDirectory(run).locked():
        pass
    assert outside.read_text() == "kept"


@pytest.mark.parametrize("path", ["a" * 5000, "~nobody-of-this-name/x", "a\x00b", "~" + "b" * 5000])
def test_texts_that_cannot_be_paths_are_refused(tmp_path: Path, path: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps({"model": path, "pairs": {"p": {"source": "rows", "path": path + ".jsonl"}}}))
    assert load_recipe(file).model.path.endswith(path)
    assert "no such folder" in message(locate, path)


# Archives and pickles


@pytest.mark.parametrize("end", ["zip", "tar.gz", "pkl", "pt", "pth", "bin", "npy", "npz", "joblib", "TAR"])
def test_archives_and_pickles_are_refused_by_name(tmp_path: Path, end: str) -> None:
    file = tmp_path / f"x.{end}"
    file.write_bytes(b"x")
    raw = {"name": "r", "model": "org/base", "pairs": {"p": {"source": "rows", "path": str(file)}}}
    assert "archives or can run code" in message(parse_recipe, raw)
    assert "archives or can run code" in message(Location, str(file))
    assert "archives or can run code" in message(locate, str(file))
    assert "archives or can run code" in message(read_source, file)
    assert "archives or can run code" in message(read_archive, file)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "ran")


def test_pickled_weights_are_refused_with_a_command_that_converts_them(checkpoint: Path) -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    weights["tied"] = weights["a"]
    (checkpoint / "model.safetensors").unlink()
    torch.save(weights, checkpoint / "pytorch_model.bin")
    with pytest.raises(SmaugError, match=r"only pickled weights \(pytorch_model.bin\)") as caught:
        locate(str(checkpoint))
    command = str(caught.value.fix).partition(": ")[2].split()
    assert command[:3] == ["python", "-m", "smaug_eval.models.to_safetensors"]
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    read = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(read[name], weight) and read[name].dtype == weight.dtype for name, weight in weights.items())
    assert locate(str(checkpoint)).path == checkpoint


def test_the_conversion_runs_nothing_and_renames_shards(checkpoint: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save({"a": Bomb(marker)}, checkpoint / "pytorch_model.bin")
    assert "holds more than tensors" in message(convert, checkpoint)
    assert not marker.exists()
    (checkpoint / "pytorch_model.bin").unlink()
    for part, name in (("1", "a"), ("2", "b")):
        torch.save({name: torch.ones(2)}, checkpoint / f"pytorch_model-0000{part}-of-00002.bin")
    weight_map = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    (checkpoint / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    convert(checkpoint)
    index = read_json(checkpoint / "model.safetensors.index.json")
    assert index["weight_map"] == {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    assert locate(str(checkpoint)).path == checkpoint


@pytest.mark.parametrize("shard", ["../weights.safetensors", "/weights.safetensors", "a/b.safetensors", 7, None, ""])
def test_an_index_names_files_of_its_own_folder(checkpoint: Path, tmp_path: Path, shard: Any) -> None:
    save_file({"weight": np.zeros(3, dtype=np.float32)}, tmp_path / "weights.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    assert any(part in message(locate, str(checkpoint)) for part in ("of its own folder", "missing weight files"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8 + b"{}",
        (1 << 40).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"\x80\x03c\n",
        (2).to_bytes(8, "little") + b"[]",
        json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}})
        .encode()
        .join([(60).to_bytes(8, "little"), b" " * 0]),
    ],
)
def test_a_hostile_header_of_weights_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(content)
    assert "is truncated or damaged" in message(locate, str(checkpoint))


def test_a_line_that_never_ends_is_not_read_into_memory(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl.gz"
    with gzip.open(file, "wb", compresslevel=9) as stream:
        for _ in range(70):
            stream.write(b" " * (1 << 20))
    assert file.stat().st_size < 1 << 20
    assert "longer than" in message(pairs_of_file, file)


def test_a_table_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smaug_eval.leaderboard.archive.LARGEST", 1 << 20)
    (tmp_path / "archive.csv.gz").write_bytes(gzip.compress(b"a," * (1 << 20)))
    assert "unpacks to more than" in message(read_archive, tmp_path / "archive.csv.gz")


# YAML and JSON


def test_yaml_that_multiplies_or_nests_is_refused() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert "20,000 values" in message(parse_yaml, laughs, "x")
    merges = "a0: &a0 {k: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 20)}], k{n}: 1}}\n" for n in range(1, 8)
    )
    assert "20,000 values" in message(parse_yaml, merges, "x")
    assert "deeper than" in message(parse_yaml, "[" * 5000 + "]" * 5000, "x")
    assert "deeper than" in message(parse_yaml, "[" * 100 + "]" * 100, "x")
    began = time.process_time()
    assert "deeper than" in message(parse_yaml, "[" * 60_000, "x")
    assert time.process_time() - began < 1
    assert "what it is part of" in message(parse_yaml, "&a [*a]", "x")
    assert "longer than" in message(parse_yaml, "x" * (1 << 17), "x")
    assert parse_yaml("a: &a {b: 1}\nc: *a", "x")[0] == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [true]", "? [a]\n: b", "a: 1\na: 2", "d: 2001-99-99", "x: !!float y",
        "x: !!bool y", "x: !!timestamp y", f"x: {'9' * 5000}", "x: !!binary é", "\x00", "a: *b",
    ],
)  # fmt: skip
def test_yaml_that_is_none_is_refused(text: str) -> None:
    assert "not valid YAML" in message(parse_yaml, text, "x")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, '{"a":' * 50_000, "\ufeff{}", "NaNa"])
def test_json_that_no_program_writes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    message(read_json, tmp_path / "x.json")


@pytest.mark.parametrize("content", ["null", "[]", '"x"', "{}"])
def test_configurations_that_are_no_objects_are_refused(checkpoint: Path, content: str) -> None:
    (checkpoint / "config.json").write_text(content)
    if content == "{}":
        assert locate(str(checkpoint)).describe()["architecture"] == "unknown"
    else:
        message(locate(str(checkpoint)).describe)
    (checkpoint / "adapter_config.json").write_text(content)
    (checkpoint / "adapter_model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    message(smaug_eval.merge, checkpoint, checkpoint / "merged")


def test_a_training_log_with_strange_rows_is_refused_or_read(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"split": ["train"], "step": 1}\n')
    assert "split is no text" in message(read_source, tmp_path)
    log.write_text('{"split": "train", "step": 1' + "0" * 400 + ', "loss": "x"}\n')
    assert read_source(tmp_path).trainings[0].rows["step"].isna().all()


def test_a_log_likelihood_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "samples_arc_challenge_x.jsonl"
    sample = {
        "doc_id": 0,
        "doc": {"choices": ["a"], "gold": 0},
        "arguments": {"gen_args_0": {"arg_0": "", "arg_1": ""}},
    }
    sample |= {"filtered_resps": [[10**400, "True"]], "resps": [[[10**400, "True"]]], "metrics": ["acc"], "acc": 1.0}
    file.write_text(json.dumps(sample) + "\n")
    task = task_rows("arc_challenge", [file], metric="acc")
    assert "lm-eval's format" in message(task_samples, task, task.rows)
    spec = leaderboard_task("arc_challenge")
    assert spec is not None
    assert "lm-eval's format" in message(document_metrics, spec, [sample])


@pytest.mark.parametrize("metrics", [-1, 1e308, "acc", {}, None])
def test_samples_whose_metrics_are_no_list_have_none(tmp_path: Path, metrics: Any) -> None:
    file = tmp_path / "samples_x.jsonl"
    file.write_text(json.dumps({"doc_id": 0, "metrics": metrics, "doc_hash": "d"}) + "\n")
    assert [each.metric for each in task_rows("x", [file], metric=None).rows[0].found if each] == [""]


# Code that comes with a checkpoint

_CODE = """
import pathlib
from transformers import LlamaConfig, LlamaForCausalLM

pathlib.Path({marker!r}).write_text("ran")


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def with_code(tmp_path: Path) -> tuple[Path, Path]:
    """The demo's model as a kind of its own, with code that leaves a mark; and the mark."""
    folder, marker = tmp_path / "own", tmp_path / "marker"
    folder.mkdir()
    for file in embedded_path("demo-model").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "own-llama", "architectures": ["OwnModel"]}
    mapped = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config | own | {"auto_map": mapped}))
    (folder / "modeling_own.py").write_text(_CODE.format(marker=str(marker)))
    return folder, marker


def test_code_of_a_checkpoint_is_refused_and_not_run(with_code: tuple[Path, Path]) -> None:
    folder, marker = with_code
    refusal = message(locate, str(folder))
    assert "brings Python code of its own" in refusal
    assert "model.trust_remote_code: true" in refusal
    options: dict[str, Any] = {"dtype": "auto", "batch_size": 1, "device": "cpu"}
    message(build_engine, EngineSpec("hf", folder, **options))
    message(build_engine, EngineSpec("torch", folder, **options))
    for smuggled in (
        {"trust_remote_code": True},
        {"model_kwargs": {"trust-remote-code": True}},
        {"hf_overrides": '{"Trust_Remote_Code": true}'},
        {"a": [{"b": ["x,trust_remote_code=True"]}]},
    ):
        assert "trust_remote_code" in message(
            build_engine, EngineSpec("torch", folder, engine_args=smuggled, **options)
        )
    assert not marker.exists()


@pytest.mark.slow
def test_code_runs_where_the_recipe_says_so_and_the_report_tells(
    with_code: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = with_code
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    pairs = {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 8, "holdout": 2, "shots": [0, 1]}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-4, "max_length": 384}
    recipe = {
        "name": "own",
        "model": {"path": str(folder), "dtype": "float32", "trust_remote_code": True},
        "pairs": {"made": pairs},
        "trainings": {"dpop": {"loss": "dpop", **training}, "lora": {"loss": "dpo", "lora": {"r": 2}, **training}},
        "evaluations": {"main": {"suite": "demo", "tasks": ["arithmetic"], "limit": 2, "engine": "torch"}},
    }
    result = smaug_eval.run(recipe, runs=tmp_path / "runs")
    names = {"base", "dpop", "lora"}
    assert marker.read_text() == "ran"
    manifest = read_json(result.path / "manifest.json")
    assert {name: model["trust_remote_code"] for name, model in manifest["models"].items()} == dict.fromkeys(
        names, True
    )
    for name in names - {"base"}:
        checkpoint = result.path / "train" / name / "checkpoint"
        assert (checkpoint / "modeling_own.py").read_text() == (folder / "modeling_own.py").read_text()
        assert "brings Python code of its own" in message(locate, str(checkpoint))
    assert any("Python code of its own" in text for text in manifest["warnings"])
    assert "Python code of its own" in result.report.read_text()


def test_code_decides_the_digest_and_must_be_in_the_folder(with_code: tuple[Path, Path]) -> None:
    folder, marker = with_code
    before = locate(str(folder), trust_remote_code=True)
    (folder / "modeling_own.py").write_text("raise SystemExit")
    assert locate(str(folder), trust_remote_code=True).sha256 != before.sha256
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "somebody/else--modeling_own.OwnConfig"
    (folder / "config.json").write_text(json.dumps(config))
    assert "which no revision pins" in message(locate, str(folder), trust_remote_code=True)
    assert not marker.exists()


def test_a_known_kind_of_model_with_code_is_read_without_it(checkpoint: Path) -> None:
    config = {"model_type": "llama", "auto_map": {"AutoConfig": "own.Config"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert not locate(str(checkpoint)).trust_remote_code
    (checkpoint / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}})
    )
    assert "own.OwnTokenizer" in message(locate, str(checkpoint))


def test_words_near_the_switch_are_no_switch() -> None:
    refuse_smuggled_code({"tensor_parallel_size": 2, "hf_overrides": {"rope": {"trust": 1}}})


# Keys


def test_what_counts_as_a_key(keys: list[str]) -> None:
    assert redaction.redacted(f"a {keys[0]} b {keys[1]}") == "a *** b ***"
    assert redaction.redacted("https://me:pass-word@host/x?y=1") == "https://***@host/x?y=1"
    assert redaction.redacted("Authorization: Bearer abc.def-123") == "Authorization: Bearer ***"
    assert redaction.redacted("--set model.engine_args.hf_token=abcdef123") == "--set model.engine_args.hf_token=***"
    assert redaction.redacted('{"api_key": "abcdef"}') == '{"api_key": "***"}'
    plain = "max_tokens=2048 tokens: 123456 the token stands; bos_token = <|begin_of_text|>; http://host:8000/v1"
    assert redaction.redacted(plain) == plain
    assert KEYS["MY_JUDGE"] in redaction.redacted(KEYS["MY_JUDGE"])
    redaction.keep_secret(KEYS["MY_JUDGE"])
    assert redaction.redacted(KEYS["MY_JUDGE"]) == "***"


def test_plain_data_lose_keys_and_nothing_else(keys: list[str]) -> None:
    redaction.keep_settings_secret({"engine_args": {"hf_token": "from-the-recipe"}, "url": "http://u:in-the-url@h/"})
    data = {"a": [keys[0], 1, None, 0.5, True], "hf_token": "anything", "tokenizer": "x", "max_tokens": 5}
    clean = redaction.redacted_values(data)
    assert clean == {"a": ["***", 1, None, 0.5, True], "hf_token": "***", "tokenizer": "x", "max_tokens": 5}
    assert redaction.redacted("from-the-recipe in-the-url") == "*** ***"
    assert redaction.values_without_keys({"text": f"api_key=abcdef {keys[2]}"}) == {"text": "api_key=abcdef ***"}


@pytest.mark.parametrize("word", ["ollama", "PASSWORD", "Secret"])
def test_a_key_that_is_a_word_is_masked_in_messages_and_changes_no_data(word: str, tmp_path: Path) -> None:
    redaction.keep_secret(word)
    answer = f"I run {word} at home."
    assert redaction.redacted(answer) == "I run *** at home."
    log = tmp_path / "log"
    log.write_text(answer)
    redaction.mask_file(log)
    assert log.read_text() == f"I run {'*' * len(word)} at home."
    assert redaction.without_keys(answer) == answer
    assert redaction.values_without_keys({word: [answer]}) == {word: [answer]}
    record = {"model": f"{word}/llama", "api_key": word, "url": f"http://h/?api_key={word}"}
    masked = {"model": f"{word}/llama", "api_key": "***", "url": "http://h/?api_key=***"}
    assert redaction.redacted_values(record) == masked


@pytest.mark.parametrize(
    "key",
    [
        "lm-studio",
        "abcdefghijklmnopqrstuvwxyz",
        "ollama1",
        "oLlama",
        "correct-horse-battery-staple",
        "aB3-xy",
        "a.secret",
    ],
)
def test_a_key_that_is_no_word_is_masked_in_data_too(key: str) -> None:
    redaction.keep_secret(key)
    assert redaction.without_keys(f"x {key} y") == "x *** y"
    assert redaction.values_without_keys([f"x {key} y"]) == ["x *** y"]
    assert redaction.redacted_values({"text": f"x {key} y"}) == {"text": "x *** y"}


def test_logs_hold_no_key_whoever_writes_them(keys: list[str], tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(f"of a process that was killed: {keys[1]}\n")
    with captured_output(log):
        print("printed", keys[0])
        logging.getLogger("transformers").warning("logged %s", keys[1])
        try:
            raise ValueError(f"in a traceback: {keys[2]}")
        except ValueError:
            logging.exception("failed")
        os.write(1, f"compiled code: {keys[0]}\n".encode())
        subprocess.run([sys.executable, "-c", f"print('a child: {keys[1]}')"], check=True)
    text = log.read_text()
    assert not any(key in text for key in keys)
    for words in (
        "printed ***",
        "logged ***",
        "in a traceback: ***",
        "compiled code: *****",
        "a child: *****",
        "Traceback",
    ):
        assert words in text
    assert "of a process that was killed: *****" in text


def test_each_use_of_a_log_masks_its_own_part_though_it_was_rotated(
    keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smaug_eval.common.console.LOG_BYTES", 3_000)
    log = tmp_path / "run.log"
    for turn in range(3):
        with captured_output(log):
            for number in range(12):  # the log is emptied in between, and a part is left over at the end
                os.write(1, f"{turn}.{number:02d} {'.' * 120} compiled code: {keys[0]}\n".encode())
                logging.getLogger("library").warning("%d.%02d logged %s", turn, number, keys[1])
    text = "".join(file.read_text() for file in tmp_path.glob("run.log*"))
    assert (tmp_path / "run.log.1").exists()
    assert not any(key in text for key in keys)
    assert "2.11 " + "." * 120 + " compiled code: ****" in text


def test_keys_at_the_border_of_two_windows_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-key-0123456789")
    log = tmp_path / "log"
    log.write_bytes(b"x" * ((1 << 20) - 7) + b" planted-key-0123456789 " + b"y" * (1 << 20) + b"planted-key-0123456789")
    size = log.stat().st_size
    redaction.mask_file(log)
    assert b"planted-key" not in log.read_bytes()
    assert log.stat().st_size == size


def test_messages_records_and_journals_hold_no_key(keys: list[str], tmp_path: Path) -> None:
    stream = io.StringIO()
    reporter = Reporter(Console(file=stream, soft_wrap=True))
    reporter.say(f"x {keys[0]}")
    reporter.warn(f"y {keys[1]}")
    error = SmaugError(f"z {keys[2]}", fix=f"use {keys[0]}")
    write_json(tmp_path / "record.json", {"inputs": {"hf_token": "s3cret", "url": f"http://a:{keys[0]}@b"}})
    Journal(tmp_path / "journal", {"settings": [f"hf_token={keys[1]}"]}).close()
    texts = [stream.getvalue(), str(error), repr(error), *(file.read_text() for file in tmp_path.rglob("*.json*"))]
    assert len(texts) == 5
    assert not any(key in text for key in [*keys, "s3cret"] for text in texts)


def test_uncaught_errors_are_printed_without_keys(keys: list[str]) -> None:
    script = (
        "import threading\n"
        "from smaug_eval.common.redaction import hide_keys_in_tracebacks\n"
        "hide_keys_in_tracebacks()\n"
        "def fail():\n    raise ValueError('in a thread: ' + __import__('os').environ['HF_TOKEN'])\n"
        "thread = threading.Thread(target=fail)\nthread.start()\nthread.join()\n"
        "raise ValueError('at last: ' + __import__('os').environ['OPENAI_API_KEY'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ValueError: in a thread: ***" in done.stderr
    assert "ValueError: at last: ***" in done.stderr
    assert not any(key in done.stderr for key in keys)


@pytest.fixture
def echoing_judge() -> Iterator[str]:
    """A judge that repeats the key it is sent: in every other answer as the judgment, in the rest as an error."""
    numbers = iter(range(10_000))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            sent = self.headers["Authorization"]
            if next(numbers) % 2:
                status, body = 500, {"error": {"message": f"you sent {sent}", "code": sent}}
            else:
                choice = {"message": {"role": "assistant", "content": f"You sent {sent}. Rating: [[7]]"}}
                status, body = 200, {"choices": [choice], "model": sent}
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_no_file_and_no_output_of_a_run_holds_a_planted_key(
    keys: list[str], echoing_judge: str, tmp_path: Path, question_folder_of_two: Path
) -> None:
    recipe = {
        "name": "planted",
        "description": f"made with {KEYS['OPENAI_API_KEY']}",
        "model": "embedded:demo-model",
        "evaluations": {"demo": {"suite": "demo", "tasks": ["arithmetic"], "limit": 2, "engine": "torch",
                                 "engine_args": {"token": "planted-in-the-recipe"}}},
        "mt_bench": {"d": {"questions": str(question_folder_of_two), "chat_template": "plain", "max_new_tokens": 4,
                           "judge": {"model": "echo", "base_url": echoing_judge, "key_env": "MY_JUDGE",
                                     "attempts": 3, "backoff": 0.01, "concurrency": 1}}},
    }  # fmt: skip
    file = tmp_path / "recipe.json.yaml"
    file.write_text(json.dumps(recipe))
    script = "from smaug_eval.cli import main; import sys; sys.argv = ['smaug-eval', *sys.argv[1:]]; main()"
    arguments = ["run", str(file), "--runs-dir", str(tmp_path / "runs"), "--set", "report.title=api_key=planted-title"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    planted = [key.encode() for key in [*keys, "planted-in-the-recipe", "planted-title"]]
    written = [each for each in (tmp_path / "runs").rglob("*") if each.is_file()]
    assert {"manifest.json", "run.log", "report.html", "echo_single.jsonl"} <= {each.name for each in written}
    leaks = [(each, key) for each in written for key in planted if key in each.read_bytes()]
    assert not leaks
    assert not any(key in (done.stdout + done.stderr).encode() for key in planted)
    judged = next(each for each in written if each.name == "echo_single.jsonl").read_text()
    assert "You sent Bearer ***. Rating: [[7]]" in judged


@pytest.fixture
def question_folder_of_two(tmp_path: Path) -> Path:
    folder = tmp_path / "questions"
    folder.mkdir()
    questions = [{"question_id": n, "category": "writing", "turns": [f"First {n}?", "Then?"]} for n in (1, 2)]
    prompts = [
        {"name": name, "type": kind, "system_prompt": "s", "output_format": shape, "prompt_template": template}
        for name, kind, shape, template in (
            ("single-v1", "single", "[[rating]]", "{question} {answer}"),
            ("single-v1-multi-turn", "single", "[[rating]]", "{question_1} {question_2} {answer_2}"),
        )
    ]
    for name, lines in (("question.jsonl", questions), ("judge_prompts.jsonl", prompts)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    references = [{"question_id": n, "choices": [{"index": 0, "turns": ["a", "b"]}]} for n in (1, 2)]
    (folder / "reference_answer").mkdir()
    (folder / "reference_answer" / "gpt-4.jsonl").write_text("".join(json.dumps(line) + "\n" for line in references))
    return folder


# The network


def test_the_demo_s_judge_is_reached_from_this_machine_only() -> None:
    with demo_judge() as url:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        assert host == "127.0.0.1"
        assert port is not None
        socket.create_connection((host, port), timeout=5).close()
        for other in {"127.0.0.2", _own_address()} - {None}:
            with pytest.raises(OSError, match=r"refused|unreachable"):
                socket.create_connection((other, port), timeout=5).close()


def _own_address() -> str | None:
    """This machine's address on a network, where it has one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])
