"""List what to know beside judged scores: how the judge was called, and what judges are known to prefer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

from smaug_eval.mt_bench.files.records import JudgmentRecord, Judgments, PairJudgmentRecord
from smaug_eval.mt_bench.scores.pairs import PositionBias, pairs_without_verdict, position_bias

LONGER = 1.25
"""From how many times another model's mean length answers count as longer."""
MOST_INCONSISTENT = 0.25
"""Share of pairs that the order decides from which a reader is warned."""
_FAMILIES = (
    "gpt",
    "claude",
    "gemini",
    "gemma",
    "llama",
    "qwen",
    "mistral",
    "mixtral",
    "deepseek",
    "phi",
    "yi",
    "command",
)
_O_SERIES = re.compile(r"^o[134](?:-|$)")


def condition_notes(judgments: Judgments) -> list[str]:
    """Return the sentences about how judgments were made, without their full stops."""
    return [*_asking_notes(judgments), *length_notes(judgments), *self_notes(judgments), *pair_notes(judgments)]


def _asking_notes(judgments: Judgments) -> Iterator[str]:
    """Return the settings in which the judge was called otherwise than by FastChat."""
    counts: Counter[str] = Counter()
    total = 0
    for record in judgments.every:
        replies = record.smaug.get("replies")
        for reply in replies if isinstance(replies, list) else []:
            sent = reply.get("sent") if isinstance(reply, Mapping) else None
            if not isinstance(sent, Mapping):
                continue
            total += 1
            if sent.get("temperature") != 0:
                known = sent.get("temperature")
                counts["judged without temperature 0" + ("" if known is None else f" (at {known})")] += 1
            if "system" in sent:
                counts["judged without a system message, which stood before the user's text"] += 1
            if sent.get("reasoning_effort") is not None:
                counts[f"judged with reasoning_effort {sent['reasoning_effort']}"] += 1
            if reply.get("finish_reason") == "length":
                counts["judgments that were cut off at the judge's limit of tokens"] += 1
            if reply.get("finish_reason") == "content_filter":
                counts["judgments that a content filter cut off"] += 1
    for text, number in counts.items():
        yield f"{text}: {'all' if number == total else f'{number:,} of'} {total:,} answers of the judge"


def length_notes(judgments: Judgments) -> Iterator[str]:
    """Yield the models whose answers are clearly longer than another's and who score higher.

    Judges prefer longer answers.
    """
    lengths = mean_lengths(judgments)
    scores: dict[str, list[float]] = defaultdict(list)
    for record in judgments.single:
        if record.value is not None:
            scores[record.model].append(record.value)
    names = [name for name in lengths if lengths[name] > 0]
    for longer in names:
        shorter = [
            other
            for other in names
            if lengths[longer] >= LONGER * lengths[other] and _is_ahead(longer, other, scores, judgments.pairs)
        ]
        if shorter:
            other = min(shorter, key=lambda name: lengths[name])
            yield (
                f"the answers of {longer} are {lengths[longer] / lengths[other]:.1f} times as long as those of {other} "
                f"({lengths[longer]:,.0f} against {lengths[other]:,.0f} characters), and it scores higher: judges are "
                "known to prefer longer answers"
            )


def mean_lengths(judgments: Judgments) -> dict[str, float]:
    """Return the mean characters of each model's judged answers, where they were recorded."""
    found: dict[str, list[int]] = defaultdict(list)
    for record in judgments.every:
        models = (record.model,) if isinstance(record, JudgmentRecord) else (record.model_1, record.model_2)
        lengths = record.smaug.get("answer_characters")
        if isinstance(lengths, list | tuple) and len(lengths) == len(models):
            for model, length in zip(models, lengths, strict=True):
                if isinstance(length, int):
                    found[model].append(length)
    return {model: mean(own) for model, own in found.items()}


def _is_ahead(
    longer: str, other: str, scores: Mapping[str, Sequence[float]], pairs: Sequence[PairJudgmentRecord]
) -> bool:
    if scores.get(longer) and scores.get(other):
        return mean(scores[longer]) > mean(scores[other])
    won = 0
    for record in pairs:
        names = {"model_1": record.model_1, "model_2": record.model_2}
        if set(names.values()) == {longer, other} and record.g1_winner == record.g2_winner:
            winner = names.get(record.g1_winner)
            won += (winner == longer) - (winner == other)
    return won > 0


def self_notes(judgments: Judgments) -> Iterator[str]:
    """Return notes on judges that judged answers of themselves, or of a model of their own family."""
    seen: dict[tuple[str, str], None] = {}
    for record in judgments.every:
        models = (record.model,) if isinstance(record, JudgmentRecord) else (record.model_1, record.model_2)
        seen |= {(record.judge[0], model): None for model in models}
    for judge, model in seen:
        if not judge:
            continue
        if _plain(judge) == _plain(model):
            yield f"{judge} judges its own answers: judges are known to prefer these"
        elif (family := family_of(judge)) and family == family_of(model):
            yield f"{judge} judges {model}, a model of its own family: judges are known to prefer these"


def family_of(name: str) -> str:
    """Return a family of models by a name of one; empty where it is not known."""
    plain = _plain(name)
    if _O_SERIES.match(plain) or plain.startswith("chatgpt"):
        return "gpt"
    return next((family for family in _FAMILIES if re.search(rf"(?:^|[^a-z]){family}(?![a-z])", plain)), "")


def _plain(name: str) -> str:
    return name.rpartition("/")[2].strip().lower()


def pair_notes(judgments: Judgments) -> Iterator[str]:
    """Yield the pairs without a verdict, and a judge whose verdicts hang on the order, judge by judge."""
    by_judge: dict[str, list[PairJudgmentRecord]] = defaultdict(list)
    for record in judgments.pairs:
        by_judge[record.judge[0]].append(record)
    for judge, records in by_judge.items():
        who = judge or "the judge"
        unread = pairs_without_verdict(records)
        if unread and len(unread) == len({name for each in records for name in (each.model_1, each.model_2)}):
            yield f"{who} gave no verdict that can be read in any of {len(records):,} pairs; nothing is scored"
        bias = position_bias(records)
        if bias.pairs and 1 - bias.consistent / bias.pairs >= MOST_INCONSISTENT:
            yield f"{who} {bias_words(bias)}: its verdicts hang on the order"


def bias_words(bias: PositionBias) -> str:
    """Return a position bias as a phrase, after the judge's name."""
    shares = [f"{count / bias.pairs:.1%}" for count in (bias.consistent, bias.first, bias.second)]
    return (
        f"says the same in both orders of {shares[0]} of {bias.pairs:,} pairs, favours the answer shown first in "
        f"{shares[1]}, and the one shown second in {shares[2]}"
    )
