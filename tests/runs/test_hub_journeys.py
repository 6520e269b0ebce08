"""What a user does first, through the command line against a Hub: from an empty cache to the result, and what stops it.

Every command is a process of its own with the real clients; the Hub is on loopback.
"""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from safetensors.torch import load, save

from smaug_eval.common.embedded import embedded_path
from smaug_eval.leaderboard import v1
from tests.common.test_hub_faults import Deaf
from tests.hub.contents import json_lines, parquet
from tests.hub.fixtures import Commands
from tests.hub.repositories import Content
from tests.hub.server import Hub
from tests.tasks.test_open_llm_v1_yamls import made_up_mirror

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hub-journeys")]

MODEL = "demo/model"
PAIRS = [{"prompt": f"What is {n} + {n}?\n", "chosen": f"{2 * n}\n", "rejected": f"{2 * n + 1}\n"} for n in range(12)]
PIECE, PIECE_SECONDS = 20_000, 2.0
"""Bytes that a slow Hub sends, and how long it waits then: of the model, for minutes."""
LEFT_TIMES = 20
"""How often the time between Ctrl-C and the end fits into what the download would have taken still."""
MOST_REQUESTS_FIRST, MOST_REQUESTS_AGAIN = 60, 6


def model_files() -> dict[str, Content]:
    folder = embedded_path("embedded:demo-model")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "README.md"}


def sharded(files: Mapping[str, Content]) -> dict[str, Content]:
    """The same checkpoint in two files with an index."""
    tensors = load(files["model.safetensors"])  # type: ignore[arg-type]
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    index = {"metadata": {}, "weight_map": {name: file for file, own in halves.items() for name in own}}
    shards: dict[str, Content] = {
        file: save({name: tensors[name] for name in own}, {"format": "pt"}) for file, own in halves.items()
    }
    rest = {name: content for name, content in files.items() if name != "model.safetensors"}
    return rest | shards | {"model.safetensors.index.json": json.dumps(index)}


def serve_benchmarks(hub: Hub, place: Path) -> None:
    """The six benchmarks in small, each at its pinned commit, in the layout of the Hub."""
    made_up_mirror(place)
    splits = [split for spec in v1.TASKS.values() for split in (spec.evaluated, spec.shots) if split]
    pinned = {split.hub_id: split.pinned for split in splits}
    for hub_id, commit in pinned.items():
        files: dict[str, Content] = {
            f"{file.parent.name}/{file.stem}-00000-of-00001.parquet": file.read_bytes()
            for file in (place / hub_id).glob("*/*.parquet")
        }
        configs = sorted({name.partition("/")[0] for name in files})
        card = "---\nconfigs:\n" + "".join(
            f"- config_name: {config}\n  data_files:\n"
            + "".join(
                f"  - split: {name.partition('/')[2].partition('-')[0]}\n    path: {name}\n"
                for name in sorted(files)
                if name.startswith(f"{config}/")
            )
            for config in configs
        )
        hub.add_dataset(hub_id, {"README.md": f"{card}---\n", **files}, sha=commit)


def result_files(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(runs.rglob("results_*.json"))]


