"""Read items by their numbers: what classes have in common that make or look up an item when it is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

Item = TypeVar("Item")


class Items(Sequence[Item]):
    """Give items by their numbers, negative ones from the end; a slice of them as a list.

    A class of such items says how many they are (``__len__``), and gives each by :meth:`at`.
    """

    @abstractmethod
    def at(self, place: int) -> Item:
        """Return the item of a number from 0 up to their count."""

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self.at(place) for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self.at(place)

    def __iter__(self) -> Iterator[Item]:
        return (self.at(place) for place in range(len(self)))
