"""Where grammar/ and schemas/ are: at the top of a checkout, or inside the package in a wheel."""

from __future__ import annotations

from pathlib import Path

from mdtool.errors import MdtoolError

_HERE = Path(__file__).resolve().parent


def resource(folder: str, name: str) -> Path:
    """The path of ``grammar/NAME`` or ``schemas/NAME``; MdtoolError where the installation lacks it.

    >>> resource("schemas", "machine.schema.json").name
    'machine.schema.json'
    """
    for base in (_HERE, _HERE.parent):
        path = base / folder / name
        if path.is_file():
            return path
    raise MdtoolError(f"{folder}/{name} is missing from this installation of mdtool", remedy="install mdtool again")
