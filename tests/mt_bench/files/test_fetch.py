"""Fetching from a server on this machine: what is kept, what is refused, what the messages say."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files import fetch
from smaug_eval.mt_bench.files.fetch import SOURCES, default_cache, fetch_mt_bench
from smaug_eval.mt_bench.files.question_files import load_question_set
from smaug_eval.mt_bench.files.questions import OFFICIAL


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of a folder's files, and the paths that it is asked for."""
    handler = type("Recorded", (Quiet,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}", handler.asked
        served.shutdown()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the places of the real ones, pinned by their own hashes."""
    for name, source in SOURCES.items():
        path = tmp_path / "mirror" / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"name": "{name}"}}\n')
        monkeypatch.setitem(fetch.OFFICIAL, name, hashlib.sha256(path.read_bytes()).hexdigest())
    return tmp_path / "mirror"


def test_files_are_fetched_once(mirror: Path, tmp_path: Path) -> None:
    with server(mirror) as (home, asked):
        folder = fetch_mt_bench(home=home, cache=tmp_path / "cache")
        files = ["judge_prompts.jsonl", "question.jsonl", "reference_answer/gpt-4.jsonl"]
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == files
        assert asked == [f"/{SOURCES[name]}" for name in ("question.jsonl", files[0], files[2])]
        asked.clear()
        fetch_mt_bench(home=home, cache=tmp_path / "cache")
        assert asked == []
        fetch_mt_bench("corrected", home=home, cache=tmp_path / "cache")
        assert asked == [f"/{SOURCES['reference_answer/gpt-4-1106-preview.jsonl']}"]


def test_a_damaged_file_is_fetched_again(mirror: Path, tmp_path: Path) -> None:
    with server(mirror) as (home, asked):
        folder = fetch_mt_bench(home=home, cache=tmp_path / "cache")
        (folder / "question.jsonl").write_text("{")
        asked.clear()
        fetch_mt_bench(home=home, cache=tmp_path / "cache")
        assert asked == [f"/{SOURCES['question.jsonl']}"]
        assert (folder / "question.jsonl").read_text() == '{"name": "question.jsonl"}\n'


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(mirror: Path, tmp_path: Path) -> None:
    (mirror / SOURCES["judge_prompts.jsonl"]).write_text("{}\n")
    with server(mirror) as (home, _), pytest.raises(SmaugError, match=r"judge_prompts\.jsonl is not the file that was"):
        fetch_mt_bench(home=home, cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "judge_prompts.jsonl").exists()


def test_without_a_network_the_message_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(SmaugError) as refused:
        fetch_mt_bench(home="http://127.0.0.1:9", cache=tmp_path)
    assert f"http://127.0.0.1:9/{SOURCES['question.jsonl']} cannot be fetched" in str(refused.value)
    assert f"put it at {tmp_path / 'question.jsonl'}" in str(refused.value)
    assert "--mt-bench-dir" in str(refused.value)


def test_a_missing_file_is_an_error_that_names_the_status(mirror: Path, tmp_path: Path) -> None:
    (mirror / SOURCES["question.jsonl"]).unlink()
    with server(mirror) as (home, _), pytest.raises(SmaugError, match="404"):
        fetch_mt_bench(home=home, cache=tmp_path / "cache")


def test_references_without_a_home_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="'gpt-5' have no public home here; original and corrected have"):
        fetch_mt_bench("gpt-5", home="http://127.0.0.1:9", cache=tmp_path)


def test_the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "smaug-eval" / "mt_bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache() == Path("/home/somebody/.cache/smaug-eval/mt_bench")


def test_every_pinned_file_has_a_home_at_a_commit() -> None:
    assert SOURCES.keys() == OFFICIAL.keys()
    assert all(len(source.split("/")[2]) == 40 for source in SOURCES.values())


def test_the_real_files_are_taken_as_they_are(shared: Path, tmp_path: Path) -> None:
    for name, source in SOURCES.items():
        path = tmp_path / "mirror" / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((shared / "mt_bench" / name).read_bytes())
    with server(tmp_path / "mirror") as (home, _):
        folder = fetch_mt_bench("corrected", home=home, cache=tmp_path / "cache")
    assert load_question_set(folder, "corrected").official
