"""Variables that have one of a few values, and only a run can tell which: where all lead to one machine, that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mdtool.records import NamedTuple

#: the value of a variable: its elements by index; "0" alone is what is no array
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


class Unclear(NamedTuple):
    """Why a variable is not known, and the values that it may have, where each of them is known."""

    why: str
    ways: tuple[Value, ...] = ()


def either(why: str, *values: Value | Unclear | None) -> Unclear:
    """``why``, or why one of the values is not known, with all values where each is."""
    ways: list[Value] = []
    for value in values:
        if isinstance(value, Unclear) and not value.ways:
            return value
        ways += [one for one in (value.ways if isinstance(value, Unclear) else [value or {}]) if one not in ways]
    return Unclear(why, tuple(ways) if len(ways) <= _MOST else ())


def each_way(variables: dict[str, Value | Unclear], act: Callable[[], T]) -> list[T]:
    """What ``act`` gives with each of the values that the variables may have which it needs.  Raises Unknown."""
    try:
        return [act()]
    except Unknown as error:
        known = ((name, value) for name, value in variables.items() if isinstance(value, Unclear) and value.ways)
        name, value = next(((name, value) for name, value in known if value.why == error.what), ("", Unclear("")))
        if not name:
            raise
        found = list[T]()
        try:
            for way in value.ways:
                variables[name] = way
                found += each_way(variables, act)
        finally:
            variables[name] = value
        if len(found) > _MOST:
            raise
        return found
