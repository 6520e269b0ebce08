"""Fetch files of a commit into the Hub's cache: resumed, checked against their digests, stopped within a second.

``huggingface_hub`` moves the bytes (over HTTP, or from Xet's storage). What it leaves to do is done here: a part that
arrived is kept and continued from by the next command, every file is compared with its digest before it gets its name,
a connection that broke off is made again, and Ctrl-C does not wait for the files under way.
"""

from __future__ import annotations

import logging
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_cache import HubFile, cache_folder, has_digest, link, snapshot_folder, storage
from smaug_eval.common.hub_errors import WORDS, Kind, LoginPage, XetFailed, cause_of, reason
from smaug_eval.common.hub_requests import limits, note_answer, note_failure, pause, timeout

log = logging.getLogger(__name__)

THREADS = 4
XET_SILENCE = 20.0
"""Seconds without a byte from Xet's storage, after which a file is fetched over plain HTTP."""
WORTH = 1 << 20
"""Bytes that an attempt must bring not to count as one that failed."""
MOST_SILENT = 2
"""Attempts in which no byte arrived for ``HF_HUB_DOWNLOAD_TIMEOUT`` seconds, and nothing worth keeping before."""
_WAITS = (0.5, 1.0, 2.0, 4.0)
_SPARE = 64 << 20
_ENDS, _ENDS_AT_ONCE = 1.0, 0.2
"""Seconds that files under way get to end: after an error, and after Ctrl-C."""
_POLL = 0.1
PARTIAL_CONTENT = 206
_LOCK_POLL = 0.5

_bars = True


def draw_bars(on: bool) -> None:
    """Say whether this process draws progress bars of what it fetches."""
    global _bars
    _bars = on


class Damaged(Exception):
    """Report a file that arrived twice with other content than its digest stands for."""


class _Stopped(Exception):
    """The user does not want the file any more."""


