"""Score with lm-eval's ``hf`` model in another way: what requests share is computed once.

Registered with lm-eval as ``smaug-torch``. Loading and chat are lm-eval's own. Log-likelihoods are those of lm-eval's
``hf``, computed from prefix trees: the answers of a question share its context, and questions that begin with the same
shots share those.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate.utils import align_module_device
from accelerate.utils.memory import should_reduce_batch_size
from lm_eval.api.registry import register_model
from torch import nn

from smaug_eval._version import __version__
from smaug_eval.engines.decoder import can_cache, sharing_limit
from smaug_eval.engines.decoding import can_batch, can_cache_alone, can_continue, continue_alone, continue_batch
from smaug_eval.engines.encoding import tokenizer_sha256
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.engines.journal import versions
from smaug_eval.engines.loading import CheckedLoading
from smaug_eval.engines.shared import ScoredText, SharedPrefixes
from smaug_eval.engines.trie import Text, cut_rows, grow, shared_lengths
from smaug_eval.models.quantised import Use
from smaug_eval.prefix.attention import honour_soft_caps
from smaug_eval.prefix.layout import Layout, PrefixGroup
from smaug_eval.prefix.scorer import Scorer, Way, scoring

ROW_TOKENS = {"cpu": 512, "cuda": 16384}
MOST_TOKENS = 65536
LEAST_TOKENS = 64
MEMORY_SHARE = 0.25  # of the free memory that a row's activations, or a batch's cache, may take
MOST_PROMPTS = {"cpu": 16, "cuda": 128}  # continued at a time

NO_CACHE = "generates without a cache, token by token from the start: the model's layers share a place in it"
ALONE = "continues prompts one at a time: this kind of model cannot read several that are padded to one length"
ALONE_NO_CACHE = f"{ALONE}; and without a cache, as transformers cannot use one"

log = logging.getLogger(__name__)


@register_model("smaug-torch")
class TorchEngine(SharedPrefixes, CheckedLoading):
    """Score each shared prefix once with lm-eval's ``hf`` model.

    Attributes:
        way: How texts were batched last, as text; None before the first time.
    """

    use = Use.TORCH

    def __init__(
        self, *args: Any, row_tokens: int | None = None, journal: str | Path | None = None, **kwargs: Any
    ) -> None:
        """Load a model.

        Args:
            *args: As of :class:`~smaug_eval.engines.loading.CheckedLoading`.
            row_tokens: Tokens of a forward pass; left out, a number that suits the device. Rows are longer where a long
                shared prefix would otherwise be computed too often, and shorter where memory does not suffice.
            journal: Folder to keep finished answers in; None to keep none.
            **kwargs: As of :class:`~smaug_eval.engines.loading.CheckedLoading`.

        Raises:
            ValueError: ``row_tokens`` is not positive.
        """
        if row_tokens is not None and int(row_tokens) < 1:
            raise ValueError(f"row_tokens must be at least 1, not {row_tokens}")
        super().__init__(*args, **kwargs)
        if self.backend == "causal":
            honour_soft_caps(self.model)
        self.way: str | None = None
        self._scorer: Scorer | None = None
        self._cached: bool | None = None
        self._batches = True
        self._sharing_limit = 0
        self._row_tokens = None if row_tokens is None else int(row_tokens)
        self.keep_journal(journal)

    def journal_scope(self) -> Mapping[str, Any]:
        """Return the loaded weights, the tokenizer, settings, and versions of what computes with them."""
        on_gpu = torch.device(self.device).type == "cuda"
        return {
            "engine": "smaug-torch",
            "weights": tensors_sha256(self.model),
            "tokenizer": tokenizer_sha256(self.tokenizer),
            "dtype": str(next(self.model.parameters()).dtype),
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "settings": [self.max_length, self.add_bos_token, self.prefix_token_id, self._row_tokens],
            "versions": {"smaug-eval": __version__, **versions("torch", "transformers", "lm-eval")},
        }

    # Log-likelihoods

    def score_texts(self, texts: Sequence[Text], known: Collection[int]) -> Iterator[Sequence[ScoredText]]:
        """Score sorted distinct texts row by row; where memory runs out, the rest in shorter rows."""
        with scoring(self.model, known=self._scorer) as scorer:
            self._scorer = scorer
            self._announce(scorer)
            limits, longest = self._agreed_limits(), 0
            while True:
                try:
                    for row in self._rows(scorer, texts, *limits):
                        longest = sum(len(texts[index].ids) for index in row)
                        if asked := [index for index in row if index not in known]:
                            yield self._score_row(scorer, texts, asked)
                    return
                except RuntimeError as error:
                    if not should_reduce_batch_size(error) or limits[1] <= LEAST_TOKENS:
                        raise
                    most = max(LEAST_TOKENS, min(limits[1], max(limits[0], longest)) // 2)
                    limits = self._agree("row_limits", (min(limits[0], most), most))
                    log.warning("smaug-torch: out of memory; continuing with rows of at most %d tokens", most)
                    free_memory()

    def text_chunks(self, texts: Sequence[Text]) -> Iterable[Sequence[int]]:
        """Return the rows of the forward passes."""
        with scoring(self.model, known=self._scorer) as scorer:
            self._scorer = scorer
            return list(self._rows(scorer, texts, *self._agreed_limits()))

    def row_limits(self) -> tuple[int, int]:
        """Return the tokens of a row, and the most that free memory allows for a long shared prefix."""
        most = min(MOST_TOKENS, max(LEAST_TOKENS, int(MEMORY_SHARE * self._free_bytes() / self._bytes_per_token())))
        return min(self._row_tokens or _by_device(ROW_TOKENS, self.device), most), most

    def _agreed_limits(self) -> tuple[int, int]:
        """The limits under which an interrupted evaluation began, or new ones."""
        journal = self.journal()
        noted = None if journal is None else journal.setting("row_limits")
        tokens, most = self.row_limits() if noted is None else noted
        return self._agree("row_limits", (int(tokens), int(most)))

    def _agree(self, name: str, value: tuple[int, int]) -> tuple[int, int]:
        if (journal := self.journal()) is None:
            return value
        journal.note(name, list(value))
        first, second = journal.setting(name)
        return int(first), int(second)

    def _announce(self, scorer: Scorer) -> None:
        if scorer.describe() != self.way:
            self.way = scorer.describe()
            log.log(logging.INFO if scorer.way is Way.PACKED else logging.WARNING, "smaug-torch: %s", self.way)

    def _rows(self, scorer: Scorer, texts: Sequence[Text], tokens: int, most: int) -> Iterable[Sequence[int]]:
        if scorer.way is Way.PACKED:
            return cut_rows(texts, shared_lengths(texts), tokens, most)
        return _padded_rows(texts, tokens)

    def _score_row(self, scorer: Scorer, texts: Sequence[Text], row: Sequence[int]) -> list[ScoredText]:
        asked = [texts[index] for index in row]
        if scorer.way is Way.PACKED and scorer.takes(max(len(text.ids) for text in asked)):
            forest = grow(asked)
            layout: Layout = scorer.tree_layout(forest.trees)
            log_probs, greedy = (part.cpu().numpy() for part in scorer.answers(self.model, layout))
            parts = [(log_probs[places], greedy[places]) for places in forest.places]
        else:
            layout = scorer.layout([_group(text) for text in asked])
            both = (part.cpu().split(layout.lengths) for part in scorer.answers(self.model, layout))
            parts = [(log_probs.numpy(), greedy.numpy()) for log_probs, greedy in zip(*both, strict=True)]
        self.count_computed(layout.computed)
        return [(index, *part) for index, part in zip(row, parts, strict=True)]

    # Generation

    def continues_greedily(self) -> bool:
        """Return whether the model's cache can lose rows and its settings select greedy decoding only."""
        return can_continue(self.model)

    def continue_prompts(
        self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], known: Collection[int]
    ) -> Iterator[Sequence[tuple[int, Generation]]]:
        """Continue prompts batch by batch, the longest first; where memory runs out, the rest in smaller batches.

        Raises:
            SmaugError: transformers cannot continue texts with this kind of model.
        """
        if len(known) >= len(prompts):
            return
        self._choose_way()
        size = self._agreed_batch(prompts, samplings)
        while True:
            try:
                for batch in _batches(prompts, size):
                    if not all(index in known for index in batch):
                        yield self._continue_batch(batch, prompts, samplings)
                return
            except RuntimeError as error:
                if not should_reduce_batch_size(error) or size == 1:
                    raise
                size = self._agree("batch", (size // 2, 0))[0]
                log.warning("smaug-torch: out of memory; continuing with %d prompts at a time", size)
                free_memory()

    def prompt_chunks(self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]) -> Iterable[Sequence[int]]:
        """Return the batches."""
        return _batches(prompts, self._agreed_batch(prompts, samplings))

    def _continue_batch(
        self, batch: Sequence[int], prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]
    ) -> list[tuple[int, Generation]]:
        limits: Any = {"max_length": self.max_length, "cached": self._cached}
        if self._batches:
            limits["sharing_limit"] = self._sharing_limit
            asked = [prompts[index] for index in batch], [samplings[index] for index in batch]
            written, computed = continue_batch(self.model, self.tokenizer, *asked, **limits)
            self.count_computed(computed)
            return list(zip(batch, written, strict=True))
        (index,) = batch
        alone, computed = continue_alone(self.model, self.tokenizer, prompts[index], samplings[index], **limits)
        self.count_computed(computed)
        return [(index, alone)]

    def _choose_way(self) -> None:
        """Find out once how this model can continue prompts."""
        if self._cached is not None:
            return
        self._batches = can_batch(self.model)
        self._cached = can_cache(self.model) if self._batches else can_cache_alone(self.model)
        if not self._batches:
            log.warning("smaug-torch: %s", ALONE if self._cached else ALONE_NO_CACHE)
        elif self._cached:
            self._sharing_limit = sharing_limit(self.model)
        else:
            log.warning("smaug-torch: %s", NO_CACHE)

    def _agreed_batch(self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]) -> int:
        """Prompts continued at a time: what an interrupted evaluation began with, or what the cache has room for."""
        if not self._batches:
            return 1
        journal = self.journal()
        noted = None if journal is None else journal.setting("batch")
        if noted is not None:
            return int(noted[0])
        if isinstance(self.batch_size_per_gpu, int):
            return self._agree("batch", (max(1, self.batch_size_per_gpu), 0))[0]
        longest = max(
            (len(prompt) + each.max_new_tokens for prompt, each in zip(prompts, samplings, strict=True)), default=1
        )
        room = int(MEMORY_SHARE * self._free_bytes() / (longest * self._cache_bytes_per_token()))
        return self._agree("batch", (max(1, min(_by_device(MOST_PROMPTS, self.device), room)), 0))[0]

    # Memory

    def _free_bytes(self) -> int:
        if torch.device(self.device).type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available)

    def _bytes_per_token(self) -> int:
        """A generous estimate of what one layer holds for a token while it works."""
        config = self.model.config.get_text_config()
        hidden = config.hidden_size
        inner = getattr(config, "intermediate_size", None) or 4 * hidden
        return int(self._element_size() * (16 * hidden + 4 * inner))

    def _cache_bytes_per_token(self) -> int:
        """Keys and values of all layers, as if there were as many of them as queries."""
        config = self.model.config.get_text_config()
        return int(self._element_size() * 2 * config.hidden_size * config.num_hidden_layers)

    def _element_size(self) -> int:
        return int(next(self.model.parameters()).element_size())


