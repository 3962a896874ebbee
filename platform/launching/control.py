"""What ends a driver's work before its runs have ended: a budget that is spent, and orders from elsewhere."""

import logging
from collections.abc import Collection, Iterable, Mapping

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.runs.orders import Order, OrdersSeen
from ladder.platform.runs.usage import Usage, read_usage, read_usages
from ladder.platform.storage import is_local, is_refusal, run_folder

logger = logging.getLogger(__name__)


class SweepStopped(Exception):
    """Somebody asked for the sweep's work to end."""


class Control:
    """A driver's budget and the orders for it, read from the sweep's folder: what other drivers spend counts too."""

    def __init__(
        self, storage: UPath, sweep: str, files: Mapping[str, Collection[str]], *, budget_gpu_hours: float | None = None
    ) -> None:
        if budget_gpu_hours is not None and not budget_gpu_hours > 0:
            raise InputError(f"--budget-gpu-hours: got {budget_gpu_hours:g}, wanted GPU-hours above 0.")
        self.budget_gpu_hours = budget_gpu_hours
        self.look_seconds = 2.0 if is_local(storage) else 10.0  # a look at an object store is two requests
        self._storage, self._sweep = storage, sweep
        self._orders = OrdersSeen(storage, sweep)
        self._usages = {} if budget_gpu_hours is None else read_usages(storage, sweep, files)

    @property
    def gpu_hours(self) -> float:
        """GPU-hours that the sweep's runs have taken, as far as they were read; 0 without a budget."""
        return sum((usage for usage in self._usages.values()), Usage()).gpu_hours

    @property
    def budget_is_spent(self) -> bool:
        """Whether no further run may be launched."""
        return self.budget_gpu_hours is not None and self.gpu_hours >= self.budget_gpu_hours

    def read_usage_of(self, keys: Iterable[str]) -> None:
        """Read again what some runs have taken; nothing without a budget, and later where the storage refuses."""
        if self.budget_gpu_hours is None:
            return
        try:
            for key in keys:
                self._usages[key] = read_usage(run_folder(self._storage, self._sweep, key))
        except Exception as error:
            if not is_refusal(error):
                raise
            logger.warning("what the runs have taken cannot be read now: %s", error)

    def new_order(self, order: Order) -> str | None:
        """Who gave an order since the last look, or None; None, too, while the storage refuses."""
        try:
            return self._orders.is_new(order)
        except Exception as error:
            if not is_refusal(error):
                raise
            logger.warning("orders cannot be read now: %s", error)
            return None
