"""A QEMU command line as options: the common ground of the ways to launch and of ``mdtool import``.

The ways differ in how an option reaches QEMU and in nothing else, so each takes the options of ``--via device`` and
says which of them go elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mdtool.commandline.table import IMPLIED, OPTIONS, creates
from mdtool.errors import InputError, Position
from mdtool.machine.values import nested
from mdtool.records import dataclass, replace
from mdtool.text import pattern

#: the short form of -global; the driver's name may have dots
_GLOBAL = pattern(r"(?P<driver>[^=,]+)\.(?P<property>[^=.,]+)=(?P<value>.*)", re.S)
#: other spellings of an option
_SAME = {"M": "machine"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``name`` without its dashes, ``value`` as it was given; None if it takes none."""

    name: str
    value: str | None = None
    position: Position | None = None

    @property
    def words(self) -> tuple[str, ...]:
        return (f"-{self.name}",) if self.value is None else (f"-{self.name}", self.value)

    @property
    def bag(self) -> dict[str, Any]:
        """The value as a mapping: JSON as it is, ``key=value,...`` with strings; raises InputError for bad JSON.

        >>> Option("global", "virtio-net-pci.x-a=1").bag
        {'driver': 'virtio-net-pci', 'property': 'x-a', 'value': '1'}
        """
        if self.name == "global" and (found := _GLOBAL.fullmatch(self.value or "")):
            return found.groupdict()
        return bag_from_text(self.value or "", IMPLIED.get(self.name), self.position)

    @property
    def is_json(self) -> bool:
        return (self.value or "").lstrip().startswith("{")

    @property
    def id(self) -> str | None:
        bag = self.bag
        found = bag.get("id", bag.get("node-name"))
        return str(found) if found is not None else None

    def with_bag(self, bag: Mapping[str, Any]) -> Option:
        """The option with another value; the same one where the value is."""
        if bag == self.bag:
            return self
        if self.is_json:
            return replace(self, value=json.dumps(dict(bag)))
        return replace(self, value=text_from_bag(bag, IMPLIED.get(self.name)))


def takes_argument(name: str, following: str | None) -> bool:
    """Whether an option takes the word that follows it.

    Of an option that is in no table (an older QEMU had it, a newer one will) only its words can tell: one that begins
    with a dash is the next option, anything else is its argument.

    >>> takes_argument("append", "-x"), takes_argument("no-such-flag", "-m"), takes_argument("no-such-flag", "5")
    (True, False, True)
    """
    row = OPTIONS.get(name)
    return row.argument if row is not None else (following is not None and not following.startswith("-"))


def options_from_words(words: Sequence[str]) -> list[Option]:
    """The options of a command line, without the program; raises InputError for one that lacks its argument.

    >>> options_from_words(["-S", "--machine", "pc", "-M", "q35"])[1:]
    [Option(name='machine', value='pc', position=None), Option(name='machine', value='q35', position=None)]
    """
    return [Option(name, value) for name, value, _ in grouped(words)]


def grouped(words: Sequence[str]) -> Iterator[tuple[str, str | None, int]]:
    """(name, value, index of the word that holds the value, or the name where there is none) of each option."""
    at = 0
    while at < len(words):
        word = words[at]
        if not word.startswith("-") or word == "-":
            yield "hda", word, at  # QEMU takes a bare word for the first disk
            at += 1
            continue
        name = word.removeprefix("-").removeprefix("-")
        name = _SAME.get(name, name)
        following = words[at + 1] if at + 1 < len(words) else None
        if not takes_argument(name, following):
            yield name, None, at
            at += 1
        elif following is None:
            raise InputError(f"-{name} needs an argument", rule="options-syntax")
        else:
            yield name, following, at + 1
            at += 2


def words_from_options(options: Iterable[Option]) -> list[str]:
    return [word for option in options for word in option.words]


_PART = pattern(r"((?:[^,]+|,,)*+)(?:,|\Z)")
_KEYED = pattern(r"([^=,]+)=(.*)", re.S)


def split(text: str) -> list[str]:
    """``a=b,,c,d=e`` at its commas; a doubled one separates nothing and stays doubled.

    >>> split("a=b,,c,d=e")
    ['a=b,,c', 'd=e']
    """
    return [part for part in _PART.findall(text) if part]


