"""What goes wrong on the way to the Hub: it is overcome, or said in one screen with a fix that fits its cause."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from smaug_eval.cli.verbs import reporter
from smaug_eval.common import hub_commits, hub_download, hub_requests
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub import read_split
from smaug_eval.common.hub_cache import storage
from smaug_eval.common.hub_commits import exactly, fetch_files, resolve_commit
from smaug_eval.common.hub_errors import cause_of, is_network_error, retry_after
from smaug_eval.common.hub_requests import SILENT_SINCE, is_silent, note_answer
from tests.hub.contents import pushed
from tests.hub.fixtures import HubHere, hub_environment

MODEL, SET = "org/model", "org/set"
WEIGHTS = save({"weight": np.arange(200_000, dtype=np.float32)})
FILES: dict[str, str | bytes] = {
    "config.json": json.dumps({"architectures": ["LlamaForCausalLM"], "note": "long" * 100}),
    "model.safetensors": WEIGHTS,
}
KINDS = ["reset", "drop", "429", "500", "503", "cut", "cut-reset"]
PLACES = {
    "the commit": "GET /api/(models|datasets)/org/[a-z]+( |$|/revision)",
    "the listing": "GET /api/.*/tree/",
    "a file": "GET /org/model/resolve/|GET /datasets/",
    "the storage": "GET /files/",
}


@pytest.fixture
def here(hub_here: HubHere) -> HubHere:
    hub_here.hub.add_model(MODEL, FILES)
    hub_here.hub.add_dataset(SET, pushed({"default": {"train": [{"n": n} for n in range(5)]}}))
    return hub_here


def plan(here: HubHere, match: str, kind: str, times: int | None) -> Any:
    if kind.isdigit():
        return here.hub.plan_fault(match, "status", times=times, code=int(kind), retry_after=1)
    return here.hub.plan_fault(match, kind, times=times, bytes=30)  # type: ignore[arg-type]


def weights(revision: str | None = None) -> bytes:
    folder = fetch_files("model", MODEL, resolve_commit("model", MODEL, revision), ["*"])
    return (folder / "model.safetensors").read_bytes()


def rows() -> list[int]:
    return list(read_split(SET, "default", "train")["n"])


def refused(call: Any = weights) -> str:
    with pytest.raises(SmaugError) as caught:
        call()
    text = str(caught.value)
    assert "Signature" not in text
    assert "Traceback" not in text
    assert len(text.splitlines()) == 2  # what is wrong, and what to do
    return text


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_trouble_that_passes_is_overcome(here: HubHere, place: str, kind: str) -> None:
    fault = plan(here, PLACES[place], kind, times=2)
    assert weights() == WEIGHTS
    assert rows() == [0, 1, 2, 3, 4]
    assert fault.hits == 2


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [*KINDS, "portal", "401", "403", "404"])
def test_trouble_that_stays_is_one_screen(here: HubHere, place: str, kind: str) -> None:
    plan(here, PLACES[place], kind, times=None)
    for call in (weights, rows):
        told = refused(call)
        if kind.isdigit():
            assert f"HTTP {kind}" in told
    here.hub.clear_faults()
    here.new_process()
    assert weights() == WEIGHTS
    assert rows() == [0, 1, 2, 3, 4]


FIXES = [
    ("portal", {}, "sign in to the network in a browser"),
    ("reset", {}, "run the same command again"),
    ("status", {"code": 500}, "try again later"),
    ("status", {"code": 429}, "wait: the Hub limits"),
    ("status", {"code": 401, "message": "Invalid credentials in Authorization header"}, "correct HF_TOKEN"),
    ("status", {"code": 403, "message": "Blocked by policy"}, "behind a proxy or firewall"),
    ("status", {"code": 407}, "put user and password into HTTPS_PROXY"),
]


@pytest.mark.parametrize(("kind", "options", "fix"), FIXES)
def test_the_fix_fits_the_cause(here: HubHere, kind: Any, options: dict[str, Any], fix: str) -> None:
    here.hub.plan_fault("GET /files/", kind, times=None, **options)
    assert fix in refused()


def test_retry_after_is_obeyed(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    clock = type("Clock", (), {"sleep": waited.append, "monotonic": staticmethod(time.monotonic)})
    monkeypatch.setattr(hub_requests, "time", clock)
    here.hub.plan_fault("GET /api/models", "status", times=1, code=429, retry_after=7)
    here.hub.plan_fault("GET /files/", "status", times=1, code=503, retry_after=9)
    assert weights() == WEIGHTS
    assert waited == [7.0, 9.0]
    here.empty()
    here.hub.plan_fault("GET /api/models", "status", times=None, code=429, retry_after=3600)
    assert "wait at least 3600 seconds" in refused()
    assert waited == [7.0, 9.0]


def test_a_hub_that_hangs_is_given_up(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.3)
    fault = here.hub.plan_fault("GET /api/models", "wait", times=None, seconds=5)
    assert "it does not answer in time" in refused()
    assert fault.hits == 2
    here.hub.clear_faults()
    here.new_process()
    assert weights() == WEIGHTS
    here.hub.commit(MODEL, {"new.txt": "new"})
    fault = here.hub.plan_fault("GET /api/models", "wait", times=None, seconds=5)
    assert weights() == weights() == WEIGHTS  # of the cache: asked once, then not for a while
    assert fault.hits == 1


def test_a_file_that_hangs_is_given_up(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(hub_download, "pause", lambda *arguments: None)
    here.hub.plan_fault("GET /files/.*", "wait", times=None, seconds=5)
    assert "it does not answer in time" in refused()
    for file in FILES:  # twice each, and not five times
        assert len(here.hub.requests(f"GET /org/model/resolve/.*/{file}")) <= 2
    assert any(len(here.hub.requests(f"GET /org/model/resolve/.*/{file}")) == 2 for file in FILES)


def test_what_arrived_is_kept_and_continued_from(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    here.hub.plan_fault("GET /files/", "cut", times=1, bytes=300_000)
    here.hub.plan_fault("GET /files/", "status", times=None, code=403)
    refused()
    here.hub.clear_faults()
    here.hub.forget_requests()
    here.new_process()
    assert weights() == WEIGHTS
    assert [request.range for request in here.hub.requests("GET /files/")] == ["bytes=300000-"]


def test_a_damaged_part_is_not_kept(here: HubHere) -> None:
    here.hub.plan_fault("GET /files/", "cut", times=1, bytes=300_000)
    here.hub.plan_fault("GET /files/", "status", times=None, code=403)
    refused()
    here.hub.clear_faults()
    parts = storage("model", MODEL).glob("blobs/*.incomplete")
    part = max(parts, key=lambda file: file.stat().st_size)  # a smaller file may have been under way, too
    part.write_bytes(b"\xff" * 300_000)
    assert weights() == WEIGHTS
    assert not list(storage("model", MODEL).glob("blobs/*.incomplete"))


def test_where_nobody_listens_the_answer_comes_at_once(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = resolve_commit("model", MODEL)
    here.empty()
    here.hub.close()
    slept: list[float] = []
    clock = type("Clock", (), {"sleep": slept.append, "monotonic": staticmethod(time.monotonic)})
    monkeypatch.setattr(hub_requests, "time", clock)
    told = refused(lambda: fetch_files("model", MODEL, commit, ["*"]))
    assert "the Hub cannot be reached (ConnectError)" in told
    assert "check the network, HTTPS_PROXY, and HF_ENDPOINT" in told
    assert "ConnectError" in refused()
    assert slept == []


def test_an_endpoint_without_a_scheme_is_named(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "huggingface.example")
    told = refused()
    assert "HF_ENDPOINT is 'huggingface.example'" in told
    assert "https:// or http://" in told


def test_a_full_disk_is_told_before_and_while(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = resolve_commit("model", MODEL)
    fetch_files("model", MODEL, commit, ["config.json"])
    (digest,) = (file.sha256 for file in here.hub.find("model", MODEL).find("main").files.values() if file.large)  # type: ignore[union-attr]
    part = storage("model", MODEL) / "blobs" / f"{digest}.incomplete"
    part.symlink_to("/dev/full")  # every write says that there is no space left
    told = refused()
    assert "no space left on the disk" in told
    assert "set HF_HOME to a larger disk" in told
    part.unlink()
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(hub_download, "_SPARE", 0)
    monkeypatch.setattr(hub_download.shutil, "disk_usage", lambda place: free)
    here.hub.forget_requests()
    told = refused()
    assert "0.0 GB are to be fetched" in told
    assert "has room for" in told
    assert not here.hub.requests("GET /org|GET /files")


def test_a_complete_cache_that_cannot_be_written_is_enough(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights() == WEIGHTS
    assert rows() == [0, 1, 2, 3, 4]
    here.new_process()
    (here.home / "file").write_text("")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", here.home / "file" / "datasets")

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system", "place")

    files = {path: path.stat().st_mtime_ns for path in here.cache.rglob("*")}
    monkeypatch.setattr(Path, "write_text", refuse)
    assert weights() == WEIGHTS
    assert rows() == [0, 1, 2, 3, 4]
    assert files == {path: path.stat().st_mtime_ns for path in here.cache.rglob("*")}


def test_a_cache_that_cannot_be_written_is_named(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    commit = resolve_commit("model", MODEL)
    monkeypatch.setattr(Path, "mkdir", refuse)
    told = refused(lambda: fetch_files("model", MODEL, commit, ["*"]))
    assert "cannot be written (Permission denied)" in told
    assert "set HF_HOME to a folder that is" in told


def test_two_threads_fetch_a_file_once(here: HubHere) -> None:
    here.hub.plan_fault("GET /files/", "slow", times=None, bytes=100_000, seconds=0.05)
    commit = resolve_commit("model", MODEL)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(weights(commit))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [WEIGHTS] * 2
    assert len(here.hub.requests("GET /files/")) == 1


def test_two_processes_fetch_a_file_once(here: HubHere, tmp_path: Path) -> None:
    """Each is a process of its own, as two commands or two tasks of a cluster on one machine are."""
    here.hub.plan_fault("GET /files/", "slow", times=None, bytes=20_000, seconds=0.1)
    commit = resolve_commit("model", MODEL)
    program = (
        f"from smaug_eval.common.hub_commits import fetch_files; fetch_files('model', {MODEL!r}, {commit!r}, ['*'])"
    )
    environment = hub_environment(here.hub, here.home)
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    assert [request.range for request in here.hub.requests("GET /files/")] == [None]  # all bytes once
    for file in FILES:
        assert len(here.hub.requests(f"GET /{MODEL}/resolve/.*/{file}")) == 1
    here.hub.forget_requests()
    assert weights(commit) == WEIGHTS
    assert not here.hub.requests()


class Deaf:
    """An address that takes connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.taken.append(self._socket.accept()[0])

    def close(self) -> None:
        self._socket.close()
        for each in self.taken:
            each.close()


