"""The file of a judge's judgments: what is in it already, what is out of date, and what a new line says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smaug_eval.files import canonical_json, sha256_of_text, write_text
from smaug_eval.mt_bench.budget import Tokens
from smaug_eval.mt_bench.endpoint import Reply
from smaug_eval.mt_bench.layout import copy_aside
from smaug_eval.mt_bench.lines import Line, mend, sound_lines
from smaug_eval.mt_bench.parsing import fastchat_winner, read_judgment
from smaug_eval.mt_bench.plan import Key, Match
from smaug_eval.mt_bench.prompts import JudgeRequest
from smaug_eval.mt_bench.records import JudgmentRecord, PairJudgmentRecord, judgment_of

Record = JudgmentRecord | PairJudgmentRecord

_WINNERS = ({"A": "model_1", "B": "model_2"}, {"A": "model_2", "B": "model_1"})
"""Who ``A`` and ``B`` are in each of the two games."""


@dataclass(frozen=True)
class Game:
    """A judge's answer in one order of two, kept until the other is there.

    Attributes:
        request: Name of what the judge was sent.
        repeat: Of the match.
        reply: What it answered.
    """

    request: str
    repeat: int
    reply: Reply

    def as_json(self) -> dict[str, Any]:
        """A line of the file of games."""
        return asdict(self)


def request_id(request: JudgeRequest) -> str:
    """A short name for what a judge is sent, the system message included."""
    return sha256_of_text(canonical_json([request.system, request.user]))[:16]


def up_to_date(file: Path, judge: str, matches: Sequence[Match]) -> tuple[set[Key], list[Record]]:
    """Which matches are judged in ``file``, and the records of it that are not out of date.

    A record is out of date where it is of one of the matches, but the judge was sent something else, or where its
    verdict is not what the judge's words say: then somebody, or the disk, has altered it. Records of other matches and
    judges are none of our business; damaged lines are left out.
    """
    wanted = {match.key: match for match in matches}
    judged, kept = set(), []
    for record in read_records(file):
        match = wanted.get(_key(record)) if record.judge[0] == judge else None
        if match is None:
            kept.append(record)
        elif match.key not in judged and _was_sent(record, match.requests) and _says_its_verdict(record):
            judged.add(match.key)
            kept.append(record)
    return judged, kept


def drop_out_of_date(file: Path, judge: str, matches: Sequence[Match], notice: Callable[[str], None]) -> set[Key]:
    """Take what is out of date, and what is there twice, out of ``file``, of which a copy stays beside it.

    Returns:
        Which matches are judged in it.
    """
    mend(file, notice, judgment_of)
    judged, kept = up_to_date(file, judge, matches)
    there = len(read_records(file))
    if len(kept) < there:
        dropped = there - len(kept)
        aside = copy_aside(file).name
        notice(f"{file}: {dropped} judgments of other answers or prompts, or altered; they are now in {aside}")
        write_records(file, kept)
    return judged


def put_in_order(file: Path, judge: str, matches: Sequence[Match]) -> None:
    """Order the judgments as ``matches`` are, whatever the order in which they came; others stand before them."""
    places = {match.key: place for place, match in enumerate(matches)}
    records = read_records(file)
    ordered = sorted(records, key=lambda record: places.get(_key(record), -1) if record.judge[0] == judge else -1)
    if ordered != records:
        write_records(file, ordered)


def read_records(file: Path) -> Sequence[Record]:
    """The judgments of a file of one kind, without damaged lines; none where it is not there."""
    return list(sound_lines(file, judgment_of))


def write_records(file: Path, records: Iterable[Record]) -> None:
    """Write a file of judgments anew."""
    write_text(file, "".join(json.dumps(record.as_json()) + "\n" for record in records))


def read_games(file: Path) -> dict[tuple[str, int], Reply]:
    """The answers kept for want of the other order's, by request and repeat."""
    return {(game.request, game.repeat): game.reply for game in sound_lines(file, game_of)}


def game_of(line: Line) -> Game:
    """The game that a line of the file of games holds.

    Raises:
        SmaugError: it is none; the message names the file and the line.
    """
    try:
        reply = dict(line.value("reply"))
        known = Reply(**reply | {"tokens": Tokens(**reply["tokens"])})
        return Game(line.text("request"), int(line.value("repeat")), known)
    except (TypeError, ValueError, KeyError) as error:
        line.refuse(f"no answer of a judge: {error}")


def record_of(match: Match, judge: str, replies: Sequence[Reply]) -> Record:
    """The judgment that a judge's answers amount to, read by FastChat's rule."""
    prompt_name = match.requests[0].prompt_name
    common: dict[str, Any] = {
        "question_id": match.question.question_id,
        "judge": (judge, prompt_name),
        "turn": match.turn,
        "tstamp": time.time(),
    }
    said: dict[str, Any] = {
        "repeat": match.repeat,
        "category": match.question.category,
        "requests": [request_id(request) for request in match.requests],
        "replies": [_about(reply) for reply in replies],
    }
    if len(match.models) == 1:
        (request,), (reply,) = match.requests, replies
        reading = read_judgment(reply.text)
        return JudgmentRecord(
            model=match.models[0],
            user_prompt=request.user,
            judgment=reply.text,
            score=reading.score,
            smaug={**said, "strict_score": reading.strict},
            **common,
        )
    first, second = _winners(*(reply.text for reply in replies))
    return PairJudgmentRecord(
        model_1=match.models[0],
        model_2=match.models[1],
        g1_winner=first,
        g2_winner=second,
        g1_user_prompt=match.requests[0].user,
        g1_judgment=replies[0].text,
        g2_user_prompt=match.requests[1].user,
        g2_judgment=replies[1].text,
        smaug=said,
        **common,
    )


def _about(reply: Reply) -> dict[str, Any]:
    """What is recorded of an answer beside its text."""
    about = asdict(reply)
    del about["text"]
    return about


def _key(record: Record) -> Key:
    models = (record.model,) if isinstance(record, JudgmentRecord) else (record.model_1, record.model_2)
    return record.question_id, record.turn, models, record.judge[1], record.repeat or 1


def _winners(first: str, second: str) -> tuple[str, str]:
    """The winner of each game by what the judge said of it."""
    said = fastchat_winner(first), fastchat_winner(second)
    return _WINNERS[0].get(said[0], said[0]), _WINNERS[1].get(said[1], said[1])


def _says_its_verdict(record: Record) -> bool:
    if not record.smaug:
        return True  # not of ours: what other programs, or people, take for the verdict is theirs
    if isinstance(record, JudgmentRecord):
        return record.score in (read_judgment(record.judgment).score, None)
    return (record.g1_winner, record.g2_winner) == _winners(record.g1_judgment, record.g2_judgment)


def _was_sent(record: Record, requests: Sequence[JudgeRequest]) -> bool:
    if isinstance(record, JudgmentRecord):
        sent = [record.user_prompt]
    else:
        sent = [record.g1_user_prompt, record.g2_user_prompt]
    named = record.smaug.get("requests")
    return sent == [request.user for request in requests] and (
        named is None or named == [request_id(request) for request in requests]
    )
