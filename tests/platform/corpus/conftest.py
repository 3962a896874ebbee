"""Object storage for tests: a real S3 server on the loopback address that writes down what it is asked."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from upath import UPath
from werkzeug.serving import WSGIRequestHandler, make_server


class QuietHandler(WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        """Nothing: `S3.reads` is the log."""


class S3:
    """One bucket on a server of this process; other processes reach it by `AWS_ENDPOINT_URL`."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        """Names of the files fetched, in order; of the whole file and of a part of it alike."""
        self.open_to_reads = threading.Event()
        """While it is cleared, the server takes requests for shards and does not answer them."""
        self.open_to_reads.set()
        self.asked = threading.Event()
        """Set by each request for a shard."""
        self._answer = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._watch, threaded=True, request_handler=QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def storage(self, bucket: str) -> UPath:
        """A new bucket."""
        storage = UPath(f"s3://{bucket}/ladder", endpoint_url=self.endpoint, use_listings_cache=False)
        storage.fs.mkdir(bucket)
        return storage

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.open_to_reads.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _watch(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] == "GET" and path.endswith(".bin"):
            self.reads.append(path.rpartition("/")[2])
            self.asked.set()
            self.open_to_reads.wait()
        return self._answer(environ, start_response)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    server = S3()
    for name, value in {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.stop()