def free_memory() -> None:
    """Free the memory that the allocator caches."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def tensors_sha256(model: nn.Module) -> str:
    """Return one hash over a model's configuration and the names, types, shapes and bytes of all its tensors."""
    digest = hashlib.sha256()
    config = getattr(model, "config", None)
    if config is not None:
        digest.update(config.to_json_string(use_diff=True).encode())
    # A module that runs in several layers counts in each: which of them it stands for decides an answer.
    for prefix, module in model.named_modules(remove_duplicate=False):
        with align_module_device(module, "cpu"):  # weights that are kept elsewhere until they are needed
            tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
            for name, tensor in sorted(tensors.items()):
                digest.update(f"{prefix}.{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
                _add_bytes(digest, tensor)
                # Of 4-bit weights of bitsandbytes, what the packed numbers are to be multiplied by.
                if (state := getattr(tensor, "quant_state", None)) is not None:
                    for _, part in sorted(state.as_dict(packed=True).items()):
                        _add_bytes(digest, part)
    return digest.hexdigest()


def _add_bytes(digest: Any, tensor: torch.Tensor) -> None:
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _by_device(choices: Mapping[str, int], device: Any) -> int:
    return choices.get(torch.device(device).type, choices["cpu"])


def _batches(prompts: Sequence[Sequence[int]], size: int) -> Iterator[Sequence[int]]:
    """Prompts of like length together, the longest first."""
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    return (order[first : first + size] for first in range(0, len(order), size))


def _padded_rows(texts: Sequence[Text], tokens: int) -> Iterator[Sequence[int]]:
    """Texts of like length together, each padded to the longest."""
    row: list[int] = []
    for index in sorted(range(len(texts)), key=lambda index: -len(texts[index].ids)):
        if row and (len(row) + 1) * len(texts[row[0]].ids) > tokens:
            yield row
            row = []
        row.append(index)
    if row:
        yield row


def _group(text: Text) -> PrefixGroup:
    before = len(text.ids) - text.scored
    return PrefixGroup(text.ids[:before], (text.ids[before:],), before)
