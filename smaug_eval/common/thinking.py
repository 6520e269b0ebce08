"""Separate the thinking that reasoning models write into their text from the answer that follows it."""

from __future__ import annotations

import re
from typing import NamedTuple

# By pair of tags: Qwen, DeepSeek and most others; Magistral; Kimi.
_NAMES = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning)"
_OPEN = re.compile(rf"<(?P<tag>{_NAMES})>|(?P<magistral>\[THINK\])|(?P<kimi>◁think▷)", re.I)
_CLOSE = re.compile(rf"</{_NAMES}>|\[/THINK\]|◁/think▷", re.I)
# gpt-oss: <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>answer
_CHANNEL = re.compile(
    r"<\|channel\|>analysis<\|message\|>.*?(?:<\|end\|>|$)(?:<\|start\|>assistant)?"
    r"|<\|start\|>assistant(?=<\|channel\|>)",
    re.S,
)
_FINAL = re.compile(r"<\|channel\|>final<\|message\|>|<\|(?:return|end)\|>\s*$")
_QUOTES = "`\"'“”‘’«»"


class Thinking(NamedTuple):
    """Hold a text in two parts: the thinking and the answer.

    Attributes:
        thoughts: What stood in blocks of thinking, without their tags; empty where there was none.
        answer: The text without these blocks; the text itself where there was none.
        found: Whether there was a block of thinking, even an empty one.
        finished: Whether every block was closed; one that was not takes all that follows it.
    """

    thoughts: str
    answer: str
    found: bool = False
    finished: bool = True


def split_thinking(text: str, *, opened: bool = False) -> Thinking:
    """Split blocks such as ``<think>...</think>`` off a text that a model wrote.

    A closing tag without an opening one ends thinking that the prompt opened. A block that is never closed counts
    only at the text's beginning. Tags in quotation marks or backticks are words about tags and stay, and so does a
    text without any tag.

    Args:
        text: What the model wrote.
        opened: Whether its prompt ends inside a block already.
    """
    if "<|channel|>" in text:
        return _split_channels(text)
    thoughts: list[str] = []
    rest, finished = text, True
    closing = _unquoted(_CLOSE, rest)
    opening = _unquoted(_OPEN, rest)
    if closing is not None and (opening is None or closing.start() < opening.start()):
        thoughts.append(rest[: closing.start()])
        rest = rest[closing.end() :]
    elif opened and closing is None:
        return Thinking(text.strip(), "", found=True, finished=False)
    place = 0
    while (opening := _unquoted(_OPEN, rest, place)) is not None:
        closing = _unquoted(_CLOSE, rest, opening.end())
        if closing is None:
            if rest[: opening.start()].strip():
                break
            thoughts.append(rest[opening.end() :])
            rest, finished = "", False
            break
        thoughts.append(rest[opening.end() : closing.start()])
        rest = rest[: opening.start()] + rest[closing.end() :]
        place = opening.start()
    if not thoughts:
        return Thinking("", text)
    return Thinking("\n".join(part.strip() for part in thoughts).strip(), rest.strip(), found=True, finished=finished)


def opens_thinking(prompt: str) -> bool:
    """Check whether a prompt ends with an opening tag, so that the model's text begins inside a thinking block."""
    tags = list(_OPEN.finditer(prompt))
    return bool(tags) and not prompt[tags[-1].end() :].strip()


def _split_channels(text: str) -> Thinking:
    found = _CHANNEL.findall(text)
    answer = _FINAL.sub("", _CHANNEL.sub("", text)).strip()
    thoughts = "\n".join(re.sub(r"<\|[a-z]+\|>(?:analysis|assistant)?", "", part).strip() for part in found).strip()
    return Thinking(thoughts, answer, found=bool(found), finished=bool(answer))


def _unquoted(pattern: re.Pattern[str], text: str, start: int = 0) -> re.Match[str] | None:
    """The first match that no quotation marks stand around."""
    for found in pattern.finditer(text, start):
        before, after = text[: found.start()][-1:], text[found.end() : found.end() + 1]
        if not (before and before in _QUOTES and after and after in _QUOTES):
            return found
    return None


class Reasoned(NamedTuple):
    """Hold what is left of a generation without its reasoning.

    Attributes:
        answer: What follows the reasoning, without space before it; empty where the reasoning has no end.
        thought: Whether there was reasoning.
        ended: Whether it ended, or there was none.
    """

    answer: str
    thought: bool
    ended: bool


def without_reasoning(text: str, *, end: str, start: str | None = None, prompt: str = "") -> Reasoned:
    """Remove a generation's reasoning by the text that ends it.

    What follows the last ``end`` is the answer, as in lm-eval (``postprocess_generated_text``). Without any, reasoning
    that was begun, by the prompt or by the text, has no end and leaves no answer; else the whole text is one. lm-eval
    scores the unfinished reasoning itself there.

    Args:
        text: What the model wrote.
        end: Ends the reasoning, such as ``</think>``.
        start: Begins it; ``end`` without its slash if None.
        prompt: What the model was given.
    """
    begin = end.replace("/", "", 1) if start is None else start
    if end in text:
        return Reasoned(text.rpartition(end)[2].lstrip(), thought=True, ended=True)
    opened = begin != end and (text.lstrip().startswith(begin) or prompt.rstrip().endswith(begin))
    return Reasoned("", thought=True, ended=False) if opened else Reasoned(text, thought=False, ended=True)
