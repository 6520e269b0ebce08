"""The verbs as functions."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import smaug_eval


def test_no_module_hides_a_verb() -> None:
    # Importing a submodule binds its name in the package, over a function of the same name.
    modules = {module.name for module in pkgutil.iter_modules(smaug_eval.__path__)}
    assert modules.isdisjoint(smaug_eval.__all__)
    importlib.import_module("smaug_eval.pipeline")
    assert all(callable(getattr(smaug_eval, name)) for name in smaug_eval.__all__)


def test_a_report_is_done_again_where_what_it_shows_has_other_names(tmp_path: Path) -> None:
    def key_of_report(evaluation: str) -> str:
        entry = {"suite": "demo", "tasks": ["facts"], "limit": 1, "engine": "torch"}
        recipe = {"name": "named", "model": "embedded:demo-model", "evaluations": {evaluation: entry}}
        return smaug_eval.prepare(recipe, runs=tmp_path).stages[-1].key

    assert key_of_report("first") == key_of_report("first")
    assert key_of_report("first") != key_of_report("second")
