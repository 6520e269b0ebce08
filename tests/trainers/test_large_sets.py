"""Sets larger than memory: pairs and scores in mapped files are what they are in memory, and nothing is kept twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.engines.journal import StreamedJournal
from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.encoded_pair import EncodedPair, EncodedPairs
from smaug_eval.trainers.pair_store import BATCH, PairStore
from smaug_eval.trainers.ragged import Ragged, empty_rows
from smaug_eval.trainers.reference import TokenLogProbs, load_reference, save_reference, score_pairs
from smaug_eval.trainers.tokenization import PairEncoder
from smaug_eval.trainers.trial import spread

Sums = Callable[..., list[dict[str, str]]]


def same(one: EncodedPair, other: EncodedPair) -> bool:
    ids = ((one.prompt, other.prompt), (one.chosen, other.chosen), (one.rejected, other.rejected))
    return all(np.array_equal(*both) for both in ids) and (one.weight, one.label) == (other.weight, other.label)


def test_stored_pairs_are_the_pairs(tokenizer: PreTrainedTokenizerFast, sums: Sums, tmp_path: Path) -> None:
    rows = [{**row, "weight": 1.0 + number % 3} for number, row in enumerate(sums(BATCH + 7))]
    encoder = PairEncoder(tokenizer, 64)
    listed, stored = encoder.encode(rows), encoder.encode(iter(rows), into=PairStore(tmp_path))
    assert not list(tmp_path.iterdir())  # the file has no name any more
    assert len(stored.pairs) == len(listed.pairs) > BATCH
    assert all(map(same, stored.pairs, listed.pairs))
    assert same(stored.pairs[-1], listed.pairs[-1])
    assert all(map(same, stored.pairs[BATCH - 2 : BATCH + 2], listed.pairs[BATCH - 2 : BATCH + 2]))
    assert stored.sha256() == listed.sha256() == stored.sha256()
    assert (stored.dropped, stored.truncated) == (listed.dropped, listed.truncated)
    with pytest.raises(IndexError):
        stored.pairs[len(stored.pairs)]


def test_a_store_keeps_labels_and_may_be_empty_or_left(tmp_path: Path) -> None:
    ids = np.arange(1, 4, dtype=np.int32)
    store = PairStore(tmp_path)
    for label in (True, False, None):
        store.append(EncodedPair(ids, ids[:1], ids[:2], label=label))
    assert [pair.label for pair in store.read()] == [True, False, None]
    assert len(PairStore(tmp_path).read()) == 0
    PairStore(tmp_path).discard()
    assert not list(tmp_path.iterdir())


def test_rows_are_taken_one_after_the_other(tokenizer: PreTrainedTokenizerFast, sums: Sums) -> None:
    """No more rows are read than a chunk of them, before the first are encoded."""
    taken = 0

    def rows() -> object:
        nonlocal taken
        for row in sums(2500):
            taken += 1
            yield row

    seen: list[int] = []

    class Watched:
        def append(self, pair: EncodedPair) -> None:
            seen.append(taken)

        def read(self) -> list[EncodedPair]:
            return []

    PairEncoder(tokenizer, 64).encode(rows(), into=Watched())  # type: ignore[arg-type]
    assert seen[0] == 1000
    assert seen[-1] == 2500


def test_scores_in_a_file_are_those_in_memory_and_what_a_journal_has_is_not_computed(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, sums: Sums, tmp_path: Path
) -> None:
    pairs = PairEncoder(tokenizer, 256).encode(sums(9)).pairs
    with scoring(model) as scorer:
        plain = score_pairs(scorer, model, pairs, row_tokens=256, autocast=None)
        batches: list[int] = []

        def stopping(done: int, total: int) -> None:
            batches.append(done)
            if len(batches) == 3:
                raise InterruptedError

        journal = StreamedJournal(tmp_path / "journal", {"a": 1})
        with pytest.raises(InterruptedError):
            score_pairs(scorer, model, pairs, row_tokens=256, autocast=None, journal=journal, before_batch=stopping)
        journal.close()
        assert 0 < batches[-1] < 9
        again = StreamedJournal(tmp_path / "journal", {"a": 1})
        started: list[int] = []
        mapped = score_pairs(
            scorer, model, pairs, row_tokens=256, autocast=None, journal=again, folder=tmp_path,
            before_batch=lambda done, total: started.append(done),
        )  # fmt: skip
        again.close()
    assert started[0] == batches[-1]
    assert isinstance(mapped.chosen.values, np.memmap)  # type: ignore[attr-defined]
    assert {path.name for path in tmp_path.iterdir()} == {"journal"}
    for side in ("chosen", "rejected"):
        for one, other in zip(getattr(plain, side), getattr(mapped, side), strict=True):
            assert np.array_equal(one, other)


def test_the_file_of_a_reference_is_what_it_was(tmp_path: Path) -> None:
    """An earlier version's file is read, and the file is a safetensors file with its four tensors and its digest."""
    rows = {"chosen": ([0.5, -1.0], [2.0]), "rejected": ([3.0], [4.0, 5.0, 6.0])}
    sides = {name: tuple(np.array(row, np.float32) for row in found) for name, found in rows.items()}
    save_reference(TokenLogProbs(sides["chosen"], sides["rejected"]), tmp_path / "new.safetensors")
    tensors = {
        "chosen": np.array([0.5, -1.0, 2.0], np.float32),
        "chosen_lengths": np.array([2, 1], np.int64),
        "rejected": np.array([3.0, 4.0, 5.0, 6.0], np.float32),
        "rejected_lengths": np.array([1, 3], np.int64),
    }
    digest = hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()
    save_file(tensors, tmp_path / "old.safetensors", {"sha256": digest})
    for name in ("old", "new"):
        path = tmp_path / f"{name}.safetensors"
        assert {key: value.tolist() for key, value in load_file(path).items()} == {
            key: value.tolist() for key, value in tensors.items()
        }
        read = load_reference(path)
        assert read is not None
        assert [row.tolist() for row in read.chosen] == [list(row) for row in rows["chosen"]]
        assert read.sums[1].tolist() == [3.0, 15.0]
        assert read.heads[0].tolist() == [0.5, 2.0]
        assert read.heads[1].tolist() == [3.0, 4.0]
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 1
        path.write_bytes(damaged)
        assert load_reference(path) is None


