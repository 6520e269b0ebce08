"""Fixtures: a Hub on loopback, and clients that ask it in this process or in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import Hub

TIMEOUT_SECONDS = 600


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub with nothing in it."""
    with Hub() as served:
        yield served


@dataclass
class HubHere:
    """The clients in this process, which ask a Hub on loopback and keep what they get in a cache of their own.

    Attributes:
        hub: The Hub.
        home: Takes the place of ``HF_HOME``.
    """

    hub: Hub
    home: Path
    patch: pytest.MonkeyPatch

    @property
    def cache(self) -> Path:
        """The cache of repositories."""
        return self.home / "hub"

    def offline(self, on: bool = True) -> None:
        """As with ``HF_HUB_OFFLINE`` set."""
        self.patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", on)
        self.patch.setattr("datasets.config.HF_HUB_OFFLINE", on)
        self.new_process()

    def token(self, token: str | None) -> None:
        """As with ``HF_TOKEN`` set."""
        if token is None:
            self.patch.delenv("HF_TOKEN", raising=False)
        else:
            self.patch.setenv("HF_TOKEN", token)
        self.new_process()

    def empty(self, name: str = "again") -> None:
        """Go on with an empty cache."""
        self._use(self.home.with_name(name))

    def new_process(self) -> None:
        """Forget what a process remembers; a process begins with nothing but the cache."""
        from smaug_eval.common.hub_data import forget_sets
        from smaug_eval.common.hub_requests import note_answer
        from smaug_eval.leaderboard import suite, suite_data

        forget_sets()
        note_answer(answered=True)
        for remembered in (suite._rows_by_subject, suite._data_notes, suite_data._rows_sha256):
            remembered.cache_clear()

    def _use(self, home: Path) -> None:
        self.home = home
        self.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(self.cache))
        self.patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home / "token"))
        self.patch.setattr("datasets.config.HF_DATASETS_CACHE", home / "datasets")
        self.patch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", home / "datasets" / "downloads")
        self.new_process()


class _Impatient:
    """The clock of a client that asks again without waiting."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Do not."""


@pytest.fixture
def hub_here(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubHere]:
    """The clients of this process ask ``hub``; its cache is empty."""
    import datasets
    import huggingface_hub.constants

    before = huggingface_hub.constants.ENDPOINT
    for name in ("HUGGINGFACE_CO_URL_TEMPLATE", "ENDPOINT"):
        now = getattr(huggingface_hub.constants, name).replace(before, hub.url)
        monkeypatch.setattr(huggingface_hub.constants, name, now)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    address = f"{hub.url}/datasets/{{repo_id}}/resolve/{{revision}}/{{path}}"
    monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", address)
    for client in ("huggingface_hub.utils._http", "smaug_eval.common.hub_requests"):
        monkeypatch.setattr(f"{client}.time", _Impatient())
    here = HubHere(hub, tmp_path / "none", monkeypatch)
    here.empty("hf_home")
    here.token(None)
    here.offline(False)
    yield here
    here.new_process()


@dataclass
class Commands:
    """Runs the command line in a process of its own, with a Hub on loopback.

    Attributes:
        hub: The Hub.
        folder: Where it runs.
        environment: Of the process; what is changed here holds for all that follow.
    """

    hub: Hub
    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``smaug-eval`` with arguments; keywords are added to its environment."""
        return subprocess.run(
            [sys.executable, "-m", "smaug_eval", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )

    def done(self, *arguments: str | Path, **environment: str) -> str:
        """Run it, make sure that it succeeds, and return all that it printed."""
        ended = self(*arguments, **environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    def done_together(self, *commands: Sequence[str], **environment: str) -> None:
        """Run several in one process, one after the other, which saves the time to start, and make sure they succeed.

        What a process remembers of the Hub is not forgotten between them.
        """
        program = (
            "import json, sys\nfrom smaug_eval.cli import app\n"
            "for command in json.loads(sys.argv[1]): app(command, standalone_mode=False)"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, json.dumps(commands)],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert ended.returncode == 0, ended.stderr

    def refused(self, *arguments: str | Path, **environment: str) -> str:
        """Run it, make sure that it refuses without a traceback, and return what it says."""
        ended = self(*arguments, **environment)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr


@pytest.fixture
def smaug_eval_command(hub: Hub, tmp_path: Path) -> Commands:
    """The command line as a process that asks ``hub``, with an empty ``HF_HOME``."""
    return Commands(hub, tmp_path, hub_environment(hub, tmp_path / "hf_home"))


def hub_environment(hub: Hub, home: Path) -> dict[str, str]:
    """The environment of a process that asks a Hub on loopback.

    Args:
        hub: The Hub.
        home: Its ``HF_HOME``.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SMAUG_"))}
    return kept | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "XDG_CACHE_HOME": str(home / "xdg"),
    }
