"""Fixtures for every test: nothing reaches the network, and the shared folder is optional."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from smaug_eval.common import redaction

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A shell that starts the tests in the background lets them, and every process that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not fail a property: time is no part of what is tested.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

pytest_plugins = ("tests.run_writer", "tests.hub.fixtures", "tests.engines.served.vllm_server")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadgroup`` give a worker whole files, so that what a file's tests share is made once.

    Tests of an ``xdist_group`` stay together as they do without this; they may come from several files, or be a part
    of one.
    """
    from xdist.scheduler import LoadGroupScheduling

    class ByFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            return nodeid.partition("::")[0] if scope == nodeid else scope

    if config.getvalue("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False  # the order is that of pytest_collection_modifyitems
    return ByFile(config, log)


def _scope(item: pytest.Item) -> str:
    group = item.get_closest_marker("xdist_group")
    return item.nodeid.partition("::")[0] if group is None else str(group.args[0])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers begin with what has the most slow tests, so that no long one is left over for the end."""
    if not hasattr(config, "workerinput"):
        return
    slow = Counter(_scope(item) for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[_scope(item)], _scope(item)))


@pytest.fixture(autouse=True)
def _hub_asked_anew() -> None:
    """A Hub that did not answer in one test is asked again in the next."""
    from smaug_eval.common.hub_requests import note_answer

    note_answer(answered=True)


REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget with each test the keys that it made known: another test's data may hold the same text."""
    monkeypatch.setattr(redaction, "_kept", set(redaction._kept))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the repository; tests that need it skip without it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the reference material in ../shared")
    return folder
