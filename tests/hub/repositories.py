"""What a Hub holds: repositories with commits, branches and tags, and who may read them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["model", "dataset"]
Content = str | bytes

LARGE_ENDINGS = (".safetensors", ".parquet", ".bin", ".arrow", ".zip", ".gz", ".model")
"""Names that the Hub's .gitattributes put under LFS; such files are served from the second address."""


@dataclass(frozen=True)
class File:
    """A file of a commit.

    Attributes:
        content: Its bytes.
        large: Whether it is kept by LFS, with its SHA-256 as its name, rather than by git.
    """

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        """The digest that LFS knows it by."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git keeps in the place of a large file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def blob_id(self) -> str:
        """The name of git's own blob."""
        kept = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept, usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        """What the Hub sends as the entity tag."""
        return self.sha256 if self.large else self.blob_id

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    sha: str
    files: Mapping[str, File]
    message: str


@dataclass
class Repository:
    """A model's or a data set's repository.

    Attributes:
        kind: What it is.
        id: ``organisation/name``.
        private: Whether only ``readers`` see that it exists.
        gated: Whether all see it, but only ``readers`` get its files.
        readers: Names of users.
        writers: Names of users who may push.
        xet: Whether large files are in Xet's storage.
        commits: By their ids, the oldest first.
        branches: Commit of each.
        tags: Commit of each.
    """

    kind: Kind
    id: str
    private: bool = False
    gated: bool = False
    readers: Collection[str] = ()
    writers: Collection[str] = ()
    xet: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(
        self,
        files: Mapping[str, Content],
        *,
        branch: str = "main",
        delete: Collection[str] = (),
        sha: str | None = None,
        message: str = "Upload files",
    ) -> str:
        """Put files on a branch, beside those it has.

        Args:
            files: Contents by path; text is encoded as UTF-8.
            branch: The branch; a new one begins with the files of ``main``, where there is one.
            delete: Paths to take away.
            sha: The id of the commit, 40 hexadecimal digits; made from the content if None.
            message: Of the commit.

        Returns:
            The id of the commit.
        """
        parent = self.branches.get(branch, self.branches.get("main"))
        before = dict(self.commits[parent].files) if parent is not None else {}
        kept = {path: file for path, file in before.items() if path not in delete}
        kept |= {path: _file(path, content) for path, content in files.items()}
        listing = "".join(f"{path} {file.etag}\n" for path, file in sorted(kept.items()))
        made = hashlib.sha1(f"{self.id} {parent} {len(self.commits)} {message}\n{listing}".encode()).hexdigest()  # noqa: S324
        commit = Commit(sha or made, kept, message)
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit.sha

    def tag(self, name: str, revision: str = "main") -> None:
        """Give a commit a name that stays."""
        found = self.find(revision)
        if found is None:
            raise KeyError(revision)
        self.tags[name] = found.sha

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, an id or the beginning of one means."""
        sha = self.branches.get(revision) or self.tags.get(revision)
        if sha is None and len(revision) >= 7:
            found = [known for known in self.commits if known.startswith(revision)]
            sha = found[0] if len(found) == 1 else None
        return None if sha is None else self.commits.get(sha)


def _file(path: str, content: Content) -> File:
    data = content.encode() if isinstance(content, str) else content
    return File(data, large=path.endswith(LARGE_ENDINGS))