class Transfer:
    """Fetch files of one commit.

    Args:
        kind: ``model`` or ``dataset``.
        hub_id: ``organisation/name``.
        commit: The commit's full id.
        quiet: Draw no progress bar.
    """

    def __init__(self, kind: Kind, hub_id: str, commit: str, *, quiet: bool = False) -> None:
        self._kind, self._hub_id, self._commit, self._quiet = kind, hub_id, commit, quiet
        self._storage = storage(kind, hub_id)
        self._folder = snapshot_folder(kind, hub_id, commit)
        self._stop = threading.Event()
        self._xet = _xet_is_available()
        self._bar: Any = None
        self._bar_lock = threading.Lock()

    def fetch(self, files: Sequence[HubFile]) -> None:
        """Fetch what is missing of these files, so that the cache has them whole.

        Raises:
            KeyboardInterrupt: the user stopped it; what arrived is kept.
            SmaugError: there is no room for them.
            Damaged: one arrived damaged twice.
            Exception: of a client library, or of the file system.
        """
        self._refuse_without_room(files)
        talkative = "huggingface_hub.file_download", "huggingface_hub.utils._http"
        with self._shown(files), _silenced(*talkative):
            self._fetch_all(sorted(files, key=lambda file: -file.size))

    def _fetch_all(self, files: Sequence[HubFile]) -> None:
        waiting: queue.SimpleQueue[HubFile] = queue.SimpleQueue()
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        for file in files:
            waiting.put(file)

        def work() -> None:
            while not self._stop.is_set():
                try:
                    file = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    self._fetch_one(file)
                except BaseException as error:
                    ended.put(error)
                    return
                ended.put(None)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(files)))]
        for thread in threads:
            thread.start()
        try:
            for _ in files:
                if (error := _next_of(ended)) is not None:
                    raise error
        except BaseException as error:
            self._stop.set()
            stopped = isinstance(error, KeyboardInterrupt)
            if stopped:
                _end_xet()
            limit = time.monotonic() + (_ENDS_AT_ONCE if stopped else _ENDS)
            for thread in threads:
                thread.join(max(0.0, limit - time.monotonic()))
            if stopped:
                what = f"{WORDS[self._kind]} {self._hub_id}"
                raise KeyboardInterrupt(
                    f"while {what} was fetched; the same command resumes with what has arrived"
                ) from None
            raise

    def _fetch_one(self, file: HubFile) -> None:
        place = self._folder / file.path
        blob = self._storage / "blobs" / file.digest
        if place.exists():
            return
        blob.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(file):
            if not blob.exists():
                part = blob.with_name(f"{blob.name}.incomplete")
                self._fetch_whole(file, part)
                part.replace(blob)
            link(blob, place)

    def _fetch_whole(self, file: HubFile, part: Path) -> None:
        """Have the file in a partial one, with the content that its digest stands for."""
        for last in (False, True):
            self._fetch_part(file, part)
            if has_digest(part, file.digest):
                return
            part.unlink()
            if last:
                raise Damaged(file.path)
            log.warning("%s of %s arrived damaged; it is fetched again", file.path, self._hub_id)

    def _fetch_part(self, file: HubFile, part: Path) -> None:
        if file.xet is not None and self._xet:
            try:
                self._from_xet(file, part)
                return
            except _Stopped:
                raise
            except Exception as error:
                self._xet = False
                why = reason(error)
                log.warning("Xet's storage cannot be read (%s); %s is fetched over plain HTTP", why, file.path)
                try:
                    self._over_http(file, part)
                except _Stopped:
                    raise
                except Exception as again:
                    if cause_of(again).no_answer:
                        raise
                    raise XetFailed(f"{why}; over plain HTTP: {reason(again)}") from again
                return
        self._over_http(file, part)

    def _over_http(self, file: HubFile, part: Path) -> None:
        """Append what is missing, in as many attempts as bring something, and a few that do not."""
        from huggingface_hub import constants

        waits, silent = iter(_WAITS), 0
        while True:
            had = part.stat().st_size if part.exists() else 0
            try:
                self._append(file, part, float(constants.HF_HUB_DOWNLOAD_TIMEOUT) / (silent + 1))
                note_answer(answered=True)
                return
            except _Stopped:
                raise
            except Exception as error:
                cause = cause_of(error)
                if part.exists() and part.stat().st_size >= had + WORTH:
                    waits, silent = iter(_WAITS), 0
                silent += "Timeout" in type(error).__name__
                wait = next(waits, None)
                if not cause.passes or wait is None or silent >= MOST_SILENT or self._stop.is_set():
                    note_failure(error)
                    raise
                pause(f"{file.path} of {self._hub_id}", error, wait)

    def _append(self, file: HubFile, part: Path, seconds: float) -> None:
        """Fetch what a partial file lacks, and give up where no byte arrives for some seconds.

        Raises:
            LoginPage: what arrives is a web page.
            ConnectionError: less arrived than the Hub lists.
            Exception: of the HTTP client or of ``huggingface_hub``.
        """
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        had = part.stat().st_size if part.exists() else 0
        if had > file.size:
            had = 0
        if had == file.size and part.exists():
            return
        address = hf_hub_url(
            self._hub_id, file.path, repo_type=self._kind, revision=self._commit, endpoint=constants.ENDPOINT
        )
        headers = build_hf_headers(library_name="smaug-eval") | {"Accept-Encoding": "identity"}
        if had:
            headers["Range"] = f"bytes={had}-"
        meter = self._meter()()
        with get_session().stream("GET", address, headers=headers, timeout=limits(seconds)) as response:
            hf_raise_for_status(response)
            if "text/html" in response.headers.get("Content-Type", "") and not file.path.endswith((".html", ".htm")):
                raise LoginPage(f"{file.path} is a web page")
            # Without a buffer: a process that ends at once leaves all that has arrived.
            with part.open("ab" if response.status_code == PARTIAL_CONTENT else "wb", buffering=0) as stream:
                for piece in response.iter_bytes():
                    meter.update(len(piece))
                    stream.write(piece)
                arrived = stream.tell()
        if arrived < file.size:
            raise ConnectionError(f"{arrived:,} of {file.size:,} bytes arrived")

    def _from_xet(self, file: HubFile, part: Path) -> None:
        """Fetch a file from Xet's storage, and give up where no byte arrives for a while."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import xet_get
        from huggingface_hub.utils import build_hf_headers
        from huggingface_hub.utils._xet import XetFileData, refresh_xet_connection_info

        route = f"{constants.ENDPOINT}/api/{self._kind}s/{self._hub_id}/xet-read-token/{self._commit}"
        data = XetFileData(file_hash=str(file.xet), refresh_route=route)
        headers = build_hf_headers(library_name="smaug-eval")
        _refuse_closed(refresh_xet_connection_info(file_data=data, headers=headers).endpoint)
        clock = _Clock()
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        own = part.with_name(f"{part.name}.xet")

        def work() -> None:
            try:
                xet_get(
                    incomplete_path=own,
                    xet_file_data=data,
                    headers=headers,
                    expected_size=file.size,
                    displayed_filename=file.path,
                    tqdm_class=self._meter(clock),
                )
                ended.put(None)
            except BaseException as error:
                ended.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            error = _next_of(ended, self._stop, clock)
        except (TimeoutError, _Stopped) as stopped:
            if isinstance(stopped, TimeoutError):
                _end_xet()
            own.unlink(missing_ok=True)  # what still writes to it writes to nothing
            raise
        if error is not None:
            own.unlink(missing_ok=True)
            raise error
        own.replace(part)

    def _meter(self, clock: _Clock | None = None) -> type[Any]:
        """A class in the place of ``tqdm``: it counts, and stops what the user does not want any more."""
        transfer = self

        class Meter:
            def __init__(self, *arguments: Any, **options: Any) -> None:
                self.n = 0

            def __enter__(self) -> Meter:
                return self

            def __exit__(self, *error: object) -> None:
                pass

            def update(self, n: float | None = 1) -> None:
                if transfer._stop.is_set():
                    raise _Stopped
                if clock is not None:
                    clock.touch()
                if transfer._bar is not None and n:
                    with transfer._bar_lock:
                        transfer._bar.update(n)

            def update_transfer(self, n: float | None = 1) -> None:
                if clock is not None and n:
                    clock.touch()

            def close(self) -> None:
                pass

            def set_postfix_str(self, *arguments: Any, **options: Any) -> None:
                pass

            set_transfer_postfix_str = set_description_str = set_description = refresh = set_postfix_str

        return Meter

    @contextmanager
    def _shown(self, files: Sequence[HubFile]) -> Iterator[None]:
        """Draw a bar of all bytes, with their rate and the time left, on a terminal."""
        if self._quiet or not _bars:
            yield
            return
        from huggingface_hub.utils import tqdm

        parts = [self._storage / "blobs" / f"{file.digest}.incomplete" for file in files]
        self._bar = tqdm(
            total=sum(file.size for file in files),
            initial=sum(part.stat().st_size for part in parts if part.exists()),
            unit="B",
            unit_scale=True,
            desc=f"{self._hub_id}: {len(files)} files" if len(files) > 1 else f"{self._hub_id}: {files[0].path}",
            disable=None,
            name="smaug_eval.hub",
        )
        try:
            yield
        finally:
            self._bar.close()

    @contextmanager
    def _locked(self, file: HubFile) -> Iterator[None]:
        """Hold the lock that all clients of the Hub take for a file, so that two processes fetch it once."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        path = cache_folder() / ".locks" / self._storage.name / f"{file.digest}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        told = False
        while True:
            lock = WeakFileLock(path, timeout=_LOCK_POLL)
            try:
                lock.__enter__()
                break
            except Timeout:
                if self._stop.is_set():
                    raise _Stopped from None
                if not told:
                    log.info("another process fetches %s of %s; waiting for it", file.path, self._hub_id)
                    told = True
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _refuse_without_room(self, files: Sequence[HubFile]) -> None:
        needed = 0
        for file in files:
            part = self._storage / "blobs" / f"{file.digest}.incomplete"
            if not part.with_name(file.digest).exists():
                needed += file.size - min(file.size, part.stat().st_size if part.exists() else 0)
        place = cache_folder()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if needed > _SPARE and needed + _SPARE > free:
            raise SmaugError(
                f"{WORDS[self._kind]} {self._hub_id!r}: {needed / 1e9:.1f} GB are to be fetched, and {place} has room "
                f"for {free / 1e9:.1f} GB",
                fix="free some space there, or set HF_HOME to a folder on a larger disk",
            )