@pytest.mark.parametrize("down", ["closed", "deaf", "nameless", "slow name"])
def test_a_hub_that_is_down_is_found_out_once(
    here: HubHere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, down: str
) -> None:
    """With everything in the cache one request is made, by this process and all that it starts together."""
    names = [f"org/model-{number}" for number in range(3)]
    for name in names:
        here.hub.add_model(name, FILES)
    known = {name: fetch_files("model", name, resolve_commit("model", name), ["*"]).name for name in names}
    here.new_process()
    deaf = Deaf()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.3)
    monkeypatch.setattr(hub_requests, "CONNECT_TIMEOUT", 0.3)
    address = {"deaf": deaf.url, "nameless": "http://nobody.invalid"}.get(down, here.hub.url)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    if down == "closed":
        here.hub.close()
    look_up = socket.getaddrinfo
    looked_up: list[str] = []

    def slow_look_up(host: str, *arguments: Any, **options: Any) -> Any:
        looked_up.append(host)
        if down == "nameless":
            raise socket.gaierror(-2, "Name or service not known")
        if down == "slow name":
            time.sleep(30)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow_look_up)
    asked: list[str] = []
    get = hub_commits.get_json

    def counted(place: str, seconds: float) -> Any:
        asked.append(place)
        return get(place, seconds)

    monkeypatch.setattr(hub_commits, "get_json", counted)
    for name in names * 2:
        assert resolve_commit("model", name) == known[name]
        assert fetch_files("model", name, known[name], ["*"]).name == known[name]
    assert len(asked) == (1 if down in ("closed", "deaf") else 0)  # the name comes before the request
    assert len(deaf.taken) == (down == "deaf")
    assert looked_up.count("nobody.invalid") == (down == "nameless")
    program = f"from smaug_eval.common.hub_commits import resolve_commit; print(resolve_commit('model', {names[0]!r}))"
    environment = hub_environment(here.hub, here.home) | {"HF_ENDPOINT": deaf.url}
    inherited = {SILENT_SINCE: os.environ[SILENT_SINCE]}
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment | inherited, capture_output=True, text=True, timeout=300
    )
    assert child.stdout.split() == [known[names[0]]], child.stderr
    assert len(deaf.taken) == (down == "deaf")
    deaf.close()


