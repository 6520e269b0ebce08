r"""Score how much likelier a model finds a text than another model's continuations of its beginning.

The score behind the Smaug paper's contamination figures, as swj0419's detect-pretrain-code-contamination computes it
(``src/run.py``, ``src/utils.py``, ``src/analyze.py``). Of a text :math:`x` of :math:`w` words the first
:math:`\lceil 0.4 w \rceil` are kept, and a reference model continues them 100 times. With the mean loss per token
:math:`L` of the examined model,

.. math:: s(x) = \frac{1}{100} \sum_{i=1}^{100} [L(z_i) < L(x)]

is the share of these neighbours :math:`z_i` that the examined model finds likelier than the text; the text is flagged
where :math:`s(x) < 0.1`. A model that has read the text finds it likelier than nearly every neighbour. The tool is
derived from Shi et al., "Detecting Pretraining Data from Large Language Models" (arXiv:2310.16789), but this score,
which its code calls ``minkprob_w/_ref`` and its functions RMIA, is not that paper's Min-K%: it takes all tokens.

What the score does not distinguish: a model that has read the text from one that has read many of its kind. Having
learnt a benchmark's wording and kind of answer, from its training split for instance, a model finds the whole text
likelier than continuations that break off or go astray, and is flagged as well. So a share means little by itself; it
is to be set beside the same share of the model's base, and of models with a known history.

What is kept of the tool's ways, as its figures depend on them:

- the words kept are joined by single spaces;
- a continuation has at most as many *tokens* as *words* were cut off, and at least one, so that neighbours are mostly
  shorter than the text;
- it is drawn at temperature 1 from the 50 likeliest tokens, transformers' defaults when the tool was written;
- text and neighbours are tokenised as the tokenizer does by itself: where it puts no token before a text, the first
  token is not scored;
- neighbours are cut to 150 tokens, the text is not.

What differs: the generator has a seed, and a text's neighbours depend on nothing but the text, the reference model and
the settings; the tool draws unseeded. A reference model's own generation settings (another temperature) are not used;
the tool would use them. The tool loads weights in float32, here the precision is a setting.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.decoding import generate
from smaug_eval.engines.trie import Text, sort_key

if TYPE_CHECKING:
    from smaug_eval.engines.torch_engine import TorchEngine

KEPT = 0.4
"""Share of the words that the reference model continues; the tool's ``ratio_gen``."""
NEIGHBOURS = 100
TOP_K = 50
MOST_TOKENS = 150
"""Tokens that a neighbour is cut to."""
THRESHOLD = 0.1
"""A text is flagged whose score lies below."""


@dataclass(frozen=True)
class NeighbourComparison:
    """Compare a text with its neighbours.

    Attributes:
        loss: Of the text, mean over its tokens but the first, in nats.
        likelier: Neighbours with a smaller loss.
        neighbours: Neighbours in all.
    """

    loss: float
    likelier: int
    neighbours: int

    @property
    def score(self) -> float:
        """Return the share of the neighbours that the model finds likelier than the text."""
        return self.likelier / self.neighbours

    @property
    def flagged(self) -> bool:
        """Return whether the score lies below the threshold."""
        return self.score < THRESHOLD


def beginning(text: str) -> tuple[str, int]:
    """Return the words that are kept of a text, joined by spaces, and the most tokens that a continuation has.

    Raises:
        ValueError: the text has no word.
    """
    words = text.split()
    if not words:
        raise ValueError("a text without words has no beginning")
    kept = math.ceil(len(words) * KEPT)
    return " ".join(words[:kept]), max(1, len(words) - kept)


