"""Let the policy answer some held-out prompts at each evaluation, for people to read beside the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from smaug_eval.common.files import GrowingFile, write_text
from smaug_eval.trainers.layout import SAMPLES_FILE
from smaug_eval.trainers.tokenization import EncodedPair
from smaug_eval.trainers.training_log import read_log


class Samples:
    """Write greedy answers to ``samples.jsonl``: ``step``, ``prompt``, ``answer``, ``chosen``, ``rejected``.

    Args:
        policy: The model.
        tokenizer: Its tokenizer.
        pairs: Held-out pairs whose prompts are answered.
        folder: The training's.
        step: The step that training continues from; later answers of an earlier attempt are removed. None for a new
            run.
        tokens: Most tokens of an answer.
    """

    def __init__(
        self,
        policy: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        pairs: Sequence[EncodedPair],
        folder: Path,
        *,
        step: int | None,
        tokens: int,
    ) -> None:
        self._policy: Any = policy
        self._tokenizer, self._pairs, self._tokens = tokenizer, pairs, tokens
        self._path = folder / SAMPLES_FILE
        before = [] if step is None else [row for row in read_log(self._path) if row["step"] <= step]
        write_text(self._path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in before))

    def answer(self, step: int) -> None:
        """Answer every prompt, one at a time, and append the answers."""
        was_training = self._policy.training
        self._policy.eval()
        stream = GrowingFile(self._path)
        for pair in self._pairs:
            row = {"step": step, "prompt": self._text(pair.prompt), "answer": self._answer(pair)}
            row |= {"chosen": self._text(pair.chosen), "rejected": self._text(pair.rejected)}
            stream.append((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        stream.close()
        self._policy.train(was_training)

    def _answer(self, pair: EncodedPair) -> str:
        device = next(self._policy.parameters()).device
        ids = torch.from_numpy(pair.prompt.astype("int64"))[None].to(device)
        end = self._tokenizer.eos_token_id
        with torch.no_grad():
            found = self._policy.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._tokens,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=end if self._tokenizer.pad_token_id is None else self._tokenizer.pad_token_id,
            )
        return self._text(found[0, ids.shape[1] :].cpu().numpy())

    def _text(self, ids: Any) -> str:
        return str(self._tokenizer.decode(ids.tolist()))
