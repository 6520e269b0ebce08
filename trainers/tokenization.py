"""Tokenise pairs: how a prompt and its two completions become token ids.

The ids of a prompt are those that three encodings begin with: of the prompt alone, of the prompt with the chosen
completion and of the prompt with the rejected one. What follows in the latter two is the completions'. So no part of a
completion is lost, and both follow the same prompt. Where a token spans the border, it belongs to the completions, with
the prompt's characters in it; such pairs are counted. (TRL 1.16 draws the border in the same way.)

In rows of text, spaces at the prompt's end are moved to the completions, as the evaluation harness does; where no token
spans the border, a completion is scored in training exactly as the same text is in evaluation.

Rows of messages become text through the tokenizer's chat template (:mod:`smaug_eval.trainers.chats`), which also writes
their begin token and their ends of turns. Their prompt ends with the template's opening of an answer.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.chats import ChatTemplate, ChatTexts
from smaug_eval.trainers.encoded_pair import EncodedPair as EncodedPair
from smaug_eval.trainers.encoded_pair import EncodedPairs as EncodedPairs
from smaug_eval.trainers.encoded_pair import TokenIds, shared_length
from smaug_eval.trainers.pairs.pair import COMPLETION_COLUMN, LABEL_COLUMN, WEIGHT_COLUMN
from smaug_eval.trainers.truncation import Limits, TruncationMode, cut_prompt

Row = Mapping[str, Any]
CHUNK = 1000
ENCODING_RULE = 2
"""Version of what this module makes of a row; results of version 1 do not name it."""


FIX_UNPAIRED = "choose loss kto, which reads unpaired rows, or give rows with chosen and rejected"


class PairSink(Protocol):
    """Receive encoded pairs, and give them back."""

    def append(self, pair: EncodedPair) -> None:
        """Add a pair."""
        ...

    def read(self) -> Sequence[EncodedPair]:
        """Return all pairs; none follows."""
        ...


@dataclass(frozen=True)
class PairEncoder:
    """Encode pairs with one tokenizer and one set of limits.

    Attributes:
        tokenizer: The model's tokenizer, with its chat template where rows hold messages.
        max_length: Most tokens of prompt and completion together.
        max_prompt_length: Most tokens of the prompt, or None for what ``max_length`` leaves beside the completions.
        append_eos: Whether a completion that is not cut ends with the end-of-text token; in rows of messages, where the
            chat template writes no end of its own behind an answer.
        long_prompts: What is done with a pair whose prompt must be cut to fit: ``truncate`` cuts it, ``drop`` leaves
            the pair out.
        max_completion_length: Most tokens of each completion; None for the rule of
            :mod:`smaug_eval.trainers.truncation`.
        truncation_mode: What is cut of a pair that is too long; see :mod:`smaug_eval.trainers.truncation`.
        template_settings: What chat templates are given beside the messages; a row's own settings take precedence.
        date: The day that chat templates take for today; None for today.
        system_prompt: A system message for rows of messages without one; None for none.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    max_prompt_length: int | None = None
    append_eos: bool = True
    long_prompts: Literal["truncate", "drop"] = "truncate"
    max_completion_length: int | None = None
    truncation_mode: TruncationMode = "balanced"
    template_settings: Mapping[str, Any] | None = None
    date: datetime.date | None = None
    system_prompt: str | None = None

    def encode(self, rows: Iterable[Row], *, labelled: bool = False, into: PairSink | None = None) -> EncodedPairs:
        """Encode pairs; those that cannot teach anything are dropped and counted.

        The first id is the begin token where the tokenizer or the template writes one, once. An uncut completion of
        text ends with one end token; one of messages ends as the template ends a turn.

        Args:
            rows: ``prompt``, ``chosen``, ``rejected``: three texts, or three lists of ``{"role", "content"}`` messages,
                with further keys and columns as :func:`smaug_eval.trainers.pairs.read.read_pairs` gives them. They are
                taken one after the other, and none is kept.
            labelled: Whether the rows are unpaired: ``prompt``, ``completion``, ``label``. Each gives a pair with its
                label whose two completions are the same; what stands beside it is for
                :class:`smaug_eval.trainers.unpaired.Mismatched` to say.
            into: Receives the pairs instead of a list, and gives them back as a sequence.

        Returns:
            The pairs in order. Reasons to drop one: ``empty_completion``, ``identical_tokens`` (without any cut),
            ``prompt_too_long`` (only with ``long_prompts="drop"`` or ``truncation_mode="keep_start"``),
            ``identical_after_truncation``, and ``duplicate`` (every id as in an earlier pair).

        Raises:
            SmaugError: rows hold messages, and the tokenizer has no chat template, or the template refuses a row,
                passes over what matters in it or does not write the prompt the same way with and without an answer; or
                a row is unpaired where pairs are wanted, or the reverse. Row numbers count from 1.
        """
        date = self.date or datetime.datetime.now().astimezone().date()
        template = ChatTemplate(
            self.tokenizer, settings=self.template_settings, date=date, system_prompt=self.system_prompt
        )
        encoded = EncodedPairs()
        kept: PairSink = _Listed() if into is None else into
        seen: set[bytes] = set()
        for found in self._untruncated(rows, template, labelled):
            pair, (cut, start) = found.pair, self._truncate(found)
            reason = self._reason_to_drop(pair, cut)
            if reason is None and _digest(cut) in seen:
                reason = "duplicate"
            if reason is not None:
                encoded.dropped[reason] += 1
                continue
            seen.add(_digest(cut))
            prompt_cut = len(cut.prompt) < len(pair.prompt)
            completion_cut = len(cut.chosen) < len(pair.chosen) or len(cut.rejected) < len(pair.rejected)
            encoded.truncated_prompts += prompt_cut
            encoded.truncated_completions += completion_cut
            encoded.truncated += prompt_cut or completion_cut
            encoded.cut_systems += found.has_system and start > 0
            encoded.merged += found.merged_characters is not None
            encoded.merged_characters = max(encoded.merged_characters, found.merged_characters or 0)
            encoded.reopened += found.reopened
            encoded.altered += found.altered
            kept.append(cut)
        encoded.pairs = kept.read()
        encoded.unread = tuple(sorted(template.unread))
        encoded.date = date if template.reads_date else None
        return encoded

    def _reason_to_drop(self, pair: EncodedPair, cut: EncodedPair) -> str | None:
        if not len(pair.chosen) or not len(pair.rejected):
            return "empty_completion"
        if pair.label is None and np.array_equal(pair.chosen, pair.rejected):
            return "identical_tokens"
        if self.long_prompts == "drop" and len(cut.prompt) < len(pair.prompt):
            return "prompt_too_long"
        if not len(cut.chosen):
            return "prompt_too_long"
        if cut.label is None and np.array_equal(cut.chosen, cut.rejected):
            return "identical_after_truncation"
        return None

    def _check_row(self, row: Row, number: int, labelled: bool) -> None:
        if labelled != (LABEL_COLUMN in row):
            raise SmaugError(
                f"row {number} {'is a pair' if labelled else 'has one completion and a label'}, "
                f"and {'one completion and its label are' if labelled else 'a pair is'} wanted",
                fix="give prompt, completion and label, for loss kto" if labelled else FIX_UNPAIRED,
            )
        if _is_chat(row) and not self.tokenizer.chat_template:
            raise SmaugError(
                f"row {number} holds messages, but the model's tokenizer has no chat template",
                fix="use a chat model, save a chat_template.jinja beside the tokenizer, or give prompts as text",
            )

    def _untruncated(self, rows: Iterable[Row], template: ChatTemplate, labelled: bool) -> Iterator[_Whole]:
        added = self._added_in_front()
        numbered = enumerate(rows, 1)
        while taken := list(itertools.islice(numbered, CHUNK)):
            for number, row in taken:
                self._check_row(row, number, labelled)
            doubled = [(number, _doubled(row) if labelled else row) for number, row in taken]
            chunk: list[_Texts | ChatTexts] = [
                template.texts(row, number) if _is_chat(row) else _plain_texts(row) for number, row in doubled
            ]
            sides = ("prompt", "with_chosen", "with_rejected")[: 2 if labelled else 3]
            columns = [
                self._encode_texts([(getattr(each, side), _is_rendered(each)) for each in chunk]) for side in sides
            ]
            columns += columns[1:] * labelled
            for (number, row), texts, prompt, *wholes in zip(taken, chunk, *columns, strict=True):
                weight, label = float(row.get(WEIGHT_COLUMN, 1.0)), row.get(LABEL_COLUMN)
                shared = min(shared_length(_array(prompt), _array(whole)) for whole in wholes)
                kept, rest = prompt[:shared], prompt[shared:]
                reopened = isinstance(texts, ChatTexts) and texts.reopened
                one, other = (self._completion(whole[shared:], texts) for whole in wholes)
                yield _Whole(
                    EncodedPair(_array(kept or [self._first_token()]), one, other, weight, label),
                    starts=partial(self._starts, kept, texts, template, number, added),
                    has_system=isinstance(texts, ChatTexts)
                    and texts.row["prompt"][0]["role"] in ("system", "developer"),
                    merged_characters=len(self.tokenizer.decode(rest)) if rest and not reopened else None,
                    reopened=reopened,
                    altered=isinstance(texts, ChatTexts) and texts.altered,
                )

    def _starts(
        self, prompt: list[int], texts: _Texts | ChatTexts, template: ChatTemplate, number: int, added: int
    ) -> list[int]:
        """Lengths of the beginnings that a prompt should keep when it is cut: with the system's turn, and without."""
        begins = added if not isinstance(texts, ChatTexts) else 0
        if prompt and prompt[0] == self.tokenizer.bos_token_id:
            begins = max(begins, 1)
        if not isinstance(texts, ChatTexts):
            return [begins]
        (head,) = self._encode_texts([(template.head(texts.row, number), True)])
        return [max(begins, shared_length(_array(prompt), _array(head))), begins]

    def _added_in_front(self) -> int:
        """How many tokens the tokenizer puts before any text."""
        whole, plain = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
        places = (place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
        return next(places, 0)

    def _encode_texts(self, texts: list[tuple[str, bool]]) -> list[list[int]]:
        """Ids with at most one begin token (text and tokenizer may both have written it) and no end token added.

        Args:
            texts: Each with whether a template has written it, so that the tokenizer adds nothing to it.
        """
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        adds_end = eos is not None and self.tokenizer("a")["input_ids"][-1] == eos
        encodings: list[list[int]] = [[] for _ in texts]
        for rendered in (False, True):
            places = [place for place, (_, is_rendered) in enumerate(texts) if is_rendered == rendered]
            if not places:
                continue
            batch = [texts[place][0] for place in places]
            ids_alone = {"return_attention_mask": False, "return_token_type_ids": False}
            found = self.tokenizer(batch, add_special_tokens=not rendered, verbose=False, **ids_alone)["input_ids"]
            for place, ids in zip(places, found, strict=True):
                encodings[place] = _with_one_start(ids[:-1] if adds_end and not rendered else ids, bos)
        return encodings

    def _completion(self, ids: list[int], texts: _Texts | ChatTexts) -> TokenIds:
        """The ids with one end: the template's own, or one end token, or none where none is written or asked for."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if isinstance(texts, ChatTexts) and texts.ends_turns:
            return _array(_with_one_end(ids, eos))
        while bos is not None and bos != eos and ids[:1] == [bos]:
            ids = ids[1:]
        kept = self._before_end(ids)
        if kept and eos is not None and (self.append_eos or len(kept) < len(ids)):
            kept = [*kept, eos]
        return _array(kept)

    def _before_end(self, ids: list[int]) -> list[int]:
        """``ids`` up to the end token that closes the text; only white space and special tokens may follow that."""
        eos = self.tokenizer.eos_token_id
        while eos is not None and eos in ids:
            last = len(ids) - 1 - ids[::-1].index(eos)
            if self.tokenizer.decode(ids[last + 1 :], skip_special_tokens=True).strip():
                break
            ids = ids[:last]
        return ids

    def _first_token(self) -> int:
        """What stands before the completion of an empty prompt: its first token needs something to follow."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return token
        raise SmaugError(
            "a pair has an empty prompt, or one that merges with its completions into one token, and the tokenizer has "
            "neither a begin nor an end token to put there",
            fix="give every pair a prompt",
        )

    def _truncate(self, found: _Whole) -> tuple[EncodedPair, int]:
        """The pair within the limits, and which of its prompt's beginnings was kept."""
        pair = found.pair
        limits = Limits(self.max_length, self.max_prompt_length, self.max_completion_length, self.truncation_mode)
        kept, left = limits.room(len(pair.prompt), [len(pair.chosen), len(pair.rejected)])
        left = max(left, 0)
        if kept == len(pair.prompt) and max(len(pair.chosen), len(pair.rejected)) <= left:
            return pair, 0
        prompt, start = (pair.prompt, 0) if kept == len(pair.prompt) else cut_prompt(pair.prompt, kept, found.starts())
        return replace(pair, prompt=prompt, chosen=pair.chosen[:left], rejected=pair.rejected[:left]), start


def batches_by_length(pairs: Sequence[EncodedPair], batch_size: int) -> list[list[int]]:
    """Return the indices of ``pairs`` in batches of similar length, longest first, so that little is padding.

    The same pairs always give the same batches: a model scored twice over them sees the same shapes and rounds alike.
    """
    order = sorted(range(len(pairs)), key=lambda index: (-pairs[index].length, index))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class _Whole:
    """A pair before any cut, with what is to be counted of it.

    ``starts`` gives the lengths of the beginnings that its prompt should keep; ``merged_characters`` is None where no
    token spans the border.
    """

    pair: EncodedPair
    starts: Callable[[], list[int]]
    has_system: bool
    merged_characters: int | None
    reopened: bool
    altered: bool


@dataclass(frozen=True)
class _Texts:
    """A pair as text, each completion behind its prompt."""

    prompt: str
    with_chosen: str
    with_rejected: str


class _Listed:
    """Pairs in a list."""

    def __init__(self) -> None:
        self._pairs: list[EncodedPair] = []

    def append(self, pair: EncodedPair) -> None:
        self._pairs.append(pair)

    def read(self) -> list[EncodedPair]:
        return self._pairs


def _doubled(row: Row) -> Row:
    """An unpaired row as if its completion were both answers."""
    rest = {name: value for name, value in row.items() if name not in (COMPLETION_COLUMN, LABEL_COLUMN)}
    return {**rest, "chosen": row[COMPLETION_COLUMN], "rejected": row[COMPLETION_COLUMN]}


def _is_chat(row: Row) -> bool:
    return not isinstance(row["prompt"], str)


def _is_rendered(texts: _Texts | ChatTexts) -> bool:
    return isinstance(texts, ChatTexts)


def _plain_texts(row: Row) -> _Texts:
    """The texts of a row; spaces at the prompt's end belong to the completions."""
    return _Texts(row["prompt"].rstrip(), row["prompt"] + row["chosen"], row["prompt"] + row["rejected"])


def _with_one_start(ids: list[int], bos: int | None) -> list[int]:
    repeated = 0
    while bos is not None and ids[repeated : repeated + 2] == [bos, bos]:
        repeated += 1
    return ids[repeated:]


def _with_one_end(ids: list[int], eos: int | None) -> list[int]:
    """``ids`` without an end token that is repeated, as where both the template and the text have written it."""
    return [token for place, token in enumerate(ids) if token != eos or ids[place + 1 : place + 2] != [eos]]


def _digest(pair: EncodedPair) -> bytes:
    """Stands for every id and every boundary of a pair, in few bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for ids in (pair.prompt, pair.chosen, pair.rejected):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(ids.tobytes())
    if pair.label is not None:
        digest.update(bytes([pair.label]))
    return digest.digest()


def _array(ids: list[int]) -> TokenIds:
    return np.asarray(ids, dtype=np.int32)
