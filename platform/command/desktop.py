"""Whether a command may open a browser."""

import os
import sys


def has_display() -> bool:
    """Whether a person sits at a desktop here: Python would open a text browser in a terminal without one."""
    desktop = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return desktop and sys.stdout.isatty()
