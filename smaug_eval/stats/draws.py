"""Draw documents with replacement, for all models the same ones, so that any two of them are compared by one draw.

How often each item of a stratum is drawn depends on the stratum's name, on its number of items and on the seed alone. A
resampled difference of two models is then the difference of their resampled means, which are computed once for each
model, however many it is compared with.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from smaug_eval.common.workers import spread
from smaug_eval.stats.bootstrap import pieces
from smaug_eval.stats.means import RESAMPLES, SEED

Rows = NDArray[np.float64]
"""Numbers of the items of a stratum, shape ``(n, k)``."""

MANY_ITEMS = 4096
"""With more items of few kinds it is drawn, for each pair of models, how often each kind comes."""
FEW_KINDS = 256

_MANY_NUMBERS = 50_000_000
"""Numbers to draw from which on several processes draw them: half a second's work, which is as long as they start."""
_MOST_CODES = 1 << 20

_Size = tuple[str, int, int]


class Draws:
    """Keep models' resampled means.

    Args:
        seed: Of the generators.
    """

    def __init__(self, seed: int = SEED) -> None:
        self.seed = seed
        self._added: dict[_Size, dict[bytes, Rows]] = {}
        self._means: dict[tuple[_Size, bytes, int], Rows] = {}
        self._pairs: dict[tuple[_Size, bytes, bytes, int], tuple[Rows, Rows] | None] = {}
        self._lock = Lock()

    def add(self, stratum: str, rows: Rows) -> None:
        """Add a model's rows, so that they are resampled together with the first that are asked for.

        Args:
            stratum: Its name.
            rows: Shape ``(n, k)``.
        """
        if len(rows) <= MANY_ITEMS:
            with self._lock:
                self._added.setdefault(_size(stratum, rows), {})[_digest(rows)] = rows

    def pair(self, stratum: str, first: Rows, second: Rows, resamples: int = RESAMPLES) -> tuple[Rows, Rows]:
        """Return two models' resampled means, each of shape ``(resamples, k)``.

        Args:
            stratum: Its name; other strata of one comparison bear others.
            first: The first model's rows, shape ``(n, k)``.
            second: The second model's, of the same items in the same order.
            resamples: Number of resamples.
        """
        if len(first) > MANY_ITEMS:
            key = (_size(stratum, first), _digest(first), _digest(second), resamples)
            if key not in self._pairs:
                self._pairs[key] = self._drawn_by_kind(stratum, first, second, resamples)
            if (found := self._pairs[key]) is not None:
                return found
        return self._mean(stratum, first, resamples), self._mean(stratum, second, resamples)

    def _drawn_by_kind(self, stratum: str, first: Rows, second: Rows, resamples: int) -> tuple[Rows, Rows] | None:
        """Draw how often each kind of item comes; None where there are many kinds."""
        found = _few_kinds(np.hstack([first, second]))
        if found is None:
            return None
        kinds, counts = found
        n, width = len(first), first.shape[1]
        drawn = _generator(self.seed, stratum).multinomial(n, counts / n, size=resamples)
        return drawn @ kinds[:, :width] / n, drawn @ kinds[:, width:] / n

    def draw_added(self, resamples: int = RESAMPLES) -> None:
        """Resample all rows that were added, by several processes, where that is much work.

        Args:
            resamples: Number of resamples that will be asked for.
        """
        with self._lock:
            missing = {
                size: [own for digest, own in sorted(added.items()) if (size, digest, resamples) not in self._means]
                for size, added in self._added.items()
            }
            left = [(size, own) for size, own in missing.items() if own]
            if resamples * sum(n for (_, n, _), _ in left) < _MANY_NUMBERS:
                return
            found = spread(_resampled, [(self.seed, stratum, own, resamples) for (stratum, _, _), own in left])
            for (size, own), means in zip(left, found, strict=True):
                if means is not None:
                    self._means.update(
                        {(size, _digest(rows), resamples): mean for rows, mean in zip(own, means, strict=True)}
                    )

    def _mean(self, stratum: str, rows: Rows, resamples: int) -> Rows:
        size, digest = _size(stratum, rows), _digest(rows)
        with self._lock:
            if (size, digest, resamples) not in self._means:
                together = {**self._added.get(size, {}), digest: rows}
                missing = sorted(each for each in together if (size, each, resamples) not in self._means)
                found = _resampled((self.seed, stratum, [together[each] for each in missing], resamples))
                self._means.update({(size, each, resamples): own for each, own in zip(missing, found, strict=True)})
            return self._means[size, digest, resamples]


def _resampled(asked: tuple[int, str, Sequence[Rows], int]) -> list[Rows]:
    """Mean rows of each model, from the seed, the stratum, all models' rows, in one shape, and the resamples."""
    seed, stratum, models, resamples = asked
    generator, (n, width), drawn = _generator(seed, stratum), models[0].shape, []
    together = np.hstack(models)
    for size in pieces(resamples, n):
        places = generator.integers(n, size=(size, n), dtype=np.int32) + n * np.arange(size, dtype=np.int32)[:, None]
        weights = np.bincount(places.ravel(), minlength=size * n).reshape(size, n)
        drawn.append(weights.astype(np.float64) @ together / n)
    means = np.concatenate(drawn)
    return [np.ascontiguousarray(means[:, start : start + width]) for start in range(0, means.shape[1], width)]


def _generator(seed: int, stratum: str) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(stratum.encode("utf-8", "surrogatepass"))))


def _few_kinds(rows: Rows) -> tuple[Rows, NDArray[np.intp]] | None:
    """Return the different rows in ascending order, and how often each comes; None where there are many.

    This is ``np.unique`` of rows, which takes ten times as long.
    """
    code, sizes, levels = np.zeros(len(rows), np.intp), 1, []
    for column in rows.T:
        own, level = np.unique(column, return_inverse=True)
        if len(own) > FEW_KINDS:
            return None
        if sizes * len(own) > _MOST_CODES or not np.isfinite(own).all():
            kinds, counts = np.unique(rows, axis=0, return_counts=True)
            return (kinds, counts) if len(kinds) <= FEW_KINDS else None
        code, sizes = code * len(own) + level, sizes * len(own)
        levels.append(own)
    counts = np.bincount(code, minlength=sizes)
    found = np.flatnonzero(counts)
    if len(found) > FEW_KINDS:
        return None
    places = np.unravel_index(found, [len(own) for own in levels])
    return np.column_stack([own[each] for own, each in zip(levels, places, strict=True)]), counts[found]


def stands_second(first: Sequence[Rows], second: Sequence[Rows]) -> bool:
    """Return whether a pair of models is compared the other way round, and the result turned.

    The first is the one with the higher number where they first differ, so that a comparison does not depend on the
    order in which two models are given.

    Args:
        first: Of each stratum the first model's numbers.
        second: The second model's, in the same shapes.
    """
    for own, other in zip(first, second, strict=True):
        apart = np.asarray(own).ravel() != np.asarray(other).ravel()
        if apart.any():
            place = int(apart.argmax())
            return bool(np.asarray(own).ravel()[place] < np.asarray(other).ravel()[place])
    return False


def _size(stratum: str, rows: Rows) -> _Size:
    return stratum, rows.shape[0], rows.shape[1]


def _digest(rows: Rows) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(rows, np.float64).tobytes(), digest_size=16).digest()
