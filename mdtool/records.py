"""``NamedTuple``, ``dataclass``, ``field`` and ``replace`` as those of the standard library, without their time at import.

The library compiles six methods a class and imports ``inspect``: half a millisecond for each of the sixty classes that a
reconcile needs; its ``NamedTuple`` compiles the type of each field.  Here a class compiles its ``__init__`` when its first
object is made, and shares the other methods.  A type checker, and a caller of ``dataclasses.fields``, sees the library's
own.

Given are ``frozen``, ``slots``, ``order``, defaults, ``default_factory``, ``compare``, ``repr`` and ``__post_init__``;
fields are not inherited.
"""

from __future__ import annotations

from collections import namedtuple
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["NamedTuple", "dataclass", "field", "replace"]

_MISSING: Any = object()


if TYPE_CHECKING:
    from typing import NamedTuple
else:

    class _NamedTuples(type):
        def __new__(cls, name: str, _bases: tuple[type, ...], body: dict[str, Any]) -> type:
            fields = body["__annotations__"]
            made = namedtuple(name, fields, defaults=[body.pop(one) for one in fields if one in body])
            for key, value in body.items():
                setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_NamedTuples, "NamedTuple", (), {})


class _Field(NamedTuple):
    default: Any = _MISSING
    default_factory: Any = _MISSING
    compare: bool = True
    hash: bool = True
    repr: bool = True
    init: bool = True


if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    field = _Field

    def dataclass(cls: Any = None, /, *, frozen: bool = False, slots: bool = False, order: bool = False) -> Any:
        if cls is None:
            return lambda cls: _made(cls, frozen, slots, order)
        return _made(cls, frozen, slots, order)

    def replace(one: Any, /, **changes: Any) -> Any:
        """A copy of a record with some fields changed."""
        return one.__class__(**{**dict(zip(one._init_names, one._init_values(one), strict=True)), **changes})


def _made(cls: Any, frozen: bool, slots: bool, order: bool) -> Any:
    fields: dict[str, _Field] = {}
    for name in vars(cls).get("__annotations__", ()):
        value = vars(cls).get(name, _MISSING)
        fields[name] = value if isinstance(value, _Field) else _Field(value)
        if value is not _MISSING:
            delattr(cls, name)
            if not slots and fields[name].default is not _MISSING:
                setattr(cls, name, fields[name].default)
    if slots:
        body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
        cls = type(cls)(cls.__name__, cls.__bases__, {**body, "__slots__": tuple(fields), "__qualname__": cls.__qualname__})
    names = cls._init_names = tuple(name for name, one in fields.items() if one.init)
    one = staticmethod(lambda self: [getattr(self, name) for name in names])  # a function alone would be a method
    cls._init_values = attrgetter(*names) if len(names) > 1 else one
    cls.__dataclass_fields__ = _LibraryFields(cls, fields)
    cls.__init__ = _first_init(cls, fields, frozen)
    cls.__repr__ = _repr([name for name, one in fields.items() if one.repr])
    if "__eq__" not in vars(cls):
        _compare(cls, fields, frozen, order)
    if frozen:
        cls.__setattr__, cls.__delattr__, cls.__reduce__ = _refuse, _refuse, _reduce
    return cls


def _first_init(cls: Any, fields: dict[str, _Field], frozen: bool) -> Any:
    """An ``__init__`` that compiles the real one, puts that in its place and calls it."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = _compiled(cls, fields, frozen)
        cls.__init__(self, *args, **kwargs)

    return init


def _compiled(cls: Any, fields: dict[str, _Field], frozen: bool) -> Any:
    known: dict[str, Any] = {"MISSING": _MISSING, "set_field": object.__setattr__}
    parameters, body = [], []
    for name, one in fields.items():
        known[f"default_{name}"], known[f"make_{name}"] = one.default, one.default_factory
        default, value = f"default_{name}" if one.default is not _MISSING else "", name
        if one.default_factory is not _MISSING:
            default, value = "MISSING", f"make_{name}() if {name} is MISSING else {name}"
        if one.init:
            parameters.append(f"{name}={default}" if default else name)
        else:
            value = default if one.default_factory is _MISSING else f"make_{name}()"
        if frozen and name in vars(cls).get("__slots__", ()):  # a descriptor sets it, which __setattr__ refuses
            known[f"set_{name}"] = vars(cls)[name].__set__
            body.append(f"set_{name}(self, {value})")
        else:
            body.append(f"set_field(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    exec(f"def __init__(self, {', '.join(parameters)}):\n " + "\n ".join(body or ["pass"]), known)
    return known["__init__"]


def _compare(cls: Any, fields: dict[str, _Field], frozen: bool, order: bool) -> None:
    compared = {name: one for name, one in fields.items() if one.compare}
    key = attrgetter(*compared)
    hash_key = attrgetter(*(name for name, one in compared.items() if one.hash))

    def equal(self: Any, other: Any) -> Any:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def less(self: Any, other: Any) -> Any:
        return key(self) < key(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(hash_key(self))

    cls.__eq__ = equal
    cls.__hash__ = hashed if frozen else None
    if order:
        cls.__lt__ = less


def _repr(names: list[str]) -> Any:
    def shown(self: Any) -> str:
        return f"{self.__class__.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return shown


def _refuse(self: Any, name: str, *_value: Any) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field '{name}'")


def _reduce(self: Any) -> Any:
    """How pickle and copy make it again; what a cached property found out is left behind."""
    return self.__class__, tuple(self._init_values(self))


class _LibraryFields:
    """``__dataclass_fields__`` for callers of the library's ``fields``, ``asdict`` or ``replace`` on a record."""

    def __init__(self, cls: Any, fields: dict[str, _Field]) -> None:
        self._cls, self._fields = cls, fields

    def __get__(self, _one: Any, _cls: Any) -> Any:
        from dataclasses import MISSING, make_dataclass
        from dataclasses import field as library_field

        library: Any = library_field  # whose types know no keywords in a dict
        rows = [
            (
                name,
                self._cls.__annotations__[name],
                library(**{key: MISSING if value is _MISSING else value for key, value in one._asdict().items()}),
            )
            for name, one in self._fields.items()
        ]
        made: Any = make_dataclass(self._cls.__name__, rows, kw_only=True)
        self._cls.__dataclass_fields__ = made.__dataclass_fields__
        return made.__dataclass_fields__
