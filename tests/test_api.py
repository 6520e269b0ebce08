"""The verbs as functions."""

from __future__ import annotations

import importlib
import pkgutil

import smaug_eval


def test_no_module_hides_a_verb() -> None:
    # Importing a submodule binds its name in the package, over a function of the same name.
    modules = {module.name for module in pkgutil.iter_modules(smaug_eval.__path__)}
    assert modules.isdisjoint(smaug_eval.__all__)
    importlib.import_module("smaug_eval.pipeline")
    assert all(callable(getattr(smaug_eval, name)) for name in smaug_eval.__all__)
