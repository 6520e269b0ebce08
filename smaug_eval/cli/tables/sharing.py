"""Show what is published, or would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from smaug_eval.sharing.publishing import Publication


def publication_tables(found: Publication) -> Group:
    """Return the files with their sizes, and what happens to them."""
    table = Table("file", "bytes", "SHA-256", "")
    for each in found.files:
        state = "unchanged" if each.is_there else "to send" if found.commit is None else "sent"
        table.add_row(Text(each.path), f"{each.size:,}", each.sha256[:12], state)
    size = sum(each.size for each in found.to_send)
    kind = "private" if found.private else "public"
    made = f"new {kind} repository" if found.creates else "repository"
    if found.commit is not None:
        end = f"{found.url}: {made}, {len(found.to_send)} files, {size:,} bytes sent as commit {found.commit}"
    elif found.to_send:
        end = f"{found.url}: {made}; {len(found.to_send)} files, {size:,} bytes to send. Nothing was sent."
    else:
        end = f"{found.url}: nothing to send, the repository has every file"
    return Group(table, Text(end), *(Text(f"note: {note}") for note in found.notes))
