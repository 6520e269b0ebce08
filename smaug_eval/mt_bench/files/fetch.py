"""Fetch MT-Bench's files from their public homes, at pinned commits and with checked SHA-256.

Questions, judge prompts and the original references are FastChat's; the corrected references are in the repository of
SimPO. They are no part of this package.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import open_atomically, user_cache
from smaug_eval.mt_bench.files.question_files import content_hash
from smaug_eval.mt_bench.files.questions import OFFICIAL, PROMPT_FILE, QUESTION_FILE, REFERENCE_FILES, REFERENCE_FOLDER

HOME = "https://raw.githubusercontent.com"
_FASTCHAT = "lm-sys/FastChat/587d5cfa1609a43d192cedb8441cac3c17db105d/fastchat/llm_judge/data"
_SIMPO = "princeton-nlp/SimPO/e36b6d5946a60684e25a908a740a91ae2418903f/eval/mt-bench"

SOURCES = {
    QUESTION_FILE: f"{_FASTCHAT}/mt_bench/question.jsonl",
    PROMPT_FILE: f"{_FASTCHAT}/judge_prompts.jsonl",
    f"{REFERENCE_FOLDER}/gpt-4.jsonl": f"{_FASTCHAT}/mt_bench/reference_answer/gpt-4.jsonl",
    f"{REFERENCE_FOLDER}/gpt-4-1106-preview.jsonl": f"{_SIMPO}/gpt-4-1106-preview.jsonl",
}
"""Each file's path below ``HOME``."""

_TIMEOUT = 30.0
_LARGEST = 10_000_000


def default_cache() -> Path:
    """Return where fetched files are kept, in the user's cache directory (``XDG_CACHE_HOME``)."""
    return user_cache() / "mt_bench"


def fetch_mt_bench(references: str = "original", *, home: str = HOME, cache: Path | None = None) -> Path:
    """Fetch a folder with MT-Bench's files; those that are already in the cache are not fetched again.

    Args:
        references: ``original`` or ``corrected``, or the stem of one of their files.
        home: Scheme and host that the paths of ``SOURCES`` are below, for a mirror.
        cache: Where to keep the files; :func:`default_cache` where None.

    Raises:
        SmaugError: other references are requested, there is no network, or a file is not the one that was pinned; the
            message says what to put where.
    """
    folder = cache or default_cache()
    wanted = f"{REFERENCE_FOLDER}/{REFERENCE_FILES.get(references, references)}.jsonl"
    if wanted not in SOURCES:
        raise SmaugError(
            f"reference answers {references!r} have no public home here; {' and '.join(REFERENCE_FILES)} have",
            fix="choose one of these, or give a folder that holds them (--mt-bench-dir)",
        )
    for name in (QUESTION_FILE, PROMPT_FILE, wanted):
        path = folder / name
        if not path.is_file() or content_hash(path) != OFFICIAL[name]:
            _fetch(f"{home.rstrip('/')}/{SOURCES[name]}", path, OFFICIAL[name])
    return folder


def _fetch(url: str, path: Path, expected: str) -> None:
    content = _download(url, path)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise SmaugError(
            f"{url} is not the file that was pinned: SHA-256 {found}, expected {expected}",
            fix=f"put the right file at {path}, or give a folder with --mt-bench-dir",
        )
    with open_atomically(path) as file:
        file.write(content)


def _download(url: str, path: Path) -> bytes:
    content = bytearray()
    try:
        with httpx.stream("GET", url, timeout=_TIMEOUT, follow_redirects=True) as response:
            response.raise_for_status()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > _LARGEST:
                    break  # cannot be the pinned file; its hash will say so
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SmaugError(
            f"{url} cannot be fetched: {error or type(error).__name__}",
            fix=f"fetch it elsewhere and put it at {path}, or give a folder in FastChat's layout with --mt-bench-dir",
        ) from error
    return bytes(content)
