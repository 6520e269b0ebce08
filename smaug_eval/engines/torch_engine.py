"""lm-eval's ``hf`` model with another way of scoring: what requests share is computed once.

Registered with lm-eval as ``smaug-torch``. Loading, generation and chat are lm-eval's own. Log-likelihoods are those of
lm-eval's ``hf``, computed from prefix trees: the answers of a question share its context, and questions that begin with
the same shots share those.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix
from torch import Tensor
from tqdm import tqdm

from smaug_eval.engines.trie import Text, cut_rows, grow, shared_lengths, sort_key, unique_tokens
from smaug_eval.prefix import Layout, PrefixGroup, TokenIds
from smaug_eval.scorer import Scorer, Way, scoring

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request's strings, or None for a piece of a rolling one; tokens of its context; tokens of its continuation."""
Answer = tuple[float, bool]

ROW_TOKENS = {"cpu": 2048, "cuda": 16384}
MOST_TOKENS = 65536
LEAST_TOKENS = 64
MEMORY_SHARE = 0.25  # of the free memory that a row's activations may take
TOKENIZED_AT_ONCE = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What scoring some requests took.

    Attributes:
        requested: Tokens that one forward pass for each request would compute.
        unique: Tokens that any scorer must compute: those of the requests' prefix trie.
        computed: Tokens computed, padding included.
    """

    requested: int
    unique: int
    computed: int

    @property
    def saved(self) -> float:
        """Share of the requested tokens that were not computed."""
        return 1 - self.computed / self.requested if self.requested else 0.0


@register_model("smaug-torch")
class TorchEngine(HFLM):
    """lm-eval's ``hf`` model that scores each shared prefix once.

    Attributes:
        work: What the last scoring took; None before the first.
        way: How the model was asked then, in words; None before the first.
    """

    def __init__(self, *args: Any, row_tokens: int | None = None, **kwargs: Any) -> None:
        """Load a model.

        Args:
            *args: As of lm-eval's ``HFLM``.
            row_tokens: Tokens of a forward pass; left out, a number that suits the device. Rows are longer where a long
                shared prefix would otherwise be computed too often, and shorter where memory does not suffice.
            **kwargs: As of lm-eval's ``HFLM``.
        """
        super().__init__(*args, **kwargs)
        self.work: Work | None = None
        self.way: str | None = None
        self._row_tokens = None if row_tokens is None else int(row_tokens)
        self._encoded: dict[str, TokenIds] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """As lm-eval's, but every distinct text is tokenised once, and many at a time."""
        self._encoded = self._encode_once(request.args for request in requests)
        try:
            answers: list[Answer] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        finally:
            self._encoded = {}
        return answers

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        """Tokens of a text, as lm-eval's."""
        if add_special_tokens is None and not left_truncate_len and (found := self._encoded.get(string)) is not None:
            ids: list[int] = found.tolist()
        else:
            ids = super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)
        return ids

    def _encode_once(self, pairs: Iterable[tuple[str, str]]) -> dict[str, TokenIds]:
        """Every string that lm-eval will ask :meth:`tok_encode` for, with its tokens.

        Strings that begin with a BOS are left to :meth:`tok_encode`.
        """
        if self.backend != "causal":
            return {}
        wanted: dict[str, None] = {}
        for context, continuation in pairs:
            if context:
                # Trailing spaces belong to the continuation.
                wanted[context.rstrip()] = wanted[context + continuation] = None
        prefix = self.tokenizer.decode(self.prefix_token_id)
        strings = [string for string in wanted if not has_bos_prefix(string, prefix)]
        special = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        found: dict[str, TokenIds] = {}
        for some in _batches(strings, TOKENIZED_AT_ONCE):
            rows = self.tokenizer(some, return_attention_mask=False, **special)["input_ids"]
            found.update((string, np.array(ids, np.int32)) for string, ids in zip(some, rows, strict=True))
        return found

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        if self.backend != "causal":
            answers: list[Answer] = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
            return answers
        texts, owners = self._texts(requests)
        found: list[Answer | None] = [None] * len(requests)
        progress = tqdm(total=len(requests), disable=disable_tqdm or self.rank != 0, desc="Scoring requests")
        with scoring(self.model) as scorer, progress:
            self._announce(scorer)
            run = _Run(self, scorer, texts)
            for index, log_probs, greedy in run:
                for owner in owners[index]:
                    strings, _, continuation = requests[owner]
                    size = len(continuation)
                    answer = (float(log_probs[-size:].double().sum()), bool(greedy[-size:].all()))
                    found[owner] = answer
                    if strings is not None:
                        self.cache_hook.add_partial("loglikelihood", strings, answer)
                    progress.update()
                progress.set_postfix_str(f"{run.saved:.0%} of tokens saved", refresh=False)
        requested = sum(len(texts[index].ids) - 1 for index, these in enumerate(owners) for _ in these)
        self.work = Work(requested, run.unique, run.computed)
        return [answer for answer in found if answer is not None]

    def _texts(self, requests: Sequence[Request]) -> tuple[list[Text], list[list[int]]]:
        """The distinct texts of requests, sorted, each with the requests that it answers."""
        room = self.max_length + 1  # a model reads all tokens but the last
        scored: dict[bytes, int] = {}
        owners: dict[bytes, list[int]] = {}
        ids: dict[bytes, TokenIds] = {}
        for number, (_, context, continuation) in enumerate(requests):
            whole = np.array((context + continuation)[-room:], np.int32)
            if not 0 < len(continuation) < room or not context:
                raise ValueError(f"a continuation of {len(continuation)} tokens cannot be scored in {room - 1}")
            key = sort_key(whole)
            ids.setdefault(key, whole)
            owners.setdefault(key, []).append(number)
            scored[key] = max(scored.get(key, 0), len(continuation))
        order = sorted(ids)
        return [Text(ids[key], scored[key]) for key in order], [owners[key] for key in order]

    def _announce(self, scorer: Scorer) -> None:
        if scorer.describe() != self.way:
            self.way = scorer.describe()
            log.log(logging.INFO if scorer.way is Way.PACKED else logging.WARNING, "smaug-torch: %s", self.way)

    def row_limits(self) -> tuple[int, int]:
        """Tokens of a row, and the most that the free memory allows for the sake of a long shared prefix."""
        most = min(MOST_TOKENS, max(LEAST_TOKENS, int(MEMORY_SHARE * self._free_bytes() / self._bytes_per_token())))
        device = torch.device(self.device).type
        return min(self._row_tokens or ROW_TOKENS.get(device, ROW_TOKENS["cpu"]), most), most

    def _free_bytes(self) -> int:
        if torch.device(self.device).type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available)

    def _bytes_per_token(self) -> int:
        """A generous estimate of what one layer holds for a token while it works."""
        config = self.model.config.get_text_config()
        hidden = config.hidden_size
        inner = getattr(config, "intermediate_size", None) or 4 * hidden
        size: int = next(self.model.parameters()).element_size()
        return size * (16 * hidden + 4 * inner)