def test_rows_of_numbers() -> None:
    rows = Ragged(np.arange(5, dtype=np.float32), np.array([2, 0, 3]))
    assert [row.tolist() for row in rows] == [[0, 1], [], [2, 3, 4]]
    assert rows[-1].tolist() == [2, 3, 4]
    assert rows.sums().tolist() == [1, 0, 9]
    with pytest.raises(ValueError, match="rows of 4 numbers in all"):
        Ragged(np.zeros(5, np.float32), np.array([4]))
    assert np.isnan(empty_rows(np.array([2]), None).values).all()


def test_scores_of_a_few_pairs_take_no_room_for_the_others() -> None:
    ids = [np.zeros(length, np.int32) for length in (1, 2, 3)]
    pairs = [EncodedPair(ids[0], ids[number % 3], ids[1]) for number in range(5)]
    few = TokenLogProbs([np.ones(2, np.float32)], [np.full(2, 2, np.float32)])
    found = spread(few, [1], pairs)
    assert found.chosen[1] is few.chosen[0]
    assert [len(row) for row in found.chosen] == [1, 2, 3, 1, 2]
    assert np.isnan(found.sums[0]).tolist() == [True, False, True, True, True]
    assert (found.sums[0][1], found.sums[1][1]) == (2.0, 4.0)
    # Chosen completions have 1, 2, 3, 1, 2 tokens and rejected ones 2: of the second both are counted in full.
    assert (found.heads[0][1], found.heads[1][1]) == (2.0, 4.0)
    assert np.isnan(found.heads[1]).tolist() == [True, False, True, True, True]


def test_a_digest_follows_the_pairs() -> None:
    ids = np.arange(1, 4, dtype=np.int32)
    encoded = EncodedPairs([EncodedPair(ids, ids[:1], ids[:2])])
    first = encoded.sha256()
    encoded.pairs = (*encoded.pairs, EncodedPair(ids, ids[:2], ids[:1]))
    second = encoded.sha256()
    assert first != second == encoded.sha256()
    labelled = EncodedPairs([EncodedPair(ids, ids[:1], ids[:2], label=True)])
    assert (
        len({first, labelled.sha256(), EncodedPairs([EncodedPair(ids, ids[:1], ids[:2], label=False)]).sha256()}) == 3
    )
