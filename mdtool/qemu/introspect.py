"""What a QEMU binary knows: its devices, their properties and its machine types.

A scratch process is asked (``-machine none``), never a guest's own: on some builds a question about a type ends the
process, when a module of it is missing.  Such a type is remembered as unanswered, and a new process is asked the rest.
Answers are cached by path, size and time of the binary.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any

from mdtool.cache import cached, keep
from mdtool.errors import QemuError
from mdtool.files import on_path
from mdtool.machine.facts import Property
from mdtool.records import dataclass, field
from mdtool.text import pattern

FORMAT = 2  # of the cache: another number, and old answers are asked again
SECONDS = 60.0
_WORDS = ("-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio")
#: device types that no description names: 130 CPU models with 400 flags each are nine tenths of what QEMU says
_LEFT_OUT = pattern(r"-cpu$|-core$")


@dataclass(frozen=True)
class Driver:
    """One device type: ``bus`` is the type of bus that it needs (None: none), ``creatable`` whether -device takes it.

    ``properties`` is None where QEMU died over the question.
    """

    name: str
    bus: str | None = None
    description: str | None = None
    alias: str | None = None
    creatable: bool = True
    properties: Mapping[str, Property] | None = field(default_factory=dict)


@dataclass(frozen=True)
class Knowledge:
    """What one binary knows; ``machines`` are the names of its machine types, aliases among them."""

    binary: str
    version: str
    drivers: Mapping[str, Driver]
    machines: frozenset[str]

    @cached_property
    def aliases(self) -> Mapping[str, Driver]:
        return {driver.alias: driver for driver in self.drivers.values() if driver.alias}

    def driver(self, name: str) -> Driver | None:
        """By its name or its alias (``virtio-net``); None where this QEMU does not have it."""
        return self.drivers.get(name) or self.aliases.get(name)


@lru_cache(maxsize=4)
def knowledge(binary: str) -> Knowledge:
    """Ask ``binary`` (a path, or a name on PATH), or the cache where it did not change; raises QemuError."""
    path = on_path(binary)
    if path is None:
        raise QemuError(f"cannot run {binary}: no such program", remedy="name a QEMU binary: --qemu qemu-system-x86_64")
    stat = os.stat(path)
    key = f"{FORMAT}\0{os.path.realpath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}"
    kept = cached(f"drivers-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json")
    try:
        with open(kept, "rb") as stream:
            return _knowledge(path, json.load(stream))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        answer = asked(path)
    keep(kept, json.dumps(answer))
    return _knowledge(path, answer)


def _knowledge(path: str, answer: Mapping[str, Any]) -> Knowledge:
    drivers = {
        name: Driver(
            name,
            row.get("bus"),
            row.get("desc"),
            row.get("alias"),
            row.get("creatable", True),
            None if row["properties"] is None else {p: Property(*fields) for p, fields in row["properties"].items()},
        )
        for name, row in answer["drivers"].items()
    }
    return Knowledge(path, answer["version"], drivers, frozenset(answer["machines"]))


def asked(path: str) -> dict[str, Any]:
    """The answers as JSON data: two rounds, and one more for each type that QEMU dies over."""
    first: list[dict[str, Any]] = [
        {"execute": "query-version", "id": "version"},
        {"execute": "human-monitor-command", "arguments": {"command-line": "info qdm"}, "id": "qdm"},
        {"execute": "qom-list-types", "arguments": {"implements": "device", "abstract": False}, "id": "types"},
        {"execute": "query-machines", "id": "machines"},
    ]
    replies, words = conversation(path, first)
    missing = [command["id"] for command in first if command["id"] not in replies]
    if missing:
        last = words.strip().splitlines()
        raise QemuError(
            f"{path} does not answer as QEMU does{': ' + last[-1] if last else ''}", remedy="name a QEMU binary with --qemu"
        )
    names = sorted(row["name"] for row in replies["types"] if not _LEFT_OUT.search(row["name"]))
    known = _from_qdm(replies["qdm"])
    listed = _properties(path, names)
    version = replies["version"]["qemu"]
    return {
        "version": f"{version['major']}.{version['minor']}.{version['micro']}",
        "drivers": {name: {**known.get(name, {"creatable": False}), "properties": listed.get(name)} for name in names},
        "machines": sorted(
            {name for row in replies["machines"] for name in (row["name"], row.get("alias")) if name is not None}
        ),
    }


def _properties(path: str, names: Sequence[str]) -> dict[str, Any]:
    """{driver: {property: [type, description, default]}}; a driver that QEMU died over is absent."""
    found: dict[str, Any] = {}
    rest = list(names)
    while rest:
        commands = [{"execute": "device-list-properties", "arguments": {"typename": name}, "id": name} for name in rest]
        replies, _ = conversation(path, commands)
        for name, rows in replies.items():
            found[name] = {
                row["name"]: [row["type"], row.get("description"), row.get("default-value")]
                for row in rows or ()
                if not row["type"].startswith(("child<", "link<memory-region", "link<irq"))
            }
        left = [name for name in rest if name not in replies]
        rest = left[1:]  # the first one unanswered is the one that QEMU died over
    return found


def conversation(path: str, commands: Iterable[Mapping[str, Any]], *, accel: str = "") -> tuple[dict[str, Any], str]:
    """Ask a scratch process all at once: ({id of a command: what it returned, None for an error}, stderr)."""
    texts = ['{"execute": "qmp_capabilities"}', *map(json.dumps, commands), '{"execute": "quit"}']
    try:
        done = subprocess.run(
            [path, "-machine", f"none,accel={accel}" if accel else "none", *_WORDS],
            input="\n".join(texts),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise QemuError(f"cannot run {path}: {error}", remedy="name a QEMU binary with --qemu") from None
    replies: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        with suppress(ValueError):  # the line in which QEMU died
            message = json.loads(line)
            if "id" in message:
                replies[message["id"]] = message.get("return")
    return replies, done.stderr


_QDM = pattern(
    r'^name "(?P<name>[^"]+)"(?:, bus (?P<bus>[^,\r\n]+))?(?:, alias "(?P<alias>[^"]+)")?(?:, desc "(?P<desc>[^"]*)")?'
    r"(?P<no>, no-user)?",
    re.MULTILINE,
)


def _from_qdm(text: str) -> dict[str, dict[str, Any]]:
    """
    >>> _from_qdm('name "virtio-net-pci", bus PCI, alias "virtio-net"')
    {'virtio-net-pci': {'bus': 'PCI', 'alias': 'virtio-net', 'creatable': True}}
    """
    return {
        row["name"]: {
            **{key: row[key] for key in ("bus", "alias", "desc") if row[key]},
            "creatable": row["no"] is None,
        }
        for row in _QDM.finditer(text)
    }


#: targets whose binaries carry another name than the architecture
_BINARIES = {"i686": "i386", "armv7l": "arm", "ppc64le": "ppc64"}


def binary_of(arch: str) -> str:
    """The name of the binary for an architecture as a description has it.

    >>> binary_of("x86_64")
    'qemu-system-x86_64'
    """
    return f"qemu-system-{_BINARIES.get(arch, arch)}"
