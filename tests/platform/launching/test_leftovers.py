"""What Ray Train's own cleaner misses is removed, and nothing else."""

from collections.abc import Callable

import pytest
import ray
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ladder.platform.launching.cluster import connected
from ladder.platform.launching.leftovers import Leftovers
from tests.platform.launching.harness import wait_for


@ray.remote(num_cpus=0)
class Controller:
    """Asks for a group and dies, as a controller of Ray Train does between two worker groups."""

    def ask(self) -> PlacementGroup:
        group = placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return group

    def alive(self) -> bool:
        return True


def state_of(group: PlacementGroup) -> str:
    return str(placement_group_table(group)["state"])


def state_is(group: PlacementGroup, wanted: str) -> Callable[[], bool]:
    return lambda: state_of(group) == wanted


@pytest.mark.slow
def test_a_group_whose_controller_died_is_removed_and_one_with_a_worker_is_not() -> None:
    with connected(None):
        controller = Controller.remote()
        orphan = ray.get(controller.ask.remote())
        ray.kill(controller)
        used = placement_group([{"CPU": 1}])
        in_it = PlacementGroupSchedulingStrategy(placement_group=used)
        worker = Controller.options(num_cpus=1, scheduling_strategy=in_it).remote()
        ray.get(worker.alive.remote())
        waiting = placement_group([{"CPU": ray.cluster_resources()["CPU"] - 1}])
        assert state_of(orphan) == "CREATED" and state_of(waiting) == "PENDING", "Ray leaves it, and it is in the way"

        Leftovers(patience_seconds=60).remove()
        assert state_of(orphan) == "CREATED", "it may be somebody's who asks for workers just now"
        leftovers = Leftovers(patience_seconds=0)
        leftovers.remove()
        wait_for("the orphan's end", 20, state_is(orphan, "REMOVED"))
        wait_for("room for what waited", 20, state_is(waiting, "CREATED"))
        assert state_of(used) == "CREATED" and ray.get(worker.alive.remote())
        remove_placement_group(waiting)
