"""Check whether an answer follows IFEval's instructions, with lm-eval's checker.

The checker agrees with the leaderboard's fork on GPT-4's 541 published answers. It is made repeatable: the detection of
languages has a seed, and so has the random letter that stands in for a "letter" such as "#" in two of the prompts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.v2_packages import imported, sentence_model

SEED = 0


def check(document: Mapping[str, Any], answer: str) -> dict[str, Any]:
    """Check an answer against every instruction of its prompt.

    Args:
        document: ``key``, ``prompt``, ``instruction_id_list`` and ``kwargs``; settings that are None, 0 or empty count
            as not given, as in the harness.
        answer: What the model wrote.

    Returns:
        ``prompt_level_strict_acc`` and ``prompt_level_loose_acc``: whether all were followed;
        ``inst_level_strict_acc`` and ``inst_level_loose_acc``: whether each was. Loose means that it holds for the
        answer without its first or last line or its asterisks.

    Raises:
        SmaugError: a package of the extra ``[v2]`` is missing, or an instruction is unknown.
    """
    state = random.getstate()
    try:
        sentence_model()
        imported("langdetect").DetectorFactory.seed = SEED
        utils: Any = imported("lm_eval.tasks.leaderboard.ifeval.utils")
        random.seed(SEED)
        found: dict[str, Any] = utils.process_results(document, [answer])
    except KeyError as error:
        raise SmaugError(
            f"IFEval, key {document['key']}: there is no instruction {error}", fix="use rows as the Hub has them"
        ) from error
    finally:
        random.setstate(state)
    return found
