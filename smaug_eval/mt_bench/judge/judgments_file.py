"""Keep the file of a judge's judgments: what it holds already, what is out of date, and what a new line holds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json, sha256_of_text, write_text
from smaug_eval.common.served.budget import Tokens
from smaug_eval.common.served.endpoint import Reply
from smaug_eval.common.thinking import split_thinking
from smaug_eval.mt_bench.files.layout import copy_aside
from smaug_eval.mt_bench.files.lines import JsonLine, mend, sound_lines, torn_line
from smaug_eval.mt_bench.files.record_files import judgment_of, judgments_of, read_judgments
from smaug_eval.mt_bench.files.records import JudgmentRecord, Judgments, PairJudgmentRecord
from smaug_eval.mt_bench.files.settings import JudgmentSettings
from smaug_eval.mt_bench.judge.parsing import fastchat_winner, read_judgment, read_winner
from smaug_eval.mt_bench.judge.plan import Key, Match
from smaug_eval.mt_bench.judge.prompts import JudgeRequest

Record = JudgmentRecord | PairJudgmentRecord

_OF_READING = ("verdict", "strict_score", "raw_score", "raw_winners")
_WINNERS = ({"A": "model_1", "B": "model_2"}, {"A": "model_2", "B": "model_1"})
"""Who ``A`` and ``B`` are in each of the two games."""


@dataclass(frozen=True)
class Game:
    """Hold a judge's answer in one order of two, until the other is there.

    Attributes:
        request: Name of what the judge was sent.
        repeat: Of the match.
        reply: What it answered.
    """

    request: str
    repeat: int
    reply: Reply

    def as_json(self) -> dict[str, Any]:
        """Return a line of the file of games."""
        return asdict(self)


def request_id(request: JudgeRequest) -> str:
    """Return a short name for what a judge is sent, the system message included."""
    return sha256_of_text(canonical_json([request.system, request.user]))[:16]


def up_to_date(
    file: Path, judge: str, matches: Sequence[Match], verdict: str | None = None
) -> tuple[set[Key], list[Record]]:
    """Return which matches are judged in ``file``, and the records of it that are not out of date.

    The judge's words are read as they are to be read now, by ``verdict`` where the set has a pattern of its own.

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
            kept.append(_read_again(record, verdict))
    return judged, kept


def drop_out_of_date(
    file: Path, judge: str, matches: Sequence[Match], notice: Callable[[str], None], verdict: str | None = None
) -> set[Key]:
    """Remove lines that are out of date or duplicates from ``file``, of which a copy stays beside it.

    Returns:
        Which matches are judged in it.
    """
    mend(file, notice, judgment_of)
    judged, kept = up_to_date(file, judge, matches, verdict)
    there = read_records(file)
    if len(kept) == len(there) and kept != there:
        notice(f"{file}: verdicts are read again from the judge's text; the old file is now {copy_aside(file).name}")
        write_records(file, kept)
    if len(kept) < len(there):
        dropped = len(there) - len(kept)
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
    """Read the judgments of a file of one kind, without damaged lines; none where it is not there."""
    return list(sound_lines(file, judgment_of))


def write_records(file: Path, records: Iterable[Record]) -> None:
    """Write a whole file of judgments again."""
    write_text(file, "".join(json.dumps(record.as_json()) + "\n" for record in records))


def load_judgment_files(files: Sequence[Path], given: Collection[Path] = ()) -> Judgments:
    """Load judgments, read behind the judges' thinking, and what the settings beside them list as missing.

    Args:
        files: In order.
        given: Those of them that were named; one without a judgment is an error, while one found in a folder is noted.

    Raises:
        SmaugError: a file is malformed, or there is no judgment.
    """
    found = Judgments()
    for file in files:
        own = read_judgments([file])
        if not own.single and not own.pairs:
            torn = " but a line that was never finished" if torn_line(file) is not None else ""
            if file in given or len(files) == 1:
                raise SmaugError(
                    f"{file} holds no judgment{torn}", fix="judge the answers, write the file again, or leave it out"
                )
            own.notes = [f"{file.name} holds no judgment{torn}"]
        found.single += own.single
        found.pairs += own.pairs
        found.notes += own.notes
        found.missing += missing_in(JudgmentSettings.read(file), file)
    if not found.single and not found.pairs:
        raise SmaugError("the files hold no judgment", fix="judge the answers first (smaug-eval mt-bench judge)")
    return decided(found)


def missing_in(settings: JudgmentSettings, file: Path) -> list[dict[str, Any]]:
    """Return what a file lacks by its settings: what they list as missing, or less there than was planned."""
    if settings.missing is not None:
        return [dict(each) for each in settings.missing]
    if settings.planned is None:
        return []
    there = len(read_records(file))
    return [{"reason": "the judging was stopped"}] * max(0, settings.planned - there)


def judgments_of_rows(rows: Sequence[Mapping[str, Any]]) -> Judgments:
    """Return the judgments of lines in memory.

    Raises:
        SmaugError: a line is no judgment; the message says which.
    """
    found = Judgments()
    for number, row in enumerate(rows, 1):
        found.add(judgments_of(JsonLine(Path("rows"), number, dict(row))))
    return decided(found)


def decided(judgments: Judgments) -> Judgments:
    """Return the judgments with the verdicts that stand behind the judges' thinking.

    A verdict that FastChat's rule took from the thinking is replaced, and stands beside it (``raw_score``,
    ``raw_winners``); every other one stays what it was recorded as.
    """
    single = [_decided_single(record) for record in judgments.single]
    return replace(judgments, single=single, pairs=[_decided_pair(record) for record in judgments.pairs])


