from __future__ import annotations

import gc

import pytest

from smaug_eval.common.collector import collector_paused


def test_the_collector_runs_again_afterwards_where_it_ran_before() -> None:
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="invalid literal"), collector_paused():
        int("no number")
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
