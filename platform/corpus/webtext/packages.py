"""The packages of the extra `web`, imported only where they are used: the core works without them."""

import importlib
from importlib import metadata
from types import ModuleType

from ladder.models.errors import InputError


def import_web(module: str, purpose: str) -> ModuleType:
    """The module of this name. InputError, naming the extra to install, where its package is absent or broken."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs the package {module.partition('.')[0]}, which cannot be imported ({error}); "
            "install the extra with: pip install 'ladder[web]'"
        ) from error


def version_of(package: str) -> str:
    """The installed version of a package; InputError, naming the extra to install, where it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"the package {package} is not installed; install the extra with: pip install 'ladder[web]'"
        ) from error
