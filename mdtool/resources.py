"""Where grammar/ and schemas/ are: at the top of a checkout, or inside the package in a wheel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mdtool.errors import MdtoolError

if TYPE_CHECKING:
    from pathlib import Path

_HERE = os.path.dirname(os.path.realpath(__file__))


def resource(folder: str, name: str) -> Path:
    """The path of ``grammar/NAME`` or ``schemas/NAME``; MdtoolError where the installation lacks it.

    >>> resource("schemas", "machine.schema.json").name
    'machine.schema.json'
    """
    from pathlib import Path  # slow to import, and few commands need it

    return Path(path_of_resource(folder, name))


def path_of_resource(folder: str, name: str) -> str:
    """The same as a string."""
    for base in (_HERE, os.path.dirname(_HERE)):
        path = os.path.join(base, folder, name)
        if os.path.isfile(path):
            return path
    raise MdtoolError(f"{folder}/{name} is missing from this installation of mdtool", remedy="install mdtool again")