def test_six_tasks_from_an_empty_cache_and_everything_after(
    hub: Hub, smaug_eval_command: Commands, tmp_path: Path
) -> None:
    run = smaug_eval_command
    token = hub.add_user("ann")
    serve_benchmarks(hub, tmp_path / "mirror")
    commit = hub.add_model(MODEL, model_files(), gated=True, readers={"ann"}).branches["main"]
    evaluate = ("eval", f"{MODEL}@main", "--limit", "1", "--name", "r")

    told = run.refused(*evaluate)
    assert f"accept its licence at {hub.url}/{MODEL} and set HF_TOKEN" in told
    hub.forget_requests()
    first = run.done(*evaluate, HF_TOKEN=token)
    asked = hub.requests()
    assert len(asked) <= MOST_REQUESTS_FIRST, [str(request) for request in asked]
    assert not [request for request in asked if request.status >= 400]
    results = result_files(tmp_path / "runs" / "r")
    assert len(results) == 6
    assert {found["config"]["model_sha"] for found in results} == {commit}

    hub.forget_requests()
    again = run.done(*evaluate, HF_TOKEN=token)
    assert "done before" in again
    assert len(hub.requests()) <= MOST_REQUESTS_AGAIN, list(map(str, hub.requests()))

    deaf = Deaf()  # the worst of all: it takes connections and does not answer
    tasks = [text for task in ("gsm8k", "winogrande", "truthfulqa") for text in ("--task", task)]
    down = run.done(*evaluate[:-1], "down", *tasks, HF_TOKEN=token, HF_ENDPOINT=deaf.url)  # of what the cache has
    assert len(deaf.taken) == 1  # which costs the seconds of one answer, not of one for each task
    deaf.close()
    assert len(result_files(tmp_path / "runs" / "down")) == 3
    assert "the Hub does not answer (it does not answer in time); continuing with the commit that main had" in down
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "hf_home" not in str(path)]
    written = [path.read_text(errors="replace") for path in files]
    for text in (told, first, again, down, *written):
        assert token not in text
        assert "Signature=" not in text


