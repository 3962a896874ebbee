"""A cloud whose nodes are processes of this machine, and which may have none left: for Ray's own autoscaler."""

import json
import os
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException


class FakeCloud(FakeMultiNodeProvider):
    """Launches nodes while the file `provider.capacity` exists; writes down each that it launched."""

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: Any, count: int, resources: Any, labels: Any
    ) -> None:
        folder = Path(self.provider_config["folder"])
        kind = tags["ray-user-node-type"]
        if not (folder / "capacity").exists():
            _note(folder / "refused", kind=kind)
            raise NodeLaunchException("InsufficientInstanceCapacity", "none left of this type", None)
        for _ in range(count):
            self._create_node_with_resources_and_labels(node_config, tags, 1, resources, labels)
            _note(folder / "launched", kind=kind, node=list(self._nodes)[-1])

    def terminate_node(self, node_id: str) -> None:
        super().terminate_node(node_id)
        _note(Path(self.provider_config["folder"]) / "ended", node=node_id)


def _note(path: Path, **words: str) -> None:
    with path.open("a") as file:
        file.write(json.dumps(words | {"process": os.getpid()}) + "\n")
