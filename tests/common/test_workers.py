from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smaug_eval.common import workers
from smaug_eval.common.workers import spread


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 3)


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_results_stand_in_the_order_of_the_items_and_no_process_is_left() -> None:
    before = children()
    assert spread(str.upper, ["a", "b", "c", "d", "e"]) == ["A", "B", "C", "D", "E"]
    assert spread(len, ["x" * 3_000_000, ""]) == [3_000_000, 0]
    assert spread(str.upper, []) == []
    assert children() == before


def test_what_raises_or_kills_its_process_is_left_to_the_caller() -> None:
    assert spread(int, ["1", "no number", "3", "4"]) == [1, None, 3, 4]
    # Two of three processes end in the middle; the third does the rest.
    assert spread(os._exit, [1, 1]) == [None, None]
    assert spread(eval, ["1", "__import__('os')._exit(1)", "2", "3"]) == [1, None, 2, 3]


def test_with_one_processor_or_one_item_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.subprocess, "Popen", None)
    assert spread(str.upper, ["a"]) == [None]
    monkeypatch.setattr(workers, "cores", lambda: 1)
    assert spread(str.upper, ["a", "b"]) == [None, None]


def test_where_no_process_can_be_started_all_is_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "executable", "/no/such/program")
    assert spread(str.upper, ["a", "b"]) == [None, None]


SCRIPT = """
from smaug_eval.common import workers
import sys, time
print("begun", flush=True)
workers.cores = lambda: 2
workers.spread(time.sleep, [60, 60])
"""


@pytest.mark.parametrize(("number", "message"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGKILL, "")])
def test_ctrl_c_and_a_kill_leave_no_process_and_the_program_of_the_user_runs_once(
    tmp_path: Path, number: int, message: str
) -> None:
    program = tmp_path / "program.py"  # without a guard around what it does
    program.write_text(SCRIPT.replace("60", "1.5") if number == signal.SIGKILL else SCRIPT)
    run = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    listing = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    deadline = time.monotonic() + 60
    while len(found := listing.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(found) == 2
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert out == "begun\n"
    assert [line for line in err.splitlines() if not line.startswith(" ")][-1:] == ([message] if message else [])
    while any(_runs(each) for each in found) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_runs(each) for each in found)


def _runs(process: str) -> bool:
    try:
        return "smaug_eval.common.workers" in Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return False