class _Run:
    """Scores texts row by row, and yields each text's index, log-probabilities and truth values.

    Attributes:
        unique: Tokens that any scorer must compute.
        computed: Tokens computed so far.
        saved: Share of the tokens so far that one forward pass for each text would have computed beyond that.
    """

    def __init__(self, engine: TorchEngine, scorer: Scorer, texts: Sequence[Text]) -> None:
        self._engine, self._scorer, self._texts = engine, scorer, texts
        self._shared = shared_lengths(texts)
        self.unique = unique_tokens(texts, self._shared)
        self.computed = self._plain = 0
        # Rows of one text each are padded to the longest.
        self._order = sorted(range(len(texts)), key=lambda index: -len(texts[index].ids))

    @property
    def saved(self) -> float:
        return 1 - self.computed / self._plain if self._plain else 0.0

    def __iter__(self) -> Any:
        tokens, most = self._engine.row_limits()
        done = 0
        while done < len(self._texts):
            try:
                for row in self._rows(tokens, most, done):
                    answers = self._score(row)
                    done += len(row)
                    yield from answers
            except RuntimeError as error:
                if not should_reduce_batch_size(error) or most <= LEAST_TOKENS:
                    raise
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                most = max(LEAST_TOKENS, min(most, max(tokens, self._longest_row)) // 2)
                tokens = min(tokens, most)
                log.warning("smaug-torch: out of memory; going on with rows of at most %d tokens", most)

    def _rows(self, tokens: int, most: int, done: int) -> Iterable[Sequence[int]]:
        if self._scorer.way is Way.PACKED:
            rows: Iterable[Sequence[int]] = cut_rows(self._texts, self._shared, tokens, most, done)
        else:
            rows = self._padded_rows(tokens, done)
        for row in rows:
            self._longest_row = sum(len(self._texts[index].ids) for index in row)
            yield row

    def _padded_rows(self, tokens: int, done: int) -> Iterable[Sequence[int]]:
        row: list[int] = []
        for index in self._order[done:]:
            if row and (len(row) + 1) * len(self._texts[row[0]].ids) > tokens:
                yield row
                row = []
            row.append(index)
        if row:
            yield row

    def _score(self, row: Sequence[int]) -> list[tuple[int, Tensor, Tensor]]:
        texts = [self._texts[index] for index in row]
        if self._scorer.way is Way.PACKED:
            forest = grow(texts)
            layout: Layout = self._scorer.tree_layout(forest.trees)
            log_probs, greedy = (part.cpu() for part in self._scorer.answers(self._engine.model, layout))
            parts = [(log_probs[places], greedy[places]) for places in map(torch.from_numpy, forest.places)]
        else:
            layout = self._scorer.layout([_group(text) for text in texts])
            both = self._scorer.answers(self._engine.model, layout)
            parts = list(zip(*(part.cpu().split(layout.lengths) for part in both), strict=True))
        self.computed += layout.computed
        self._plain += sum(len(text.ids) - 1 for text in texts)
        return [(index, *part) for index, part in zip(row, parts, strict=True)]


def _group(text: Text) -> PrefixGroup:
    before = len(text.ids) - text.scored
    return PrefixGroup(text.ids[:before], (text.ids[before:],), before)


def _batches(strings: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(strings[first : first + size]) for first in range(0, len(strings), size))
