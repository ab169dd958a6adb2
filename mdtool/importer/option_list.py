"""A command line's options, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdtool.commandline.option import Option


class OptionList:
    """A command line's options by name."""

    def __init__(self, options: Sequence[Option]) -> None:
        self.options = options

    def __contains__(self, name: str) -> bool:
        return any(option.name == name for option in self.options)

    def all(self, *names: str) -> list[Option]:
        return [option for option in self.options if option.name in names]

    def value(self, name: str) -> str | None:
        """The argument of the last one; None if there is none."""
        return next((option.value for option in reversed(self.options) if option.name == name), None)

    def bag(self, name: str) -> dict[str, Any]:
        """What all of a name say together, as QEMU merges them."""
        return {key: value for option in self.all(name) for key, value in option.bag.items()}
