"""An S3 server that answers some requests with 503, and none at all for as long as it is told to.

python flaky_s3.py PORT SHARE FOLDER      a number written to FOLDER/away closes its port for so many seconds
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Flaky:
    """A WSGI application that is too busy for a share of its requests."""

    def __init__(self, application: Any, share: float) -> None:
        self.application, self.share = application, share
        self.random = random.Random(0)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.random.random() < self.share:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        answer: Iterable[bytes] = self.application(environ, start_response)
        return answer


def main() -> None:
    port, share, folder = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    application = Flaky(DomainDispatcherApplication(create_backend_app), share)
    while True:
        server = make_server("127.0.0.1", port, application, threaded=True)  # type: ignore[arg-type]
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        while not (folder / "away").exists():
            time.sleep(0.1)
        server.shutdown()
        server.server_close()
        time.sleep(float((folder / "away").read_text()))
        (folder / "away").unlink()


if __name__ == "__main__":
    main()
