"""As much of Xet's storage as its client asks to read a file: a plan of its parts, and the parts themselves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

CHUNK = 64 << 10


def pieces(content: bytes) -> Iterator[bytes]:
    """A file in chunks, as a client splits it; here of one length."""
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]


def stored(content: bytes) -> bytes:
    """A file as storage holds it: every chunk uncompressed behind a header of 8 bytes."""
    return b"".join(_header(piece) + piece for piece in pieces(content))


def reconstruction(digest: str, content: bytes, address: str) -> dict[str, Any]:
    """The plan by which a client puts a file together: one part, which holds all of it.

    Args:
        digest: The file's name in the storage, and the part's.
        content: Of the file.
        address: Where the part is.
    """
    chunks = len(list(pieces(content)))
    everything = {"start": 0, "end": chunks}
    size = len(stored(content))
    return {
        "offset_into_first_range": 0,
        "terms": [{"hash": digest, "unpacked_length": len(content), "range": everything}],
        "fetch_info": {digest: [{"range": everything, "url": address, "url_range": {"start": 0, "end": size - 1}}]},
    }


def _header(piece: bytes) -> bytes:
    """Version, compressed length (3 bytes), kind of compression (none), length (3 bytes)."""
    length = struct.pack("<I", len(piece))[:3]
    return b"\0" + length + b"\0" + length
