"""From text to token ids: how a prompt and its two completions become what the model sees.

In rows of text the split between prompt and completion is the evaluation harness's: the completion's ids are those of
the whole text from the length of the encoded prompt on, with spaces at the prompt's end moved to the completion. So a
completion is scored in training exactly as the same text is in evaluation.

Rows of messages become text through the tokenizer's chat template, applied once. Their prompt ends with the template's
opening of an answer. Where a token spans that boundary, it belongs to the completion, so that no token is lost.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from smaug_eval.errors import SmaugError

TokenIds = npt.NDArray[np.int32]
Row = Mapping[str, Any]
CHUNK = 1000


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of a pair; each completion follows the same prompt.

    Attributes:
        prompt: Ids of the prompt, at least one.
        chosen: Ids of the chosen completion.
        rejected: Ids of the rejected completion.
    """

    prompt: TokenIds
    chosen: TokenIds
    rejected: TokenIds

    @property
    def length(self) -> int:
        """Tokens of the prompt and the longer completion."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def common(self) -> int:
        """Leading completion tokens that chosen and rejected share; at most the length of the shorter one."""
        return _shared_length(self.chosen, self.rejected)


@dataclass
class EncodedPairs:
    """The pairs that can be trained on.

    Attributes:
        pairs: In the order of the rows.
        dropped: Pairs left out, by reason; see :meth:`PairEncoder.encode`.
        truncated: Pairs of which the prompt or a completion was cut.
        truncated_prompts: Pairs of which the prompt was cut.
        truncated_completions: Pairs of which at least one completion was cut.
    """

    pairs: list[EncodedPair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    truncated_prompts: int = 0
    truncated_completions: int = 0

    def sha256(self) -> str:
        """Digest of every id and every boundary: what the data and the tokenisation together amount to."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            for ids in (pair.prompt, pair.chosen, pair.rejected):
                digest.update(len(ids).to_bytes(8, "little"))
                digest.update(np.ascontiguousarray(ids, dtype="<i4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class PairEncoder:
    """Encodes pairs with one tokenizer and one set of limits.

    Attributes:
        tokenizer: The model's tokenizer, with its chat template where rows hold messages.
        max_length: Most tokens of prompt and completion together. The prompt keeps its end, a completion its start;
            both completions of a pair get the same prompt.
        max_prompt_length: Most tokens of the prompt, or None for what ``max_length`` leaves beside the completions.
        append_eos: Whether a completion that is not cut ends with the end-of-text token.
        long_prompts: What becomes of a pair whose prompt must be cut to fit: ``truncate`` cuts it, ``drop`` leaves the
            pair out.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    max_prompt_length: int | None = None
    append_eos: bool = True
    long_prompts: Literal["truncate", "drop"] = "truncate"

    def encode(self, rows: Sequence[Row]) -> EncodedPairs:
        """Encode pairs; those that cannot teach anything are dropped and counted.

        The first id is the begin token where the tokenizer or the template writes one, once. An uncut completion ends
        with one end token: it is appended where the text has none, and what a template writes after it is cut.

        Args:
            rows: ``prompt``, ``chosen``, ``rejected``: three texts, or three lists of ``{"role", "content"}`` messages.

        Returns:
            The pairs in order. Reasons to drop one: ``empty_completion``, ``identical_tokens`` (without any cut),
            ``prompt_too_long`` (only with ``long_prompts="drop"``), ``identical_after_truncation``, and ``duplicate``
            (every id as in an earlier pair).

        Raises:
            SmaugError: rows hold messages, and the tokenizer has no chat template, or the template refuses a row or
                does not write the prompt the same way with and without an answer; row numbers count from 1.
        """
        self._check_template(rows)
        encoded = EncodedPairs()
        seen: set[bytes] = set()
        for pair in self._untruncated(rows):
            cut = self._truncate(pair)
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
            encoded.pairs.append(cut)
        return encoded

    def _reason_to_drop(self, pair: EncodedPair, cut: EncodedPair) -> str | None:
        if not len(pair.chosen) or not len(pair.rejected):
            return "empty_completion"
        if np.array_equal(pair.chosen, pair.rejected):
            return "identical_tokens"
        if self.long_prompts == "drop" and len(cut.prompt) < len(pair.prompt):
            return "prompt_too_long"
        if np.array_equal(cut.chosen, cut.rejected):
            return "identical_after_truncation"
        return None

    def _check_template(self, rows: Sequence[Row]) -> None:
        number = next((number for number, row in enumerate(rows, 1) if _is_chat(row)), None)
        if number is not None and not self.tokenizer.chat_template:
            raise SmaugError(
                f"row {number} holds messages, but the model's tokenizer has no chat template",
                fix="use a chat model, save a chat_template.jinja beside the tokenizer, or give prompts as text",
            )

    def _untruncated(self, rows: Sequence[Row]) -> Iterator[EncodedPair]:
        for start in range(0, len(rows), CHUNK):
            chunk = [
                self._chat_texts(row, number) if _is_chat(row) else _plain_texts(row)
                for number, row in enumerate(rows[start : start + CHUNK], start + 1)
            ]
            prompts = self._encode_texts([texts.prompt for texts in chunk])
            chosen = self._encode_texts([texts.with_chosen for texts in chunk])
            rejected = self._encode_texts([texts.with_rejected for texts in chunk])
            for texts, prompt, *wholes in zip(chunk, prompts, chosen, rejected, strict=True):
                kept = prompt
                if texts.is_chat:
                    kept = prompt[: min(_shared_length(_array(prompt), _array(whole)) for whole in wholes)]
                one, other = (self._completion(whole[len(kept) :]) for whole in wholes)
                yield EncodedPair(prompt=_array(kept or [self._first_token()]), chosen=one, rejected=other)

    def _chat_texts(self, row: Row, number: int) -> _Texts:
        prompt = self._rendered(row["prompt"], number, opens_answer=True)
        chosen, rejected = (self._rendered([*row["prompt"], *row[side]], number) for side in ("chosen", "rejected"))
        if not (chosen.startswith(prompt) and rejected.startswith(prompt)):
            raise SmaugError(
                f"row {number}: the chat template is not prefix-stable: with the answer it writes the prompt otherwise "
                "than without, so it is unclear where the completion begins",
                fix="change the tokenizer's chat template, or give prompt and completions as text",
            )
        return _Texts(prompt, chosen, rejected, is_chat=True)

    def _rendered(self, messages: Sequence[Mapping[str, str]], number: int, *, opens_answer: bool = False) -> str:
        try:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=opens_answer, tokenize=False)
        except (TemplateError, ValueError, TypeError, LookupError) as error:  # a template may do anything
            raise SmaugError(
                f"row {number}: the model's chat template refuses the messages: {error}",
                fix="give messages with the roles, in the order, that the template takes",
            ) from error
        return str(text)

    def _encode_texts(self, texts: list[str]) -> list[list[int]]:
        """Ids with at most one begin token (text and tokenizer may both have written it) and no end token added."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        adds_end = eos is not None and self.tokenizer("a")["input_ids"][-1] == eos
        encodings = self.tokenizer(texts, verbose=False)["input_ids"]
        if adds_end:
            encodings = [ids[:-1] for ids in encodings]
        return [_with_one_start(ids, bos) for ids in encodings]

    def _completion(self, ids: list[int]) -> TokenIds:
        """The ids with one end token, or none where none is written or asked for."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
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
            "a pair has an empty prompt, and the tokenizer has neither a begin nor an end token to put there",
            fix="give every pair a prompt",
        )

    def _truncate(self, pair: EncodedPair) -> EncodedPair:
        room = self.max_length - max(len(pair.chosen), len(pair.rejected))
        kept = max(1, min(len(pair.prompt), room, self.max_prompt_length or self.max_length))
        left = self.max_length - kept
        if kept == len(pair.prompt) and max(len(pair.chosen), len(pair.rejected)) <= left:
            return pair
        return EncodedPair(pair.prompt[-kept:], pair.chosen[:left], pair.rejected[:left])


def batches_by_length(pairs: Sequence[EncodedPair], batch_size: int) -> list[list[int]]:
    """Indices of ``pairs`` in batches of similar length, longest first, so that little is padding.

    The same pairs always give the same batches: a model scored twice over them sees the same shapes and rounds alike.
    """
    order = sorted(range(len(pairs)), key=lambda index: (-pairs[index].length, index))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class _Texts:
    """A pair as text, each completion behind its prompt."""

    prompt: str
    with_chosen: str
    with_rejected: str
    is_chat: bool = False


def _is_chat(row: Row) -> bool:
    return not isinstance(row["prompt"], str)


def _plain_texts(row: Row) -> _Texts:
    """The texts of a row; spaces at the prompt's end belong to the completions."""
    return _Texts(row["prompt"].rstrip(), row["prompt"] + row["chosen"], row["prompt"] + row["rejected"])


def _with_one_start(ids: list[int], bos: int | None) -> list[int]:
    repeated = 0
    while bos is not None and ids[repeated : repeated + 2] == [bos, bos]:
        repeated += 1
    return ids[repeated:]


def _shared_length(one: TokenIds, other: TokenIds) -> int:
    """How many leading ids two sequences share."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


def _digest(pair: EncodedPair) -> bytes:
    """Stands for every id and every boundary of a pair, in few bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for ids in (pair.prompt, pair.chosen, pair.rejected):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(ids.tobytes())
    return digest.digest()


def _array(ids: list[int]) -> TokenIds:
    return np.asarray(ids, dtype=np.int32)
