"""The nodes that the runs of a plan get, by a file for Ray's autoscaler or on a cluster that is up."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ladder.models.errors import InputError
from ladder.platform.command.chosen import Chosen
from ladder.platform.launching.cluster import Cluster, connected
from ladder.platform.launching.lanes import shape_for
from ladder.platform.launching.nodes import declared_types, nodes_for, read_config


def planned_nodes(chosen: Chosen, where: str) -> dict[str, str]:
    """For each run the nodes that its workers go to, in words: `a10g or a10g_on_demand`, `2 x h100_8`, or `none`.

    `where` is a cluster's file, or the address of a cluster that is up.
    """
    with _cluster(where) as cluster:
        shapes = {run.key: shape_for(run, chosen.sweep.execution_for(run.size), cluster) for run in chosen.runs}
        return {key: nodes_for(shape, cluster.types) for key, shape in shapes.items()}


@contextmanager
def _cluster(where: str) -> Iterator[Cluster]:
    file = Path(where)
    if not file.is_file():
        if file.suffix in (".yaml", ".yml"):
            raise InputError(f"there is no file {where}; name a cluster's file, or the address of one that is up")
        with connected(where) as cluster:
            yield cluster
        return
    config = read_config(file)
    types = declared_types(config)
    if not types:
        raise InputError(
            f"{where} does not say what its nodes have, so only Ray on them knows: give the cluster's address, once it "
            "is up, in place of the file"
        )
    yield Cluster(local=False, types=types, grows=config.get("max_workers", 0) > 0)