class _Clock:
    """When something last arrived."""

    def __init__(self) -> None:
        self.touch()

    def touch(self) -> None:
        self._at = time.monotonic()

    def is_silent(self) -> bool:
        return time.monotonic() - self._at > XET_SILENCE


def _next_of(
    ended: queue.SimpleQueue[BaseException | None], stop: threading.Event | None = None, clock: _Clock | None = None
) -> BaseException | None:
    """The next thing that ended; signals are handled meanwhile.

    Raises:
        TimeoutError: nothing arrives.
    """
    while True:
        try:
            return ended.get(timeout=_POLL)
        except queue.Empty:
            if stop is not None and stop.is_set():
                raise _Stopped from None
            if clock is not None and clock.is_silent():
                raise TimeoutError(f"no byte in {XET_SILENCE:.0f} seconds") from None


def _xet_is_available() -> bool:
    from huggingface_hub.file_download import is_xet_available

    return bool(is_xet_available())


def _refuse_closed(address: str) -> None:
    """Find out in seconds whether a host can be reached at all; hf_xet asks for minutes.

    Raises:
        OSError: it cannot.
    """
    import urllib.request

    parts = urlsplit(address)
    if parts.hostname is None or parts.scheme in urllib.request.getproxies():
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname, port), timeout=min(5.0, timeout())).close()


def _end_xet() -> None:
    """Stop what hf_xet does, whose own threads do not see a signal."""
    if not _xet_is_available():
        return
    from huggingface_hub.utils import _xet

    end: Callable[[], None] | None = getattr(_xet, "abort_xet_session", None)
    if end is not None:
        end()


@contextmanager
def _silenced(*names: str) -> Iterator[None]:
    """Without the warnings of a library, which hold addresses; what they say is said by the caller."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
