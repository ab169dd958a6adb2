"""Variables that have one of a few values, and only a run can tell which: where all lead to one machine, that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

#: the value of a variable: its elements by index; "0" alone is what is no array.  A string says why it isn't known
Value = dict[str, str]
T = TypeVar("T")
_MOST = 16


class Unknown(Exception):
    """A word that only a run can tell."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = str(what)

    def of(self, name: str) -> str:
        """Why ``name``, which was to have this value, is not known either: for the same reason where that names one."""
        return self.what if self.what.startswith("$") else f"{name} is {self.what}"


class Either(str):
    """Why a variable is not known, and the values that it may have."""

    __slots__ = ("ways",)
    ways: tuple[Value, ...]

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True and getattr(other, "ways", None) == self.ways

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def either(why: str, *values: Value | str | None) -> str:
    """``why``, or why one of the values is not known, with all values where each is."""
    ways: list[Value] = []
    for value in values:
        if isinstance(value, str) and not isinstance(value, Either):
            return value
        ways += [one for one in (value.ways if isinstance(value, Either) else [value or {}]) if one not in ways]
    found = Either(why)
    found.ways = tuple(ways)
    return found if len(ways) <= _MOST else why


def each_way(variables: dict[str, Value | str], act: Callable[[], T]) -> list[T]:
    """What ``act`` gives with each of the values that the variables may have which it needs.  Raises Unknown."""
    try:
        return [act()]
    except Unknown as error:
        name = next((name for name, why in variables.items() if isinstance(why, Either) and str(why) == error.what), None)
        if name is None:
            raise
        either, found = variables[name], list[T]()
        try:
            for way in either.ways if isinstance(either, Either) else ():
                variables[name] = way
                found += each_way(variables, act)
        finally:
            variables[name] = either
        if len(found) > _MOST:
            raise
        return found