def test_a_silence_begins_at_once(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    for second in (1_700_000_000.0006, 1_700_000_000.1234):  # one is rounded up, the other down
        monkeypatch.setattr(hub_requests.time, "time", lambda second=second: second, raising=False)
        note_answer(answered=False)
        assert is_silent()


def test_a_hub_that_answers_again_is_asked_again(here: HubHere) -> None:
    assert weights() == WEIGHTS
    note_answer(answered=False)
    here.hub.forget_requests()
    assert weights() == WEIGHTS
    assert not here.hub.requests()
    assert rows() == [0, 1, 2, 3, 4]  # is not in the cache, so it is asked for
    assert weights() == WEIGHTS
    assert len(here.hub.requests(f"GET /api/models/{MODEL}")) == 1


def test_a_renamed_repository_is_followed(here: HubHere) -> None:
    here.hub.rename(MODEL, "org/other")
    here.hub.rename(SET, "org/others")
    assert weights() == WEIGHTS
    assert rows() == [0, 1, 2, 3, 4]


def test_the_nearest_revision_is_named(here: HubHere) -> None:
    here.hub.find("model", MODEL).tag("v1.0")
    told = refused(lambda: weights("v1.O"))
    assert "has no revision 'v1.O'; did you mean 'v1.0'?" in told


def test_who_may_not_read_is_told_why(here: HubHere) -> None:
    hub = here.hub
    hub.add_model("org/gated", FILES, gated=True, readers={"ann"})
    hub.add_model("org/private", FILES, private=True, readers={"ann"})

    def fetch(name: str) -> Any:
        return lambda: fetch_files("model", name, resolve_commit("model", name), ["*"])

    assert f"accept its licence at {hub.url}/org/gated and set HF_TOKEN" in refused(fetch("org/gated"))
    assert "needs HF_TOKEN" in refused(fetch("org/private"))
    here.token(hub.add_user("bob"))
    told = refused(fetch("org/gated"))
    assert "this token has no access" in told
    assert f"ask for access at {hub.url}/org/gated as the user of HF_TOKEN" in told
    assert "needs HF_TOKEN of a user who may read it" in refused(fetch("org/private"))
    here.token("hf_" + "0" * 30)
    told = refused(fetch("org/gated"))
    assert "Invalid credentials" in told
    assert "correct HF_TOKEN or the stored login, or remove it" in told
    assert "0" * 30 not in told


def test_a_wrong_split_or_configuration_is_answered_with_those_there_are(here: HubHere) -> None:
    here.hub.add_dataset(
        "org/two", pushed({"en": {"train": [{"n": 1}], "test": [{"n": 2}]}, "de": {"train": [{"n": 3}]}})
    )
    told = refused(lambda: read_split("org/two", "fr", "train"))
    assert "set config (--config) to one of en, de" in told or "set config (--config) to one of de, en" in told
    told = refused(lambda: read_split("org/two", "en", "tets"))
    assert "has no split 'tets': train, test" in told
    assert "set split (--split) to one of train, test" in told


def test_a_file_that_is_damaged_on_the_hub_is_not_the_networks_fault(here: HubHere) -> None:
    here.hub.commit(SET, {"default/train-00000-of-00001.parquet": b"PAR1 but no more"})
    told = refused(rows)
    assert "arrived as the Hub has it, and cannot be read" in told
    assert "use another revision" in told


@pytest.mark.parametrize("fault", [None, "closed", "403", "stalled", "token"])
def test_xet_is_used_or_done_without(
    here: HubHere, fault: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("hf_xet")
    hub = here.hub
    hub.add_model("org/xet", FILES, xet=True)
    monkeypatch.setattr(hub_download, "XET_SILENCE", 2.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    if fault == "closed":
        hub.xet_url = "http://127.0.0.1:9"
    elif fault == "403":
        hub.plan_fault("GET /v./reconstructions", "status", times=None, code=403)
    elif fault == "stalled":
        hub.plan_fault("GET /xorbs", "wait", times=None, seconds=20)
    elif fault == "token":
        hub.plan_fault("xet-read-token", "status", times=None, code=403)
    folder = fetch_files("model", "org/xet", resolve_commit("model", "org/xet"), [exactly("model.safetensors")])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert bool(hub.requests("GET /files/")) == (fault is not None)
    assert ("is fetched over plain HTTP" in caplog.text) == (fault is not None)
    assert [path.suffix for path in storage("model", "org/xet").glob("blobs/*")] == [""]


def test_neither_xet_nor_plain_http(here: HubHere) -> None:
    pytest.importorskip("hf_xet")
    here.hub.add_model("org/xet", FILES, xet=True)
    here.hub.xet_url = "http://127.0.0.1:9"
    here.hub.plan_fault("GET /files/", "status", times=None, code=403)
    commit = resolve_commit("model", "org/xet")
    told = refused(lambda: fetch_files("model", "org/xet", commit, ["*"]))
    assert "HTTP 403" in told
    assert "and its storage allowed" in told


def test_errors_of_every_library_are_known() -> None:
    import httpx
    import httpx2
    import requests

    response = requests.Response()
    response.status_code = 503
    response.headers["Retry-After"] = "Wed, 21 Oct 2099 07:28:00 GMT"
    busy = requests.HTTPError("503", response=response)
    assert cause_of(busy).passes
    assert (retry_after(busy) or 0) > 1e6
    for error in (
        httpx.ReadError("reset"),
        httpx2.RemoteProtocolError("closed"),
        requests.exceptions.ChunkedEncodingError("cut"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
    ):
        assert cause_of(error).passes
        assert is_network_error(error)
    for error in (httpx.ConnectError("refused"), httpx2.ConnectTimeout("late"), ConnectionRefusedError("no")):
        assert cause_of(error).no_answer
        assert not cause_of(error).passes
    refused = httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    assert "SSL_CERT_FILE" in cause_of(refused).fix
    assert "cannot be resolved" in cause_of(httpx2.ConnectError("[Errno -2] Name or service not known")).text
    assert "HTTPS_PROXY" in cause_of(httpx2.ProxyError("407")).fix
    assert "HF_HUB_DISABLE_XET" in cause_of(RuntimeError("Xet CAS Client Error: 403 Forbidden")).fix
    assert not is_network_error(ValueError("a bug"))
    assert not is_network_error(KeyError("a bug"))


def test_two_waits_for_an_answer_take_half_as_long_again_as_one(here: HubHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that swallows everything costs 15 s, of which a connection gets 5, and not 20."""
    asked: list[float] = []
    real = hub_requests.limits

    def limits(seconds: float) -> Any:
        asked.append(seconds)
        return real(0.05)

    monkeypatch.setattr(hub_requests, "limits", limits)
    here.hub.plan_fault("GET /api/models", "wait", times=None, seconds=1)
    refused()
    assert asked == [10.0, 5.0]
    assert real(10.0) == (5.0, 10.0, 10.0, 10.0)


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_draws_no_bar(here: HubHere, monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setattr("sys.stderr", screen)
    reporter(quiet)
    try:
        assert weights() == WEIGHTS
    finally:
        reporter(False)
    assert (f"{MODEL}: {len(FILES)} files: 100%" in screen.getvalue()) is not quiet
