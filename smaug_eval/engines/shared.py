"""Share the work of our lm-eval models: every distinct text is tokenised, computed and recorded once.

:class:`SharedPrefixes` stands before one of lm-eval's models and takes over its log-likelihoods and generations.
What is left to each engine is how distinct texts are scored and how prompts are continued.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json
from smaug_eval.engines.encoding import TextEncoder
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.engines.journal import Journal, Relay, RelayedJournal
from smaug_eval.engines.pace import Pace, Work
from smaug_eval.engines.sampled import drawn_apart
from smaug_eval.engines.shares import Credit, Share
from smaug_eval.engines.trie import Text, cut_rows, shared_lengths, sort_key, unique_tokens
from smaug_eval.prefix.layout import TokenIds

Request = tuple[tuple[str, str] | None, "list[int] | TokenIds", "list[int] | TokenIds"]
"""A request's strings, or None for a piece of a rolling one; tokens of its context; tokens of its continuation."""
Answer = tuple[float, bool]
NO_ANSWER: Answer = (0.0, False)
"""Of a request that is not in the share."""
ScoredText = tuple[int, npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Index of a text; log-probabilities of its scored tokens, in nats; whether each is the likeliest one."""

PLAIN_ARGUMENTS = {"until", "max_gen_toks", "do_sample", "temperature", "seed", "top_p"}
"""Settings of a generation that are followed here; lm-eval's own way is taken where there are others."""
CHUNK_TOKENS, MOST_CHUNK_TOKENS = 16384, 65536
"""Of texts that one process scores, where several divide the work and the engine does not say what belongs together."""
CHUNK_PROMPTS = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringJob:
    """Hold requests as lm-eval made them, and their keys in the journal and the progress display.

    Attributes:
        kind: lm-eval's name of the kind of request.
        arguments: What lm-eval's cache hook gets for each request; None for a piece of a rolling one.
        keys: Of each request in the journal.
        documents: To which document each belongs.
        lengths: Tokens that one forward pass for each would compute.
    """

    kind: str
    arguments: Sequence[Any]
    keys: Sequence[str]
    documents: Sequence[Any]
    lengths: Sequence[int]


class SharedPrefixes(TemplateLM):
    """Score each shared prefix once, and keep a journal, as an lm-eval model.

    Attributes:
        work: What the last scoring took; None before the first.
        taken: What scoring took since this was set to None.
        pace: How fast the last or present work goes, as text; empty before the first.
        share: What to do of the work; None for all of it. What a share does not do is answered by what means nothing.
        credit: What others have done of it.
        computed: Tokens computed for log-likelihoods since the model was loaded.
    """

    work: Work | None = None
    taken: Work | None = None
    pace: str = ""
    share: Share | None = None
    credit: Credit = Credit()
    computed: int = 0
    _scores: bool = False
    _relay: Relay | None = None
    _encoder: TextEncoder | None = None
    _documents: Sequence[Any] = ()
    _journal_folder: Path | None = None
    _journal: Journal | None = None
    _scope_of_journal: Mapping[str, Any] | None = None
    _pace: Pace | None = None

    @abstractmethod
    def score_texts(self, texts: Sequence[Text], known: Collection[int]) -> Iterator[Sequence[ScoredText]]:
        """Score sorted distinct texts chunk by chunk.

        How texts are put together must not depend on ``known``, which grows while this works: an interrupted
        evaluation ends with the numbers of an uninterrupted one.

        Args:
            texts: Sorted by :func:`~smaug_eval.engines.trie.sort_key`, without repetitions, each of at most
                ``max_length + 1`` tokens, the last of which is predicted only.
            known: Indices of texts that need no answer.
        """

    @abstractmethod
    def continue_prompts(
        self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], known: Collection[int]
    ) -> Iterator[Sequence[tuple[int, Generation]]]:
        """Continue prompts chunk by chunk; as :meth:`score_texts`.

        Args:
            prompts: Token ids, each of at least one and fewer than ``max_length`` tokens.
            samplings: How to continue each.
            known: Indices of prompts that need no continuation.
        """

    @abstractmethod
    def journal_scope(self) -> Mapping[str, Any]:
        """Return everything but the request that decides an answer, as plain data.

        That is weights, tokenizer, settings and versions.
        """

    def text_chunks(self, texts: Sequence[Text]) -> Iterable[Sequence[int]]:
        """Return the indices of texts chunk by chunk.

        How one chunk is scored does not change the answers of another.
        """
        return cut_rows(texts, shared_lengths(texts), CHUNK_TOKENS, MOST_CHUNK_TOKENS)

    def prompt_chunks(self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]) -> Iterable[Sequence[int]]:
        """Return the indices of prompts chunk by chunk, as :meth:`text_chunks` does of texts."""
        return (range(len(prompts))[first : first + CHUNK_PROMPTS] for first in range(0, len(prompts), CHUNK_PROMPTS))

    def continues_greedily(self) -> bool:
        """Return whether :meth:`continue_prompts` writes what the model's own greedy generation would."""
        return True

    def count_computed(self, tokens: int) -> None:
        """Count tokens that an engine has computed, padding included."""
        if self._pace is not None:
            self._pace.computed += tokens
            self.computed += tokens if self._scores else 0

    def keep_journal(self, folder: str | Path | None, relay: Relay | None = None) -> None:
        """Write every finished chunk to a journal in a folder, and answer from it what is there; None: no longer.

        With a relay the journal is only read, and every finished chunk sent to the process that writes it.
        """
        self.close_journal()
        self._journal_folder = None if folder is None else Path(folder)
        self._relay = relay

    def journal(self) -> Journal | None:
        """Return the journal, opened on first use; None where none is kept."""
        if self._journal is None and self._journal_folder is not None:
            if self._scope_of_journal is None:
                self._scope_of_journal = self.journal_scope()  # hashes weights, which stay as they were loaded
            scope = self._scope_of_journal
            if self._relay is None:
                self._journal = Journal(self._journal_folder, scope)
            else:
                self._journal = RelayedJournal(self._journal_folder, scope, self._relay)
            log.info("%s: %s answers from before", self._journal.file, f"{len(self._journal):,}")
        return self._journal

    def close_journal(self) -> None:
        """Close the journal; it is opened again when it is next needed."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # Log-likelihoods

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """Compute lm-eval's ``loglikelihood``; what texts have in common is tokenised once."""
        if self.backend != "causal" or getattr(self, "enable_thinking", False):
            if self.share is not None:  # what is left to lm-eval cannot be divided
                return [NO_ANSWER] * len(requests)
            theirs: list[Answer] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
            return theirs
        self._documents = [(request.task_name, request.doc_id) for request in requests]
        try:
            pairs = [request.args for request in requests]
            ours: list[Answer] = self._loglikelihood_tokens(self.encode_pairs(pairs), disable_tqdm=disable_tqdm)
        finally:
            self._documents = ()
        return ours

    @property
    def rolling_length(self) -> int:
        """Return the most tokens that a window of a rolling log-likelihood predicts."""
        return int(self.max_length)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Compute lm-eval's ``loglikelihood_rolling``: windows that predict every token once."""
        if self.backend != "causal":
            if self.share is not None:
                return [NO_ANSWER[0]] * len(requests)
            theirs: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
            return theirs
        windows: list[Request] = []
        sizes = []
        for request in requests:
            found = [
                make_disjoint_window(window)
                for window in get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.rolling_length,
                    context_len=1,
                )
            ]
            sizes.append(len(found))
            windows += [(None, context, continuation) for context, continuation in found]
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm))
        totals = [float(sum(next(scores)[0] for _ in range(size))) for size in sizes]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Request]:
        """Encode contexts and continuations as lm-eval's ``loglikelihood`` and ``_encode_pair`` do.

        Trailing spaces of a context belong to the continuation; a continuation's tokens are those that the whole text
        has beyond the number of its context's; an empty context is a BOS or EOS.
        """
        stripped = [(context.rstrip(), context + continuation) for context, continuation in pairs]
        ends = {
            text: len(pair[0]) for pair, (context, _) in zip(stripped, pairs, strict=True) if context for text in pair
        }
        ids = dict(zip(ends, self._encode(ends), strict=True))
        found: list[Request] = []
        for strings, (context, whole) in zip(pairs, stripped, strict=True):
            if strings[0]:
                found.append((strings, ids[context], ids[whole][len(ids[context]) :]))
                continue
            alone = np.array(self.tok_encode(strings[1], add_special_tokens=False), np.int32)
            begins = len(alone) > 0 and alone[0] == self.prefix_token_id
            prefix = np.array([self.prefix_token_id], np.int32)
            found.append((strings, alone[:1], alone[1:]) if begins else (strings, prefix, alone))
        return found

    def _encode(self, ends: Mapping[str, int]) -> list[TokenIds]:
        """Tokens of texts, each with the end of what it has in common with others.

        Of one that begins with a BOS, as lm-eval's ``tok_encode`` makes them.
        """
        if self._encoder is None:
            self._encoder = TextEncoder(self.tokenizer)
        bos = self.tokenizer.decode(self.prefix_token_id)
        plain = {text: end for text, end in ends.items() if not has_bos_prefix(text, bos)}
        encoded = self._encoder.encode(list(plain), ends=list(plain.values()), special=self.add_bos_token)
        found = dict(zip(plain, encoded, strict=True))
        return [found[text] if text in found else np.array(self.tok_encode(text), np.int32) for text in ends]

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, **options: Any
    ) -> list[Answer]:
        if self.backend != "causal":
            theirs: list[Answer] = super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, **options)
            return theirs
        whole = [_cut(request, self.max_length) for request in requests]
        sizes = [len(continuation) for _, _, continuation in requests]
        job = ScoringJob(
            "loglikelihood",
            [strings for strings, _, _ in requests],
            [_key(ids.tobytes(), size) for ids, size in zip(whole, sizes, strict=True)],
            self._documents if len(self._documents) == len(requests) else range(len(requests)),
            [len(ids) - 1 for ids in whole],
        )
        texts, owners = _distinct(whole, sizes)

        def chunks(found: Mapping[int, Any]) -> Iterator[dict[int, Answer]]:
            known = {index for index, these in enumerate(owners) if all(owner in found for owner in these)}
            known |= self._left_to_others(lambda: self.text_chunks(texts))
            for chunk in self.score_texts(texts, known) if len(known) < len(texts) else ():
                known.update(index for index, _, _ in chunk)
                yield {
                    owner: _sum(log_probs[-sizes[owner] :], greedy[-sizes[owner] :])
                    for index, log_probs, greedy in chunk
                    for owner in owners[index]
                }

        answers, pace = self._answer(job, chunks, "Scoring requests", disable_tqdm)
        if self.share is not None:
            return [NO_ANSWER] * len(requests)
        asked = [text for text, these in zip(texts, owners, strict=True) if not pace.recalled.issuperset(these)]
        unique = unique_tokens(asked, shared_lengths(asked))
        self.work = Work(pace.requested, unique, pace.computed + self.credit.computed, len(pace.recalled))
        self.taken = self.work if self.taken is None else self.taken + self.work
        self.credit = Credit(self.credit.keys)  # its tokens are counted
        return [(float(log_prob), bool(greedy)) for log_prob, greedy in answers]

    # Generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Compute lm-eval's ``generate_until``; what is neither plainly greedy nor plainly drawn is left to lm-eval."""
        requests = drawn_apart(requests)
        settings = [normalize_gen_kwargs(request.args[1], self.max_gen_toks) for request in requests]
        plain = all(set(each) <= PLAIN_ARGUMENTS for each in settings)
        unthinking = not getattr(self, "think_end_token", None)
        if self.backend != "causal" or not (plain and unthinking and self.continues_greedily()):
            if self.share is not None:  # what is left to lm-eval cannot be divided
                return [""] * len(requests)
            theirs: list[str] = super().generate_until(without_seeds(requests), disable_tqdm=disable_tqdm)
            return theirs
        eos = self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)
        contexts = [request.args[0] for request in requests]
        samplings = [
            Sampling(
                max_new_tokens=each["max_gen_toks"],
                stop=tuple(stop for stop in handle_stop_sequences(each.get("until"), eos=eos) if stop),
                temperature=float(each.get("temperature", 1.0)) if each.get("do_sample") else 0.0,
                seed=int(each.get("seed") or 0),
                top_p=float(each.get("top_p", 1.0)),
            )
            for each in settings
        ]
        prompts = [self._prompt(context, sampling) for context, sampling in zip(contexts, samplings, strict=True)]
        keys = [
            _key(np.array(prompt, np.int32).tobytes(), canonical_json(_settings_key(sampling)))
            for prompt, sampling in zip(prompts, samplings, strict=True)
        ]
        job = ScoringJob(
            "generate_until",
            [request.args for request in requests],
            keys,
            [(request.task_name, request.doc_id) for request in requests],
            list(map(len, prompts)),
        )
        owners: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            owners.setdefault(key, []).append(number)
        firsts = [these[0] for these in owners.values()]

        def chunks(found: Mapping[int, Any]) -> Iterator[dict[int, str]]:
            known = {index for index, number in enumerate(firsts) if number in found}
            asked = [prompts[number] for number in firsts], [samplings[number] for number in firsts]
            known |= self._left_to_others(lambda: self.prompt_chunks(*asked))
            for chunk in self.continue_prompts(*asked, known):
                known.update(index for index, _ in chunk)
                yield {
                    owner: postprocess_generated_text(generation.text, list(samplings[owner].stop), None)
                    for index, generation in chunk
                    for owner in owners[keys[firsts[index]]]
                }

        answers, _ = self._answer(job, chunks, "Continuing prompts", disable_tqdm)
        return [""] * len(requests) if self.share is not None else list(map(str, answers))

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        on_done: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Continue texts; see :class:`~smaug_eval.engines.generation.Generator`.

        Raises:
            SmaugError: the model has an encoder, as T5 and BART have.
            ValueError: a prompt is empty or fills the model's context.
        """
        if self.backend != "causal":
            raise SmaugError(
                f"a {type(self.model).__name__} has an encoder, and answers of such models cannot be generated here",
                fix="have FastChat write them, which smaug-eval mt-bench judge reads, or take a causal language model",
            )
        for number, prompt in enumerate(prompts):
            if not 0 < len(prompt) < self.max_length:
                raise ValueError(f"prompt {number} has {len(prompt)} tokens; the context holds {self.max_length}")
        found: dict[int, Generation] = {}
        for chunk in self.continue_prompts(prompts, samplings, found.keys()):
            for index, generation in chunk:
                found[index] = generation
                if on_done is not None:
                    on_done(index, generation)
        return [found[index] for index in range(len(prompts))]

    def _prompt(self, context: str, sampling: Sampling) -> list[int]:
        room = self.max_length - sampling.max_new_tokens
        if room <= 0:
            raise SmaugError(
                f"max_gen_toks {sampling.max_new_tokens} leaves no room for a prompt in a context of {self.max_length}",
                fix="lower max_gen_toks (gen_kwargs), thinking.max_tokens where there is such, or take another model",
            )
        ids: list[int] = self.tok_encode(context)[-room:] if context else []
        return ids or [self.prefix_token_id]

    # Both

    def _left_to_others(self, chunks: Callable[[], Iterable[Sequence[int]]]) -> set[int]:
        """Indices of what belongs to other shares: of every ``share.of`` chunks in turn each has one."""
        if self.share is None:
            return set()
        parts = enumerate(chunks())
        others = (chunk for place, chunk in parts if place % self.share.of != self.share.number)
        return set(itertools.chain.from_iterable(others))

    def _answer(
        self,
        job: ScoringJob,
        chunks: Callable[[Mapping[int, Any]], Iterator[dict[int, Any]]],
        title: str,
        disable_tqdm: bool,
    ) -> tuple[list[Any], Pace]:
        """Answer all requests of a job, or a share of them: from the journal what is there, then chunk by chunk."""
        journal = self.journal()
        self._scores = job.kind == "loglikelihood"
        found: dict[int, Any] = {}
        if journal is not None:
            found = {number: journal[key] for number, key in enumerate(job.keys) if key in journal}
        credited = [number for number in found if job.keys[number] in self.credit.keys]
        pace = self._pace = Pace(job.documents, job.lengths, found.keys() - set(credited))
        pace.answered(credited)
        with tqdm(total=len(job.keys), disable=disable_tqdm or self.rank != 0, desc=title) as progress:

            def tell(new: Mapping[int, Any]) -> None:
                self.pace = str(pace)
                for number, answer in new.items():
                    if job.arguments[number] is not None:
                        self.cache_hook.add_partial(job.kind, job.arguments[number], answer)
                progress.set_postfix_str(self.pace, refresh=False)
                progress.update(len(new))

            tell(found)
            for new in chunks(found):
                if journal is not None:
                    journal.add({job.keys[number]: answer for number, answer in new.items()})
                found.update(new)
                pace.answered(new)
                tell(new)
        self._pace = None
        return [found.get(number) for number in range(len(job.keys))], pace


def _settings_key(sampling: Sampling) -> list[Any]:
    """What of a sampling decides a continuation; of a greedy one as it has always been written."""
    drawn = [] if sampling.temperature <= 0 else [sampling.temperature, sampling.top_p, sampling.seed]
    return [sampling.max_new_tokens, sampling.stop, *drawn]


def without_seeds(requests: list[Instance]) -> list[Instance]:
    """Return requests for lm-eval's own generation, which takes no seed: the first one's becomes torch's."""
    seeds = [request.args[1]["seed"] for request in requests if "seed" in request.args[1]]
    if not seeds:
        return requests
    import torch

    torch.manual_seed(int(seeds[0]))
    found = []
    for request in requests:
        other = copy.copy(request)
        other.arguments = (request.args[0], {key: each for key, each in request.args[1].items() if key != "seed"})
        found.append(other)
    return found