def interrupted(run: Commands, *arguments: str, after: str, hub: Hub) -> tuple[int, str, float]:
    """Start a command, press Ctrl-C once a request has been made, and wait for its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "smaug_eval", *arguments],
        cwd=run.folder,
        env=run.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    limit = time.monotonic() + 300
    while not hub.requests(after):
        assert time.monotonic() < limit, "the request was never made"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    time.sleep(0.5)
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output, time.monotonic() - pressed


@pytest.mark.parametrize("what", ["model", "data set"])
def test_ctrl_c_stops_a_download_and_the_same_command_goes_on(
    hub: Hub, smaug_eval_command: Commands, what: str
) -> None:
    """The end comes in a small part of what the download would take still, as the bound of 2 s asks for.

    The model's file comes from Xet's storage, where it begins again; the data set's over plain HTTP.
    """
    xet = what == "model"
    if xet:
        pytest.importorskip("hf_xet")
    hub.add_model(MODEL, model_files(), xet=xet)
    rows = [{"prompt": secrets.token_hex(1000), "chosen": "a", "rejected": "b"} for _ in range(2000)]
    hub.add_dataset("org/pairs", {"train.parquet": parquet(rows)})
    slow = hub.plan_fault("GET /(files|xorbs)", "slow", times=None, bytes=PIECE, seconds=PIECE_SECONDS)
    command = ["eval", MODEL, "--suite", "demo", "--task", "facts", "--limit", "1"]
    large, told = (
        "model.safetensors",
        f"interrupted while model {MODEL} was fetched; the same command resumes with what",
    )
    if what == "data set":
        command = ["train", "embedded:demo-model", "org/pairs", "--loss", "dpo", "--set", "steps=1"]
        command += [
            "--set",
            "warmup_steps=0",
            "--set",
            "lora.r=2",
            "--set",
            "max_length=64",
            "--set-pairs",
            "holdout=2",
        ]
        large, told = "train.parquet", "continue with: smaug-eval train embedded:demo-model org/pairs"
    begun = "GET /v1/reconstructions" if xet else f"GET .*/resolve/.*{large}"
    code, output, seconds = interrupted(smaug_eval_command, *command, after=begun, hub=hub)
    assert code == 3, output
    assert "Traceback" not in output
    assert told in output
    commit = hub.find("model", MODEL).find("main") if what == "model" else hub.find("dataset", "org/pairs").find("main")
    assert commit is not None
    assert seconds * LEFT_TIMES < commit.files[large].size / PIECE * PIECE_SECONDS
    assert slow.hits
    if xet:
        return  # begins again
    hub.clear_faults()
    hub.forget_requests()
    smaug_eval_command.done(*command)
    (ranged,) = hub.requests("GET /files")
    assert re.fullmatch(r"bytes=[1-9]\d*-", str(ranged.range))


def test_ctrl_c_while_the_hub_hangs(hub: Hub, smaug_eval_command: Commands) -> None:
    hub.add_model(MODEL, model_files())
    hub.plan_fault("GET /api/models", "wait", times=None, seconds=30)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "smaug_eval", "eval", MODEL, "--suite", "demo"],
        cwd=smaug_eval_command.folder,
        env=smaug_eval_command.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not hub._faults.faults[0].hits:
        assert waiting.poll() is None
        time.sleep(0.05)
    waiting.send_signal(signal.SIGINT)
    _, told = waiting.communicate(timeout=300)
    assert (waiting.returncode, "Traceback" in told) == (3, False)
    assert "interrupted" in told


def test_train_push_and_use_what_was_pushed(
    hub: Hub, smaug_eval_command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train on a Hub model at a commit and a Hub set, push adapter and model, use both by name.

    Of the base, whose weights are in two files beside many others, only what is needed is fetched.
    """
    run = smaug_eval_command
    files = sharded(model_files())
    beside = ["consolidated.safetensors", "original/consolidated.00.pth", "onnx/model.onnx", "pytorch_model.bin"]
    beside += ["checkpoint-100/model.safetensors", "gguf/model-Q4.gguf", "flax_model.msgpack", "model.fp16.safetensors"]
    base = hub.add_model(MODEL, files | dict.fromkeys(beside, b"\0" * 1000))
    base.tag("v1")
    commit = base.branches["main"]
    hub.commit(MODEL, {"README.md": "newer"})
    rows = [
        {"instruction": r["prompt"], "chosen_response": r["chosen"], "rejected_response": r["rejected"]} for r in PAIRS
    ]
    hub.add_dataset("org/pairs", {"train.jsonl": json_lines(rows)})
    run.done(
        *("train", MODEL, "org/pairs", "--revision", "v1", "--name", "t", "--loss", "dpo"),
        *("--set", "steps=1", "--set", "warmup_steps=0", "--set", "lora.r=2", "--set", "max_length=64"),
        *("--set-pairs", "holdout=2"),
    )
    asked = hub.requests(f"GET /{MODEL}/resolve/")
    assert {request.target.partition("/resolve/")[2].partition("/")[2] for request in asked} == set(files)
    adapter = tmp_path / "runs" / "t" / "train" / "dpo" / "adapter"
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == (MODEL, commit)
    assert f"base_model: {MODEL}\n" in (adapter / "README.md").read_text()
    manifest = json.loads((tmp_path / "runs" / "t" / "manifest.json").read_text())
    assert manifest["models"]["base"]["revision"] == commit

    for name, value in (("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):  # of this process, which pushes
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    token = hub.add_user("ann")
    api = HfApi(endpoint=hub.url, token=token)
    for name, folder in (("adapter", adapter), ("tuned", adapter.with_name("checkpoint"))):
        api.create_repo(f"ann/{name}", private=True)
        api.upload_folder(repo_id=f"ann/{name}", folder_path=folder)
    evaluate = ("--suite", "demo", "--task", "facts", "--limit", "3", "--dtype", "float32")
    assert "no such model on the Hub" in run.refused("eval", "ann/tuned", *evaluate)
    names = {"adapter": "ann/adapter", "tuned": "ann/tuned", "local": str(adapter)}
    run.done_together(
        *(("eval", model, *evaluate, "--name", name) for name, model in names.items()),
        ("merge", "ann/adapter@main", "--out", "merged"),
        HF_TOKEN=token,
    )
    scores = [result_files(tmp_path / "runs" / name)[0]["results"] for name in names]
    assert scores[0] == scores[1] == scores[2]  # the adapter beside its base is the merged model
    card = (tmp_path / "merged" / "README.md").read_text()
    assert f"base_model: {MODEL}\n" in card
    assert str(tmp_path) not in card
    with pytest.raises(Exception, match="403"):
        HfApi(endpoint=hub.url, token=hub.add_user("bob")).upload_file(
            path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=MODEL
        )