def bag_from_text(text: str, implied: str | None = None, at: Position | None = None) -> dict[str, Any]:
    """``key=value,...`` or JSON as a mapping; a key that comes twice becomes a list.  Raises InputError.

    >>> bag_from_text("user,id=n0,hostfwd=a,,b", "type")
    {'type': 'user', 'id': 'n0', 'hostfwd': 'a,b'}
    """
    if text.lstrip().startswith("{"):
        return _from_json(text, at)
    found: dict[str, list[str]] = {}
    for number, part in enumerate(split(text)):
        keyed = _KEYED.fullmatch(part)
        if keyed:
            key, value = keyed[1], keyed[2].replace(",,", ",")
        elif number == 0 and implied is not None:
            key, value = implied, part.replace(",,", ",")
        else:  # a short-form boolean: ``nowait``, ``noserver``
            word = part.replace(",,", ",")
            key, value = (word[2:], "off") if word.startswith("no") and len(word) > 2 else (word, "on")
        found.setdefault(key, []).append(value)
    return {key: values if len(values) > 1 else values[0] for key, values in found.items()}


def json_from_text(text: str) -> Any:
    """QEMU's JSON, which has strings in single quotes as well; ValueError or RecursionError if it is not JSON.

    >>> json_from_text("{'driver': 'edu', 'id': 'a \\" b'}")["id"]
    'a " b'
    """
    if "'" in text:
        text = re.sub(r"""("(?:[^"\\]|\\.)*")|'((?:[^'\\]|\\.)*)'""", _double_quoted, text)
    return json.loads(text)


def _double_quoted(string: re.Match[str]) -> str:
    return string[1] or '"' + string[2].replace("\\'", "'").replace('"', '\\"') + '"'


def _from_json(text: str, at: Position | None) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json_from_text(text)
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else "nested too deep"
        raise InputError(f"not JSON: {what}", at=at, rule="options-syntax") from None
    return data


def block_keys(bag: Mapping[str, Any]) -> dict[str, Any]:
    """What a -drive or -blockdev says, its dotted keys as mappings.

    >>> block_keys({"file": "x.img", "file.locking": "off", "cache.direct": "on"})
    {'file': {'filename': 'x.img', 'locking': 'off'}, 'cache': {'direct': 'on'}}
    """
    if not any("." in key for key in bag):
        return dict(bag)
    names = {f"{key}.filename" if any(other.startswith(f"{key}.") for other in bag) else key: bag[key] for key in bag}
    return nested(names, ".")


def text_from_bag(bag: Mapping[str, Any], implied: str | None = None) -> str:
    """The inverse of ``bag_from_text``.

    >>> text_from_bag({"type": "user", "id": "n0", "x": True}, "type")
    'user,id=n0,x=on'
    """
    parts: list[str] = []
    for key, value in bag.items():
        for item in value if isinstance(value, list) else [value]:
            text = plain_text(item).replace(",", ",,")
            if key == implied and not parts and text and not _KEYED.fullmatch(text) and not text.lstrip().startswith("{"):
                parts.append(text)
            elif _KEYED.fullmatch(f"{key}=") and (parts or not key.lstrip().startswith("{")):
                parts.append(f"{key}={text}")
            else:  # no key, or one that would begin JSON: only a switch has such a one
                parts.append(f"{'no' if text == 'off' else ''}{key}".replace(",", ",,"))
    return ",".join(parts)


def plain_text(value: Any) -> str:
    """A scalar as QEMU's options spell it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def is_flat(bag: Mapping[str, Any]) -> bool:
    """Whether ``key=value`` can say it: no nested mapping or list, no null."""
    return not any(isinstance(value, (dict, list)) or value is None for value in bag.values())


_OWN = frozenset({"id", "node-name", "bus"})


def users(options: Sequence[Option]) -> dict[str, str]:
    """Backend name -> id of the device that it is for, however many steps away.

    A drive's format node names its storage node, a device names the format node: QEMU's complaint about the storage
    node is reported at the disk's line of guest XML.
    """
    names: dict[str, set[str]] = {}  # a name -> who mentions it
    devices: set[str] = set()
    defined: set[str] = set()
    for option in options:
        if creates(option.name) is None:
            continue
        bag = option.bag
        name = option.id
        if name is None:
            continue
        defined.add(name)
        if option.name == "device":
            devices.add(name)
        for value in _leaves({key: value for key, value in bag.items() if key not in _OWN}):
            names.setdefault(value, set()).add(name)

    def user(name: str, seen: frozenset[str]) -> str | None:
        for other in sorted(names.get(name, set()) - seen):
            if other in devices:
                return other
            if (found := user(other, seen | {other})) is not None:
                return found
        return None

    found = {name: user(name, frozenset({name})) for name in defined - devices}
    return {name: device for name, device in found.items() if device is not None}


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value
