"""What a submission waits for, and how it ends: with a job server that says what it is told to."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ladder.models.errors import InputError
from ladder.platform.command.submit import command
from ladder.platform.launching import submission
from ladder.platform.launching.cluster import connected
from ladder.platform.launching.display import TO_DO
from ladder.platform.launching.submission import wait

URL = "http://127.0.0.1:8265"
REFUSED = "ladder: run 1542M wants 8 workers, and the cluster has, at most, 12 x a10g with 8 cores and 1 A10G."


class Server:
    """A job that goes through some states, one at each look, and what its driver has said by then."""

    def __init__(self, *states: str, code: int | None = None, log: str = "") -> None:
        self.states, self.code, self.log = list(states), code, log
        self.looks = 0

    def get_job_info(self, job: str) -> SimpleNamespace:
        self.looks += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return SimpleNamespace(status=SimpleNamespace(value=state), driver_exit_code=self.code)

    def get_job_logs(self, job: str) -> str:
        return self.log


Serve = Callable[[Server], Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    def answer(server: Server) -> Server:
        monkeypatch.setattr(submission, "_client", lambda address: server)
        monkeypatch.setattr(submission.time, "sleep", lambda seconds: None)
        return server

    return answer


def test_a_sweep_that_was_taken_is_not_waited_for(serve: Serve) -> None:
    server = serve(Server("PENDING", "RUNNING", log=f"sweep s: 3 runs {TO_DO}; the cluster has ..."))
    assert wait("job", address=URL, until_begun=True) is None and server.looks == 1


def test_a_job_that_says_nothing_is_left_to_itself_after_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "START_SECONDS", 0.0)
    serve(Server("PENDING"))
    assert wait("job", address=URL, until_begun=True) is None


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", 1, 1), ("FAILED", None, 1), ("STOPPED", None, 1)],
)
def test_the_end_of_a_job_is_its_exit_code(serve: Serve, state: str, code: int | None, expected: int) -> None:
    serve(Server("PENDING", "RUNNING", state, code=code))
    assert wait("job", address=URL) == expected


def test_what_the_cluster_refuses_is_told_where_the_sweep_was_submitted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Server("RUNNING", "FAILED", code=2, log=REFUSED))
    monkeypatch.setattr(submission, "submit", lambda *_, **__: "job")
    done = CliRunner().invoke(command, ["demo", "--address", URL, "--storage", "memory://s"])
    assert done.exit_code == 2 and REFUSED in done.output and "job failed with exit code 2" in done.output


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:8265", "127.0.0.1:8265 is no address of a Ray job server. Wanted .* http://127.0.0.1:8265"),
        ("auto", "auto is no address of a Ray job server"),
        ("http://127.0.0.1:9", r"no Ray job server answers at http://127.0.0.1:9: [^.].*[^.]\. Wanted its dashboard's"),
    ],
)
def test_an_address_without_a_job_server_is_one_message_at_once(address: str, said: str) -> None:
    """Was a traceback after a minute where `http://` was left out."""
    with pytest.raises(InputError, match=said):
        wait("job", address=address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "the address of a job server, which `ladder submit` takes.*`auto`"),
        ("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9: .*refused. Start one with `ray up"),
        ("ray://127.0.0.1:9", "no Ray cluster answers at ray://127.0.0.1:9"),
    ],
)
def test_an_address_without_a_cluster_is_one_message_at_once(address: str, said: str) -> None:
    """Was a minute and a half of Ray's warnings."""
    with pytest.raises(InputError, match=said), connected(address):
        pass


class WantsToken(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(401, "Unauthorized: Missing authentication token")

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_wants_a_token_says_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ThreadingHTTPServer(("127.0.0.1", 0), WantsToken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="wants a token.*RAY_AUTH_MODE=token.*~/.ray/auth_token"):
            wait("job", address=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