def draw_neighbours(engine: TorchEngine, tokenizer: Any, text: str, *, seed: int, batch_size: int) -> list[str]:
    """Return what a reference model makes of the beginning of a text.

    Args:
        engine: The reference model.
        tokenizer: Its tokenizer, with its own habit of adding special tokens.
        text: The text.
        seed: With the text, decides the draws.
        batch_size: Neighbours drawn at a time.

    Returns:
        ``NEIGHBOURS`` texts, the kept words included, special tokens left out.

    Raises:
        SmaugError: the beginning and its continuation do not fit into the model's context, or the memory does not
            suffice.
    """
    start, most = beginning(text)
    ids = torch.tensor([tokenizer(start)["input_ids"]], device=engine.device)
    if ids.shape[1] + most > engine.max_length:
        raise _too_long(text, ids.shape[1] + most, engine.max_length)
    own = engine.model.generation_config
    end = tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id
    found: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed}|{text}".encode()).digest()[:7], "big"))
        while len(found) < NEIGHBOURS:
            settings = GenerationConfig(
                do_sample=True,
                temperature=1.0,
                top_k=TOP_K,
                top_p=1.0,
                min_new_tokens=1,
                max_new_tokens=most,
                num_return_sequences=min(batch_size, NEIGHBOURS - len(found)),
                eos_token_id=end,
                bos_token_id=own.bos_token_id,
                pad_token_id=tokenizer.eos_token_id or 0,
            )
            found += tokenizer.batch_decode(_generate(engine.model, ids, settings), skip_special_tokens=True)
    return found


def compare(engine: TorchEngine, tokenizer: Any, text: str, neighbours: Sequence[str]) -> NeighbourComparison:
    """Return how many neighbours the examined model finds likelier than the text.

    Args:
        engine: The examined model.
        tokenizer: Its tokenizer, with its own habit of adding special tokens.
        text: The text.
        neighbours: From :func:`draw_neighbours`.

    Raises:
        SmaugError: the text does not fit into the model's context, or its loss is not a number.
    """
    ids = tokenizer([text, *neighbours])["input_ids"]
    if len(ids[0]) > engine.max_length + 1:
        raise _too_long(text, len(ids[0]), engine.max_length + 1)
    most = min(MOST_TOKENS, engine.max_length + 1)
    losses = mean_losses(engine, [ids[0], *(each[:most] for each in ids[1:])])
    # A neighbour of a single token has no loss, and is not likelier; any other loss must be a number.
    if np.isnan(losses).any() or not np.isfinite(losses[0]):
        raise SmaugError(
            f"the model's log-probabilities of {_shown(text)} are not numbers",
            fix="use --dtype float32 or bfloat16, and check the checkpoint",
        )
    return NeighbourComparison(float(losses[0]), int(np.count_nonzero(losses[1:] < losses[0])), len(neighbours))


def mean_losses(engine: TorchEngine, ids: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the mean negative log-probability per token of each text, its first token left out.

    Args:
        engine: The model; it computes beginnings that texts share once.
        ids: Tokens of each text, at most ``engine.max_length + 1``.

    Returns:
        In nats, shape ``(texts,)``; infinity for a text of fewer than two tokens.
    """
    distinct = {sort_key(each): each for each in (np.array(each, np.int32) for each in ids) if len(each) > 1}
    keys = sorted(distinct)
    texts = [Text(distinct[key], len(distinct[key]) - 1) for key in keys]
    found: dict[bytes, float] = {}
    for chunk in engine.score_texts(texts, ()) if texts else ():
        found.update({keys[index]: -float(log_probs.mean(dtype=np.float64)) for index, log_probs, _ in chunk})
    return np.array([found.get(sort_key(np.array(each, np.int32)), math.inf) for each in ids])


def _generate(model: Any, ids: torch.Tensor, settings: GenerationConfig) -> torch.Tensor:
    try:
        return generate(model, ids, settings)
    except torch.OutOfMemoryError as error:
        raise SmaugError(
            "out of GPU memory while neighbours were drawn",
            fix="draw fewer at a time (--set batch_size=25), or spread the model (--set engine_args.parallelize=true)",
        ) from error


def _too_long(text: str, tokens: int, room: int) -> SmaugError:
    return SmaugError(
        f"{_shown(text)} takes {tokens} tokens, and the model's context holds {room}",
        fix="choose tasks with shorter documents, or a model with a longer context",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
