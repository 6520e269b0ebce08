"""Convert others' judgments to FastChat's lines: people's votes, arena-hard's games, alpaca_eval's annotations.

Votes: ``lmsys/mt_bench_human_judgments`` (``model_a``, ``model_b``, ``winner``). Games: arena-hard-auto's
``model_judgment`` (``games`` with ``score`` such as ``A>>B``; the first game shows the baseline first). Annotations:
alpaca_eval's ``annotations.json`` (``preference`` from 1, the first generator's, to 2, the second's).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from smaug_eval.mt_bench.files.lines import JsonLine

BASELINE = "baseline"
"""What arena-hard's baseline is called where a line does not name it."""
HUMAN_JUDGES = ("expert", "author", "human", "annotator")
"""How the names of people begin in files of votes."""

_VOTES = {"model_a": "model_1", "model_b": "model_2", "tie": "tie", "tie (inconsistent)": "inconsistent"}
_TIE = 1.5


def is_human(judge: str) -> bool:
    """Check whether a judge's name is one of a person's in a file of votes (``expert_12``, ``author_2``)."""
    return judge.partition("_")[0].lower() in HUMAN_JUDGES


def foreign_lines(line: JsonLine) -> Iterator[JsonLine]:
    """Yield a line of anybody's as lines of FastChat's; one of FastChat's as it is.

    Raises:
        SmaugError: it is in one of these forms, but damaged.
    """
    content = line.content
    if "model_a" in content and "model_b" in content and "winner" in content:
        yield _with(line, _vote(line))
    elif isinstance(content.get("games"), list):
        yield _with(line, _games(line))
    elif "generator_1" in content and "generator_2" in content:
        yield _with(line, _annotation(line))
    else:
        yield line


def _with(line: JsonLine, content: dict[str, Any]) -> JsonLine:
    return JsonLine(line.path, line.number, content)


def _vote(line: JsonLine) -> dict[str, Any]:
    winner = _VOTES.get(str(line.value("winner")).strip().lower())
    if winner is None:
        line.refuse(f"key 'winner' is {line.value('winner')!r}, none of {', '.join(_VOTES)}")
    judge = line.content.get("judge")
    return {
        "question_id": line.value("question_id"),
        "model_1": line.text("model_a"),
        "model_2": line.text("model_b"),
        "g1_winner": winner,
        "g2_winner": winner,
        "judge": judge if isinstance(judge, list | str) else "human",
        "turn": line.content.get("turn"),
        "tstamp": line.content.get("tstamp"),
    }


def _games(line: JsonLine) -> dict[str, Any]:
    """Two games of arena-hard: the baseline is A in the first, the model in the second."""
    games = line.value("games")
    if not games or not all(isinstance(game, Mapping) for game in games):
        line.refuse("key 'games' is not a list of games")
    first, second = games[0], games[-1] if len(games) > 1 else None
    found: dict[str, Any] = {
        "question_id": line.content.get("question_id", line.content.get("uid")),
        "model_1": str(line.content.get("baseline") or BASELINE),
        "model_2": line.text("model"),
        "g1_winner": _label(first, ("model_1", "model_2")),
        "judge": line.content.get("judge") or "",
        "g1_user_prompt": _prompt(first),
        "g1_judgment": _words(first),
        "turn": 1,
        "tstamp": line.content.get("tstamp"),
    }
    if second is None:
        found["g2_winner"], found["g2_user_prompt"], found["g2_judgment"] = found["g1_winner"], "", ""
    else:
        found["g2_winner"] = _label(second, ("model_2", "model_1"))
        found["g2_user_prompt"], found["g2_judgment"] = _prompt(second), _words(second)
    labels = [str(game.get("score")) for game in games]
    category = line.content.get("category")
    found["smaug"] = {"labels": labels, **({"category": category} if isinstance(category, str) else {})}
    return found


def _label(game: Mapping[str, Any], shown: tuple[str, str]) -> str:
    label = str(game.get("score") or "").strip().strip("[]").replace(" ", "")
    if label in ("A>>B", "A>B", "B<A", "B<<A"):
        return shown[0]
    if label in ("B>>A", "B>A", "A<B", "A<<B"):
        return shown[1]
    return "tie" if label in ("A=B", "B=A") else "error"


def _prompt(game: Mapping[str, Any]) -> str:
    value = game.get("user_prompt", game.get("prompt"))
    return value if isinstance(value, str) else ""


def _words(game: Mapping[str, Any]) -> str:
    value = game.get("judgment")
    if isinstance(value, Mapping):
        value = value.get("answer", value.get("content"))
    return "" if not isinstance(value, str) else value


def _annotation(line: JsonLine) -> dict[str, Any]:
    preference = line.content.get("preference")
    if isinstance(preference, bool) or not isinstance(preference, int | float | None):
        line.refuse(f"key 'preference' is {preference!r}, not a number from 1 to 2")
    if preference is None or (isinstance(preference, float) and math.isnan(preference)):
        winner = "error"
    elif preference in (0, _TIE):
        winner = "tie"
    else:
        winner = "model_1" if preference < _TIE else "model_2"
    lengths = [len(str(line.content.get(key) or "")) for key in ("output_1", "output_2")]
    dataset = line.content.get("dataset")
    smaug = {"preference": preference, "answer_characters": lengths}
    return {
        "question_id": str(line.content.get("instruction", line.number))[:200] or str(line.number),
        "model_1": line.text("generator_1"),
        "model_2": line.text("generator_2"),
        "g1_winner": winner,
        "g2_winner": winner,
        "judge": str(line.content.get("annotator") or ""),
        "turn": 1,
        "smaug": smaug | ({"category": dataset} if isinstance(dataset, str) else {}),
    }
