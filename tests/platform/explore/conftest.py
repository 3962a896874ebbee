"""Checkpoints of small models with random weights, in a storage as a sweep leaves them, and the page's server."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import uvicorn
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights
from ladder.platform.explore.catalogue import find_entries
from ladder.platform.explore.page import page_state
from ladder.platform.explore.server import make_app, open_socket
from ladder.platform.explore.shelf import Shelf
from ladder.platform.storage import write_json

CPU = torch.device("cpu")
CONTEXT = 64
SIZES = ("1x16", "2x32h2", "3x48h3", "10x16")
"""Names that do not sort as their parameters do."""
BATCH = 128


def save_run(storage: UPath, size: str, steps: int, *, sweep: str = "mine", seed: int = 0) -> UPath:
    """A finished run of a sweep: random weights, its mark and its result."""
    shape = parse_size(size, context=CONTEXT, vocabulary=257)
    key = f"{size}-{steps}-s{seed}"
    folder = storage / "sweeps" / sweep / key / f"step-{steps:08d}.0001"
    model = GPT2(shape, seed=steps + seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # so that tokens differ in probability
    save_weights(model, folder.path, tokenizer="bytes")
    recipe = {"batch_tokens": BATCH, "seed": seed}
    write_json(folder / "training.json", {"run": key, "step": steps, "recipe": recipe, "files": {}})
    loss = {"benchmark": "heldout", "metric": "loss", "value": 2.0 + 1 / steps}
    write_json(folder.parent / "result.json", {"run": key, "step": steps, "measurements": [loss]})
    return folder


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> UPath:
    """A storage with the sweep `mine`: four sizes by three budgets."""
    storage = UPath(tmp_path_factory.mktemp("explore") / "storage")
    for size in SIZES:
        for steps in (10, 20, 40):
            save_run(storage, size, steps)
    return storage


@pytest.fixture(scope="session")
def shelf(swept: UPath) -> Shelf:
    """The sweep's checkpoints."""
    return Shelf(find_entries(["mine"], swept), device=CPU)


class Site:
    """The page's server in a thread of this process."""

    def __init__(self, shelf: Shelf, state: dict[str, Any]) -> None:
        self.socket = open_socket("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config(make_app(shelf, state), log_level="warning", lifespan="off", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """(status, body, headers) of a request: POST where there is a body."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()


@pytest.fixture(scope="session")
def site(shelf: Shelf) -> Iterator[Site]:
    site = Site(shelf, page_state("mine", list(shelf.entries.values())))
    yield site
    site.close()
