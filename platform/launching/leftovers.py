"""Placement groups that nobody works in any more, and that would hold their resources until the driver ends.

Ray Train has a cleaner for each controller, which removes its placement group when the controller died. It misses two:
one whose workers were still starting, and one that a controller, dead for Ray but not yet ended, asked for when the
cleaner took away the one before. With all cores in such groups a sweep waits for ever.
"""

import logging
import time

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.state import list_actors, list_placement_groups
from ray.util.state.exception import RayStateApiException

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 15.0
"""A group without a worker for so long is nobody's: a controller asks for workers as soon as it has a group."""
MOST = 10_000
"""Groups and actors that Ray lists at a time."""


class Leftovers:
    """The placement groups of this driver's job that are seen without a worker."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.patience_seconds = patience_seconds
        self.empty_since: dict[str, float] = {}
        """When a group was first seen without a worker, by its id."""

    def remove(self) -> None:
        """Remove the groups that have been without a worker for longer than our patience; call it again and again."""
        now = time.monotonic()
        try:
            empty = _empty_groups()
        except RayStateApiException as error:  # a head without a dashboard, or a busy one
            logger.info("Ray does not say which placement groups are left over: %s", error)
            return
        self.empty_since = {group: self.empty_since.get(group, now) for group in empty}
        for group in [group for group, since in self.empty_since.items() if now - since >= self.patience_seconds]:
            logger.info("placement group %s is nobody's and removed", group)
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))


def _empty_groups() -> set[str]:
    """Ids of this job's groups that hold resources and no actor that lives or starts."""
    job = ray.get_runtime_context().get_job_id()
    groups = list_placement_groups(filters=[("creator_job_id", "=", job), ("state", "=", "CREATED")], limit=MOST)
    if not groups:
        return set()
    actors = list_actors(filters=[("job_id", "=", job), ("state", "!=", "DEAD")], limit=MOST, detail=True)
    return {group.placement_group_id for group in groups} - {actor.placement_group_id for actor in actors}
