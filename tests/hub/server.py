"""A Hub on loopback, for the real clients: ``huggingface_hub``, ``transformers``, ``datasets`` and ``hf_xet``.

Two addresses, as the Hub has them: one for its API and small files, and one ("CDN") that large files are redirected to,
with a signature in the query. Routes, headers and error codes are those that ``huggingface_hub`` 2 asks for and reads.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub.faults import LOGIN_PAGE, Fault, FaultKind, FaultPlan
from tests.hub.repositories import Commit, Content, File, Kind, Repository
from tests.hub.uploads import UploadError, Uploads
from tests.hub.xet import reconstruction, stored

REDIRECT_SECONDS = 3600
DATE = "2024-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Request:
    """A request as the log keeps it.

    Attributes:
        host: ``hub`` or ``cdn``.
        method: GET, HEAD, ...
        target: Path and query, as sent.
        token: What it sent as a bearer token.
        range: What it sent as ``Range``.
        status: What was answered; 0 where the connection was ended instead.
    """

    host: str
    method: str
    target: str
    token: str | None
    range: str | None
    status: int

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A request that gets an error.

    Attributes:
        answer: The error.
    """

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer(status, json.dumps({"error": message}).encode(), headers)


class Hub:
    """A Hub, served from the moment it is made until :meth:`close`.

    Attributes:
        page_size: Entries of a listing that are sent at once.
        xet_url: Where Xet's storage is said to be; at the second address if None.
    """

    def __init__(self) -> None:
        self.page_size = 1000
        self._repositories: dict[tuple[Kind, str], Repository] = {}
        self._tokens: dict[str, str] = {}
        self._renamed: dict[str, str] = {}
        self._uploads = Uploads()
        self.xet_url: str | None = None
        self._secret = secrets.token_bytes()
        self._log: list[Request] = []
        self._faults = FaultPlan()
        self._lock = threading.Lock()
        self._servers = [_serve(self, host) for host in ("hub", "cdn")]

    def __enter__(self) -> Hub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; its addresses refuse connections from then on."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.hang_up()

    @property
    def url(self) -> str:
        """The address of the API: a client's ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn_url(self) -> str:
        """The address that large files are redirected to; another host name, so that tokens are not sent there."""
        return f"http://localhost:{self._servers[1].server_port}"

    def add_model(self, name: str, files: Mapping[str, Content] | None = None, **options: Any) -> Repository:
        """A repository of a model; with files, they are the first commit on ``main``.

        Args:
            name: ``organisation/name``.
            files: Contents by path.
            **options: ``private``, ``gated``, ``readers``, ``writers`` and ``xet`` of
                :class:`~tests.hub.repositories.Repository`, and ``sha``, the id of the first commit.
        """
        return self._add("model", name, files, **options)

    def add_dataset(self, name: str, files: Mapping[str, Content] | None = None, **options: Any) -> Repository:
        """A repository of a data set; arguments as of :meth:`add_model`."""
        return self._add("dataset", name, files, **options)

    def add_user(self, name: str) -> str:
        """A user; returns the token to send."""
        token = f"hf_{secrets.token_hex(17)}"
        self._tokens[token] = name
        return token

    def rename(self, old: str, new: str) -> None:
        """Give a repository another name; the Hub redirects from the old one."""
        for (kind, name), repository in list(self._repositories.items()):
            if name == old:
                repository.id = new
                self._repositories[kind, new] = self._repositories.pop((kind, old))
        self._renamed[old] = new

    def find(self, kind: Kind, name: str) -> Repository:
        """The repository of a name."""
        return self._repositories[kind, name]

    def commit(self, name: str, files: Mapping[str, Content], **options: Any) -> str:
        """Push to the repository of a name; further arguments as of :meth:`Repository.commit`."""
        (repository,) = (each for (_, known), each in self._repositories.items() if known == name)
        return repository.commit(files, **options)

    def plan_fault(self, match: str, kind: FaultKind, *, times: int | None = 1, **options: Any) -> Fault:
        """Let requests go wrong; arguments as of :class:`~tests.hub.faults.Fault`."""
        return self._faults.add(Fault(match, kind, times, **options))

    def clear_faults(self) -> None:
        """Let everything go well again."""
        self._faults.clear()

    def requests(self, match: str = "", *, host: str | None = None) -> list[Request]:
        """The requests so far, of a pattern in ``METHOD /path?query``, in order."""
        with self._lock:
            return [each for each in self._log if re.search(match, str(each)) and host in (None, each.host)]

    def forget_requests(self) -> None:
        """Begin the log anew."""
        with self._lock:
            self._log.clear()

    # What follows is the server's own.

    def answer(self, host: str, method: str, target: str, token: str | None, body: bytes) -> Answer:
        """Answer a request."""
        parts = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            if host == "cdn":
                if method == "PUT":
                    self._uploads.put(parts.path.rpartition("/")[2], body)
                    return Answer(200)
                return self._from_cdn(parts.path, query)
            for old, new in self._renamed.items():
                if re.search(rf"/{re.escape(old)}(?=/|\.git|$)", parts.path):
                    where = parts.path.replace(f"/{old}", f"/{new}", 1) + (f"?{parts.query}" if parts.query else "")
                    return Answer(307, b"Temporary Redirect", {"Location": where})
            user = self._user(token)
            for pattern, route in _ROUTES:
                if (match := pattern.fullmatch(parts.path)) is not None:
                    asked = _Asked(method, match.groupdict(), query, user, body)
                    return route(self, asked)
            raise Refused(404, None, "Sorry, we can't find the page you are looking for.")
        except Refused as refused:
            return refused.answer
        except UploadError as error:
            return Refused(error.status, error.code, str(error)).answer

    def take_fault(self, request: str) -> Fault | None:
        """The fault that is planned for a request."""
        return self._faults.take(request)

    def note(self, request: Request) -> None:
        """Keep a request in the log."""
        with self._lock:
            self._log.append(request)

    def _add(
        self,
        kind: Kind,
        name: str,
        files: Mapping[str, Content] | None,
        *,
        private: bool = False,
        gated: bool = False,
        readers: Collection[str] = (),
        writers: Collection[str] = (),
        xet: bool = False,
        sha: str | None = None,
    ) -> Repository:
        repository = Repository(kind, name, private, gated, readers, writers, xet)
        self._repositories[kind, name] = repository
        if files is not None:
            repository.commit(files, sha=sha)
        return repository

    def _user(self, token: str | None) -> str | None:
        if token is None:
            return None
        if token not in self._tokens:
            raise Refused(401, None, "Invalid credentials in Authorization header")
        return self._tokens[token]

    def _repository(self, asked: _Asked, *, files: bool = False) -> Repository:
        """The repository that is asked for.

        Raises:
            Refused: there is none that this user may see, or get the files of.
        """
        kind: Kind = "dataset" if asked.parts["kind"] == "datasets" else "model"
        found = self._repositories.get((kind, unquote(asked.parts["id"])))
        if found is None or (found.private and asked.user not in found.readers):
            raise Refused(401 if asked.user is None else 404, "RepoNotFound", "Repository not found")
        if files and found.gated and asked.user not in found.readers:
            message = f"Access to {kind} {found.id} is restricted."
            raise Refused(401 if asked.user is None else 403, "GatedRepo", message)
        return found

    def _commit(self, asked: _Asked, *, files: bool = False) -> tuple[Repository, Commit]:
        repository = self._repository(asked, files=files)
        revision = unquote(asked.parts.get("revision") or "main")
        commit = repository.find(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _who_am_i(self, asked: _Asked) -> Answer:
        if asked.user is None:
            raise Refused(401, None, "Invalid username or password.")
        return _json({"type": "user", "name": asked.user, "auth": {"type": "access_token"}, "orgs": []})

    def _info(self, asked: _Asked) -> Answer:
        repository, commit = self._commit(asked)
        blobs = asked.query.get("blobs") == "True" or asked.query.get("blobs") == "true"
        return _json(
            {
                "id": repository.id,
                "author": repository.id.partition("/")[0],
                "sha": commit.sha,
                "private": repository.private,
                "gated": "auto" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "createdAt": DATE,
                "lastModified": DATE,
                "siblings": [
                    {"rfilename": path, **(_blob(file) if blobs else {})} for path, file in sorted(commit.files.items())
                ],
                **({"modelId": repository.id} if repository.kind == "model" else {}),
            }
        )

    def _refs(self, asked: _Asked) -> Answer:
        repository = self._repository(asked)
        listed = {
            group: [{"name": name, "ref": f"refs/{ref}/{name}", "targetCommit": sha} for name, sha in names.items()]
            for group, ref, names in (("branches", "heads", repository.branches), ("tags", "tags", repository.tags))
        }
        return _json({**listed, "converts": []})

    def _tree(self, asked: _Asked) -> Answer:
        repository, commit = self._commit(asked)
        folder = unquote(asked.parts.get("path") or "")
        recursive = asked.query.get("recursive", "").lower() == "true"
        entries = _entries(commit, folder, recursive=recursive, xet=repository.xet)
        if folder and not entries:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist on this revision")
        start = int(asked.query.get("cursor", 0))
        page, rest = entries[start : start + self.page_size], entries[start + self.page_size :]
        answer = _json(page)
        if rest:
            again = "&".join(f"{key}={value}" for key, value in asked.query.items() if key != "cursor")
            where = f"{self.url}/api/{asked.parts['kind']}/{asked.parts['id']}/tree/{asked.parts['revision']}"
            where += f"/{asked.parts['path']}" if asked.parts.get("path") else ""
            answer.headers["Link"] = f'<{where}?{again}&cursor={start + self.page_size}>; rel="next"'
        return answer

    def _paths_info(self, asked: _Asked) -> Answer:
        _, commit = self._commit(asked)
        names = _form(asked.body).get("paths", [])
        wanted = [names] if isinstance(names, str) else names
        found = [each for each in _entries(commit, "", recursive=True) if each["path"] in wanted]
        return _json(found)

    def _create(self, asked: _Asked) -> Answer:
        user = self._writer(asked, None)
        form = _form(asked.body)
        name = self._uploads.create(self._repositories, user, form)
        prefix = "datasets/" if form.get("type") == "dataset" else ""
        return _json({"url": f"{self.url}/{prefix}{name}", "name": name})

    def _validate_card(self, asked: _Asked) -> Answer:
        return _json({"errors": [], "warnings": []})

    def _preupload(self, asked: _Asked) -> Answer:
        self._writer(asked, self._repository(asked))
        return _json({"files": self._uploads.modes(_form(asked.body))})

    def _lfs_batch(self, asked: _Asked) -> Answer:
        self._writer(asked, self._repository(asked))
        objects = self._uploads.batch(_form(asked.body), self.cdn_url)
        return _json({"transfer": "basic", "objects": objects})

    def _push(self, asked: _Asked) -> Answer:
        repository = self._repository(asked)
        self._writer(asked, repository)
        sha = self._uploads.commit(repository, unquote(asked.parts["revision"]), asked.body)
        return _json({"commitUrl": f"{self.url}/{repository.id}/commit/{sha}", "commitOid": sha, "success": True})

    def _writer(self, asked: _Asked, repository: Repository | None) -> str:
        if asked.user is None:
            raise Refused(401, None, "Invalid username or password.")
        if repository is not None and asked.user not in repository.writers:
            raise Refused(403, None, "Forbidden: you must use a token with write access to this repository")
        return asked.user

    def _xet_token(self, asked: _Asked) -> Answer:
        if asked.parts["use"] == "write":
            self._writer(asked, self._repository(asked))
        else:
            self._commit(asked, files=True)
        place = self.xet_url or self.cdn_url
        expires = int(time.time()) + REDIRECT_SECONDS
        answer = _json({"casUrl": place, "exp": expires, "accessToken": "xet-token"})
        answer.headers |= {
            "X-Xet-Cas-Url": place,
            "X-Xet-Access-Token": "xet-token",
            "X-Xet-Token-Expiration": str(expires),
        }
        return answer

    def _resolve(self, asked: _Asked) -> Answer:
        repository, commit = self._commit(asked, files=True)
        path = unquote(asked.parts["path"])
        file = commit.files.get(path)
        if file is None:
            refused = Refused(404, "EntryNotFound", "Entry not found")
            refused.answer.headers["X-Repo-Commit"] = commit.sha
            raise refused
        headers = {
            "X-Repo-Commit": commit.sha,
            "ETag": f'"{file.etag}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if not file.large:
            return Answer(200, file.content, headers)
        expires = str(int(time.time()) + REDIRECT_SECONDS)
        address = (
            f"{self.cdn_url}/files/{file.sha256}?Expires={expires}&Signature={self._signature(file.sha256, expires)}"
        )
        linked = {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size), "Location": address}
        if repository.xet:
            route = f"{self.url}/api/{repository.kind}s/{repository.id}/xet-read-token/{commit.sha}"
            linked |= {"X-Xet-Hash": file.sha256, "X-Xet-Refresh-Route": route}
            linked["Link"] = f'<{route}>; rel="xet-auth"'
        return Answer(302, b"Found. Redirecting", headers | linked)

    def _from_cdn(self, path: str, query: Mapping[str, str]) -> Answer:
        if (planned := re.fullmatch(r"/v1/reconstructions/([0-9a-f]{64})", path)) is not None:
            found = self._object(planned[1])
            address = f"{self.cdn_url}/xorbs/{planned[1]}"
            return Answer(404) if found is None else _json(reconstruction(planned[1], found, address))
        if path.startswith("/v2/"):  # the client asks the first version then
            return Answer(404)
        if path.startswith("/xorbs/"):
            found = self._object(path.removeprefix("/xorbs/"))
            return Answer(404) if found is None else Answer(200, stored(found), {"Accept-Ranges": "bytes"})
        digest = path.removeprefix("/files/")
        if not hmac.compare_digest(query.get("Signature", ""), self._signature(digest, query.get("Expires", ""))):
            return Answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        found = self._object(digest)
        if found is None:
            return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        return Answer(200, found, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})

    def _object(self, digest: str) -> bytes | None:
        """The content of a large file."""
        for repository in self._repositories.values():
            for commit in repository.commits.values():
                for file in commit.files.values():
                    if file.large and file.sha256 == digest:
                        return file.content
        return None

    def _signature(self, digest: str, expires: str) -> str:
        return hmac.new(self._secret, f"{digest} {expires}".encode(), "sha256").hexdigest()


@dataclass(frozen=True)
class _Asked:
    """A request that a route answers."""

    method: str
    parts: Mapping[str, str]
    query: Mapping[str, str]
    user: str | None
    body: bytes


_ID = r"(?P<id>[^/]+/[^/]+)"
_API = rf"/api/(?P<kind>models|datasets)/{_ID}"
_ROUTES: list[tuple[re.Pattern[str], Callable[[Hub, _Asked], Answer]]] = [
    (re.compile(r"/api/whoami-v2"), Hub._who_am_i),
    (re.compile(rf"{_API}"), Hub._info),
    (re.compile(rf"{_API}/revision/(?P<revision>[^/]+)"), Hub._info),
    (re.compile(rf"{_API}/refs"), Hub._refs),
    (re.compile(rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?"), Hub._tree),
    (re.compile(rf"{_API}/paths-info/(?P<revision>[^/]+)"), Hub._paths_info),
    (re.compile(r"/api/repos/create"), Hub._create),
    (re.compile(r"/api/validate-yaml"), Hub._validate_card),
    (re.compile(rf"{_API}/preupload/(?P<revision>[^/]+)"), Hub._preupload),
    (re.compile(rf"{_API}/commit/(?P<revision>[^/]+)"), Hub._push),
    (re.compile(rf"{_API}/xet-(?P<use>read|write)-token/(?P<revision>[^/]+)"), Hub._xet_token),
    (re.compile(rf"/(?:(?P<kind>datasets)/)?{_ID}\.git/info/lfs/objects/batch"), Hub._lfs_batch),
    (re.compile(rf"/(?:(?P<kind>datasets)/)?{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"), Hub._resolve),
]


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})


def _form(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return parse_qs(body.decode())
    return found if isinstance(found, dict) else {}


def _blob(file: File) -> dict[str, Any]:
    lfs = {"size": file.size, "sha256": file.sha256, "pointerSize": len(file.pointer)}
    return {"size": file.size, "blobId": file.blob_id, **({"lfs": lfs} if file.large else {})}


def _entries(commit: Commit, folder: str, *, recursive: bool, xet: bool = False) -> list[dict[str, Any]]:
    """The files and folders of a commit as a listing has them."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, file in commit.files.items():
        if not path.startswith(prefix):
            continue
        names = path.removeprefix(prefix).split("/")
        for depth in range(1, len(names)):
            place = prefix + "/".join(names[:depth])
            if recursive or depth == 1:
                entries[place] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": place}
        if recursive or len(names) == 1:
            lfs = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
            entries[path] = {
                "type": "file",
                "oid": file.blob_id,
                "size": file.size,
                "path": path,
                **({"lfs": lfs} if file.large else {}),
                **({"xetHash": file.sha256} if file.large and xet else {}),
            }
    return [entries[path] for path in sorted(entries)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of a test."""


def _serve(hub: Hub, host: str) -> _Server:
    handler = type("Handler", (_Handler,), {"hub": hub, "host": host})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    host: str

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: Any) -> None:
        """The Hub keeps its own log."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.hub.take_fault(f"{self.command} {self.path}")
        kind = fault.kind if fault is not None else None
        if fault is not None and kind == "wait":
            time.sleep(fault.seconds)
        if kind in ("reset", "drop"):
            self._note(0)
            self._hang_up(reset=kind == "reset")
            return
        if fault is not None and kind == "status":
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            answer = Refused(fault.code, None, fault.message).answer
            answer.headers |= headers
        elif kind == "portal":
            answer = Answer(200, LOGIN_PAGE, {"Content-Type": "text/html; charset=utf-8"})
        else:
            answer = self._ranged(self.hub.answer(self.host, self.command, self.path, self._token(), body))
        if fault is not None and kind == "corrupt":
            answer.body = fault.corrupted(answer.body)
        self._note(answer.status)
        self._send(answer, fault if kind in ("cut", "cut-reset", "slow") else None)

    def _send(self, answer: Answer, cut: Fault | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is None:
            self.wfile.write(answer.body)
            return
        if cut.kind == "slow":
            for start in range(0, len(answer.body), cut.bytes):
                self.wfile.write(answer.body[start : start + cut.bytes])
                time.sleep(cut.seconds)
            return
        self.wfile.write(answer.body[: cut.bytes])
        self.wfile.flush()
        self._hang_up(reset=cut.kind == "cut-reset")

    def _ranged(self, answer: Answer) -> Answer:
        """The part of the body that a range asks for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None or answer.status != 200 or "Accept-Ranges" not in answer.headers:
            return answer
        size, first = len(answer.body), int(asked[1])
        last = min(int(asked[2] or size - 1), size - 1)
        if first >= size:
            return Answer(416, b"", {"Content-Range": f"bytes */{size}"})
        headers = answer.headers | {"Content-Range": f"bytes {first}-{last}/{size}"}
        return Answer(206, answer.body[first : last + 1], headers)

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # With a reader still open the socket would stay, and the client would wait.
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def _token(self) -> str | None:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token if scheme == "Bearer" else None

    def _note(self, status: int) -> None:
        self.hub.note(Request(self.host, self.command, self.path, self._token(), self.headers.get("Range"), status))


def quoted(revision: str) -> str:
    """A revision as an address holds it."""
    return quote(revision, safe="")
