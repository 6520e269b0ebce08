"""What a Hub does with uploads: create_repo, preupload, LFS objects, commit; and repositories that are renamed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tests.hub.repositories import LARGE_ENDINGS, Content, Kind, Repository

CREATED = 200
CONFLICT = 409


class UploadError(Exception):
    """An upload that is refused.

    Attributes:
        status: Of the answer.
        code: Of the Hub's errors, or None.
    """

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Uploads:
    """Objects that were uploaded and not committed yet, and what is made of them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def create(self, repositories: dict[tuple[Kind, str], Repository], user: str, form: Mapping[str, Any]) -> str:
        """Create a repository; returns its name."""
        kind: Kind = "dataset" if form.get("type") == "dataset" else "model"
        name = f"{form.get('organization') or user}/{form['name']}"
        if (kind, name) in repositories:
            raise UploadError(CONFLICT, None, "You already created this repo")
        private = bool(form.get("private")) or form.get("visibility") == "private"
        made = Repository(kind, name, private=private, readers={user}, writers={user})
        made.commit({".gitattributes": "*.safetensors filter=lfs\n"}, message="initial commit")
        repositories[kind, name] = made
        return name

    def modes(self, form: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Which files are to be uploaded to LFS, and which come with the commit."""
        return [
            {
                "path": file["path"],
                "uploadMode": "lfs" if str(file["path"]).endswith(LARGE_ENDINGS) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in form.get("files", [])
        ]

    def batch(self, form: Mapping[str, Any], address: str) -> list[dict[str, Any]]:
        """Where to put LFS objects; those that are here need no place."""
        return [
            {"oid": each["oid"], "size": each["size"]}
            | (
                {}
                if each["oid"] in self.objects
                else {"actions": {"upload": {"href": f"{address}/upload/{each['oid']}", "header": {}}}}
            )
            for each in form.get("objects", [])
        ]

    def put(self, digest: str, body: bytes) -> None:
        """Take an LFS object."""
        if hashlib.sha256(body).hexdigest() != digest:
            raise UploadError(400, None, "the content has another SHA-256")
        self.objects[digest] = body

    def commit(self, repository: Repository, branch: str, lines: bytes) -> str:
        """Commit what the lines of a request say; returns the commit's id."""
        files: dict[str, Content] = {}
        gone: list[str] = []
        message = "Upload files"
        for line in lines.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.objects:
                    raise UploadError(400, None, f"the LFS object of {value['path']} was not uploaded")
                files[value["path"]] = self.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                gone.append(value["path"])
        return repository.commit(files, branch=branch, delete=gone, message=message)