def _cut(request: Request, max_length: int) -> TokenIds:
    """A request's text, cut from the left to what a model can be asked: it reads all tokens but the last."""
    _, context, continuation = request
    if not 0 < len(continuation) <= max_length or not len(context):
        raise SmaugError(
            f"an answer of {len(continuation)} tokens cannot be scored in a context of {max_length}",
            fix="leave the task out for this model, or raise engine_args.max_length",
        )
    return np.concatenate([context, continuation])[-max_length - 1 :].astype(np.int32, copy=False)


def _distinct(whole: Sequence[TokenIds], sizes: Sequence[int]) -> tuple[list[Text], list[list[int]]]:
    """The distinct texts of requests, sorted, each with the requests that it answers."""
    owners: dict[bytes, list[int]] = {}
    for number, ids in enumerate(whole):
        owners.setdefault(sort_key(ids), []).append(number)
    order = sorted(owners)
    texts = [Text(whole[owners[key][0]], max(sizes[owner] for owner in owners[key])) for key in order]
    return texts, [owners[key] for key in order]


def _sum(log_probs: npt.NDArray[np.float32], greedy: npt.NDArray[np.bool_]) -> Answer:
    return float(log_probs.astype(np.float64).sum()), bool(greedy.all())


def _key(ids: bytes, asked: int | str) -> str:
    return hashlib.blake2b(ids + f"|{asked}".encode(), digest_size=16).hexdigest()


def request_key(asked: str) -> str:
    """Return the key in the journal of a request that is told apart by a text."""
    return _key(asked.encode(), "text")
