"""From text to token ids: how a prompt and its two completions become what the model sees.

The split between prompt and completion is the evaluation harness's: the completion's ids are those of the whole text
from the length of the encoded prompt on, with spaces at the prompt's end moved to the completion. So a completion is
scored in training exactly as the same text is in evaluation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from smaug_eval.errors import SmaugError

TokenIds = npt.NDArray[np.int32]
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


@dataclass
class EncodedPairs:
    """The pairs that can be trained on.

    Attributes:
        pairs: In the order of the rows.
        dropped: Pairs left out, by reason: without a difference they teach nothing, yet would count.
        truncated: Pairs of which prompt or completion was cut.
    """

    pairs: list[EncodedPair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    truncated: int = 0

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
        tokenizer: The model's tokenizer.
        max_length: Most tokens of prompt and completion together. The prompt keeps its end, a completion its start;
            both completions of a pair get the same prompt.
        max_prompt_length: Most tokens of the prompt, or None for what ``max_length`` leaves beside the completions.
        append_eos: Whether a completion that is not cut ends with the end-of-text token.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    max_prompt_length: int | None = None
    append_eos: bool = True

    def encode(self, rows: Sequence[dict[str, str]]) -> EncodedPairs:
        """Encode ``prompt``, ``chosen``, ``rejected`` rows; pairs that cannot teach anything are dropped and counted.

        Reasons: ``empty_completion``, ``identical_tokens`` and ``identical_after_truncation``.
        """
        encoded = EncodedPairs()
        for pair in self._untruncated(rows):
            if not len(pair.chosen) or not len(pair.rejected):
                encoded.dropped["empty_completion"] += 1
                continue
            if np.array_equal(pair.chosen, pair.rejected):
                encoded.dropped["identical_tokens"] += 1
                continue
            cut = self._truncate(pair)
            if np.array_equal(cut.chosen, cut.rejected):
                encoded.dropped["identical_after_truncation"] += 1
                continue
            encoded.truncated += cut is not pair
            encoded.pairs.append(cut)
        return encoded

    def _untruncated(self, rows: Sequence[dict[str, str]]) -> Iterator[EncodedPair]:
        for start in range(0, len(rows), CHUNK):
            chunk = [_spaces_to_completions(row) for row in rows[start : start + CHUNK]]
            prompts = self._encode_texts([prompt for prompt, _, _ in chunk])
            chosen = self._encode_texts([prompt + completion for prompt, completion, _ in chunk])
            rejected = self._encode_texts([prompt + completion for prompt, _, completion in chunk])
            for prompt, whole_chosen, whole_rejected in zip(prompts, chosen, rejected, strict=True):
                yield EncodedPair(
                    prompt=_array(prompt or [self._first_token()]),
                    chosen=self._completion(prompt, whole_chosen),
                    rejected=self._completion(prompt, whole_rejected),
                )

    def _encode_texts(self, texts: list[str]) -> list[list[int]]:
        """Ids with at most one begin token (a chat template may have written its own) and no end token added."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        probe = self.tokenizer("a")["input_ids"]
        adds_end = eos is not None and probe[-1] == eos
        encodings = self.tokenizer(texts, verbose=False)["input_ids"]
        if adds_end:
            encodings = [ids[:-1] for ids in encodings]
        if bos is not None and probe[0] == bos:
            encodings = [ids[1:] if ids[:2] == [bos, bos] else ids for ids in encodings]
        return encodings

    def _completion(self, prompt: list[int], whole: list[int]) -> TokenIds:
        ids = whole[len(prompt) :]
        eos = self.tokenizer.eos_token_id
        if self.append_eos and eos is not None and ids and ids[-1] != eos:
            ids = [*ids, eos]
        return _array(ids)

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


def _spaces_to_completions(row: dict[str, str]) -> tuple[str, str, str]:
    prompt = row["prompt"].rstrip()
    spaces = row["prompt"][len(prompt) :]
    return prompt, spaces + row["chosen"], spaces + row["rejected"]


def _array(ids: list[int]) -> TokenIds:
    return np.asarray(ids, dtype=np.int32)
