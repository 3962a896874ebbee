"""Downloads that go on where they were cut.

`pooch.retrieve` checks the sha256 and puts a whole file in its place. What it lacks is to take up what a cut
connection or a stopped command left: a `Download` is the downloader that it is handed for that. It fills
`<name>.partial`, keeps the mark by which the server knows the file's version (ETag or date) beside it, and asks for the
rest only.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes of the whole, None where the server does not say."""

ATTEMPTS = 4
"""Attempts in a row that bring no byte before a download is given up."""

FIRST_WAIT_SECONDS = 1.0
"""Wait before the second attempt; it doubles from one to the next."""

_TIMEOUT_SECONDS = (10, 60)  # to connect; of silence
_CHUNK_BYTES = 1 << 16  # what a cut loses of what it sent, at most
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_PASSING_ERRORS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class DownloadError(Exception):
    """The server does not give the file, or cannot be reached; the message says which."""


class UnreachableError(DownloadError):
    """No connection to the server comes about; perhaps there is no network."""


class _Passing(Exception):
    """What may go well at another attempt."""


class Download:
    """Downloads one file by way of `partial`, which is kept where it fails: the next call goes on from there.

    A file of more than `most_bytes` is given up, and nothing of it is kept.
    """

    def __init__(
        self,
        partial: Path,
        *,
        progress: Progress,
        most_bytes: int,
        attempts: int = ATTEMPTS,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.partial = partial
        self.most_bytes = most_bytes
        self.attempts = attempts
        self.mark = partial.with_name(partial.name + "-version")
        self.progress = progress
        self.wait = wait

    def __call__(self, url: str, output_file: str, pooch: object = None) -> None:
        """Puts what is at `url` into `output_file`; DownloadError where that cannot be had. pooch calls this."""
        with _only_one(self.partial):
            self._fill(url)
            os.replace(self.partial, output_file)
        self.mark.unlink(missing_ok=True)

    @property
    def _size(self) -> int:
        return self.partial.stat().st_size

    def _fill(self, url: str) -> None:
        failures = 0
        while True:
            before = self._size
            try:
                return self._attempt(url)
            except _Passing as error:
                failures = 1 if self._size > before else failures + 1
                if failures == self.attempts:
                    kind = UnreachableError if isinstance(error.__cause__, requests.ConnectionError) else DownloadError
                    raise kind(f"{error}{f', {failures} times in a row' if failures > 1 else ''}") from error
            self.wait(FIRST_WAIT_SECONDS * 2 ** (failures - 1))

    def _attempt(self, url: str) -> None:
        try:
            with requests.get(url, headers=self._headers(), stream=True, timeout=_TIMEOUT_SECONDS) as response:
                if response.status_code == 416 and self._is_whole(response):
                    return
                self._receive(response, start=self._start(response))
        except _PASSING_ERRORS as error:
            raise _Passing(_describe(error)) from error
        except requests.RequestException as error:
            raise DownloadError(_describe(error)) from error

    def _headers(self) -> dict[str, str]:
        # Bytes as they are kept, since a range counts those; some servers refuse the name of a mere library.
        headers = {"Accept-Encoding": "identity", "User-Agent": "ladder (scaling-law experiments)"}
        if self._size and self.mark.exists():
            headers |= {"Range": f"bytes={self._size}-", "If-Range": self.mark.read_text()}
        return headers

    def _is_whole(self, response: requests.Response) -> bool:
        """Whether the answer to a range beyond the end says that all bytes are there."""
        return response.headers.get("Content-Range") == f"bytes */{self._size}"

    def _start(self, response: requests.Response) -> int:
        """The byte that the answer begins at, 0 or where the partial file ends."""
        code = response.status_code
        if code in _PASSING:
            raise _Passing(f"the server answered {code} {response.reason}")
        if code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {self._size}-"):
            return self._size
        if code in (206, 416):  # a range that was not asked for: begin anew
            os.truncate(self.partial, 0)
            raise _Passing(f"the server answered {code} with another range")
        if not response.ok:
            raise DownloadError(f"the server answered {code} {response.reason}")
        return 0

    def _receive(self, response: requests.Response, *, start: int) -> None:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        self._check_size(total or 0)
        self._remember(response)
        with self.partial.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in response.iter_content(_CHUNK_BYTES):
                self._check_size(file.tell() + len(chunk))
                file.write(chunk)
                self.progress(file.tell(), total)
        if total is not None and self._size != total:
            raise _Passing(f"the connection was cut after {self._size:,} of {total:,} bytes")

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self.most_bytes:
            os.truncate(self.partial, 0)
            self.mark.unlink(missing_ok=True)
            raise DownloadError(
                f"the server sends {n_bytes:,} bytes or more, and the file has {self.most_bytes:,} at most"
            )

    def _remember(self, response: requests.Response) -> None:
        """Keep the mark of this version of the file; without one the next attempt begins anew."""
        tag = response.headers.get("ETag", "")
        mark = tag if tag.startswith('"') else response.headers.get("Last-Modified")  # a weak tag is no mark of bytes
        if mark is None:
            self.mark.unlink(missing_ok=True)
        else:
            self.mark.write_text(mark)


@contextmanager
def _only_one(partial: Path) -> Iterator[None]:
    """Makes the file, and holds it against another process that would write to it as well."""
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"another process is downloading it into {partial}") from error
        except OSError as error:  # a file system without locks
            logger.info("%s is not locked: %s", partial, error)
        yield


def _describe(error: requests.RequestException) -> str:
    """An error of the network in a few words; those of requests are nested and long."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[-1], BaseException):
        cause = cause.args[-1]
    reason = getattr(cause, "reason", None)
    return f"{type(error).__name__}: {reason if reason is not None else cause}"[:300]