def _decided_single(record: JudgmentRecord) -> JudgmentRecord:
    if record.verdict is not None or not record.judgment or not split_thinking(record.judgment).found:
        return record
    reading = read_judgment(record.judgment)
    if reading.raw is None or record.score != reading.raw:
        return record
    return replace(record, score=reading.score, smaug={**record.smaug, "raw_score": reading.raw})


def _decided_pair(record: PairJudgmentRecord) -> PairJudgmentRecord:
    texts = record.g1_judgment, record.g2_judgment
    if record.verdict is not None or not any(split_thinking(text).found for text in texts):
        return record
    found, raw = _winners(*texts, None), raw_winners(record)
    if found == raw or (record.g1_winner, record.g2_winner) != raw:
        return record
    smaug = {**record.smaug, "raw_winners": list(raw)}
    return replace(record, g1_winner=found[0], g2_winner=found[1], smaug=smaug)


def read_games(file: Path) -> dict[tuple[str, int], Reply]:
    """Read the answers kept for want of the other order's, by request and repeat."""
    return {(game.request, game.repeat): game.reply for game in sound_lines(file, game_of)}


def game_of(line: JsonLine) -> Game:
    """Return the game that a line of the file of games holds.

    Raises:
        SmaugError: it is none; the message names the file and the line.
    """
    try:
        reply = dict(line.value("reply"))
        known = Reply(**reply | {"tokens": Tokens(**reply["tokens"])})
        return Game(line.text("request"), int(line.value("repeat")), known)
    except (TypeError, ValueError, KeyError) as error:
        line.refuse(f"no answer of a judge: {error}")


def record_of(match: Match, judge: str, replies: Sequence[Reply], verdict: str | None = None) -> Record:
    """Return the judgment that a judge's answers amount to, read by FastChat's rule or the set's own pattern."""
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
        "answer_characters": list(match.lengths),
    }
    if len(match.models) == 1:
        (request,), (reply,) = match.requests, replies
        single = JudgmentRecord(
            model=match.models[0],
            user_prompt=request.user,
            judgment=reply.text,
            score=None,
            smaug=said,
            **common,
        )
        return _read_anew(single, verdict)
    pair = PairJudgmentRecord(
        model_1=match.models[0],
        model_2=match.models[1],
        g1_winner="error",
        g2_winner="error",
        g1_user_prompt=match.requests[0].user,
        g1_judgment=replies[0].text,
        g2_user_prompt=match.requests[1].user,
        g2_judgment=replies[1].text,
        smaug=said,
        **common,
    )
    return _read_anew(pair, verdict)


def _read_again(record: Record, verdict: str | None) -> Record:
    """A record of ours with its verdict as it is read now; one of others as it is."""
    return _read_anew(record, verdict) if "replies" in record.smaug else record


def _read_anew(record: Record, verdict: str | None) -> Record:
    """A record with the verdict that its text holds, and beside it what FastChat's rule makes of the whole text.

    That stands there only where the two differ: where the judge's thinking holds a verdict, too.
    """
    smaug = {key: value for key, value in record.smaug.items() if key not in _OF_READING}
    if verdict is not None:
        smaug["verdict"] = verdict
    if isinstance(record, JudgmentRecord):
        reading = read_judgment(record.judgment, verdict)
        smaug["strict_score"] = reading.strict
        if reading.raw is not None:
            smaug["raw_score"] = reading.raw
        return replace(record, score=reading.score, smaug=smaug)
    first, second = _winners(record.g1_judgment, record.g2_judgment, verdict)
    raw = list(raw_winners(record))
    if raw != [first, second] and verdict is None:
        smaug["raw_winners"] = raw
    return replace(record, g1_winner=first, g2_winner=second, smaug=smaug)


def raw_winners(record: PairJudgmentRecord) -> tuple[str, str]:
    """Return the winners of both games by FastChat's rule on the whole of each text."""
    said = fastchat_winner(record.g1_judgment), fastchat_winner(record.g2_judgment)
    return _WINNERS[0].get(said[0], said[0]), _WINNERS[1].get(said[1], said[1])


def _about(reply: Reply) -> dict[str, Any]:
    """What is recorded of an answer beside its text."""
    about = asdict(reply)
    del about["text"]
    if not reply.reasoning:
        del about["reasoning"]
    return about


def _key(record: Record) -> Key:
    models = (record.model,) if isinstance(record, JudgmentRecord) else (record.model_1, record.model_2)
    return record.question_id, record.turn, models, record.judge[1], record.repeat or 1


def _winners(first: str, second: str, verdict: str | None) -> tuple[str, str]:
    """The winner of each game by what the judge said of it."""
    said = read_winner(first, verdict), read_winner(second, verdict)
    return _WINNERS[0].get(said[0], said[0]), _WINNERS[1].get(said[1], said[1])


def _says_its_verdict(record: Record) -> bool:
    """Whether the recorded verdict is what the text says: behind the judge's thinking or, as before, in the whole."""
    if not record.smaug:
        return True  # not of ours: what other programs, or people, take for the verdict is theirs
    if isinstance(record, JudgmentRecord):
        reading = read_judgment(record.judgment, record.verdict)
        return record.score in (reading.score, reading.raw, None)
    found = record.g1_winner, record.g2_winner
    return found in (_winners(record.g1_judgment, record.g2_judgment, record.verdict), raw_winners(record))


def _was_sent(record: Record, requests: Sequence[JudgeRequest]) -> bool:
    if isinstance(record, JudgmentRecord):
        sent = [record.user_prompt]
    else:
        sent = [record.g1_user_prompt, record.g2_user_prompt]
    named = record.smaug.get("requests")
    return sent == [request.user for request in requests] and (
        named is None or named == [request_id(request) for request in requests]
    )
