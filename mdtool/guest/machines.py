"""What a QEMU binary says of its machine types: which one ``q35`` is today, and what its RAM is called.

Asked once of a scratch ``-machine none`` process and then kept in ``$XDG_CACHE_HOME/mdtool``, by the binary's path,
size and time, so that ``reconcile`` needs no process on the second run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from mdtool.cache import cached, keep
from mdtool.errors import ConflictError, InputError, QemuError, choices
from mdtool.files import on_path
from mdtool.guest.model import Guest
from mdtool.machine.machines import PREFERRED, family_of, is_version, target_of_binary
from mdtool.records import NamedTuple

_REMEDY = "name a QEMU binary in <emulator>, or with --qemu"
_SECONDS = 20.0  # QEMU answers in 0.05 s; a loaded host takes longer, a hanging one must not hold mdtool

#: libvirt's architecture -> QEMU's, where they differ
_TARGETS = {"i686": "i386", "armv7l": "arm", "armv6l": "arm", "ppc64le": "ppc64"}
#: i686 guests run on the 64 bit binary too, and distributions ship that one
_FALLBACKS = {"i386": "x86_64"}
#: binaries that run the guests of a narrower one as well
_WIDER = {**_FALLBACKS, "arm": "aarch64", "ppc": "ppc64"}


def version_of(binary: str) -> tuple[int, ...]:
    """A QEMU's version, ``(7, 2, 22)``; (0,) where it does not say."""
    import subprocess

    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run([binary, "--version"], capture_output=True, timeout=5, check=False).stdout
        if found := re.search(rb"version ([0-9]{1,9}(?:\.[0-9]{1,9})*)", said):
            return tuple(map(int, found[1].split(b".")))
    return (0,)


class Machine(NamedTuple):
    """A machine type: its versioned name, the id of its RAM and its CPU model (each None where QEMU names none)."""

    name: str
    ram: str | None = None
    cpu: str | None = None
    numa_mem: bool = False


class Binary(NamedTuple):
    """A QEMU binary: version ``7.2.22``, machine types by name and by alias."""

    path: str
    version: str
    machines: Mapping[str, Machine]


def emulator(guest: Guest, *, printing: bool = False) -> str:
    """The QEMU binary of a guest: <emulator>, or the one on PATH for its architecture, or with ``printing`` its name.

    >>> from mdtool.guest.devices import guest_from_bytes
    >>> xml = b"<domain><name>web01</name><os><type arch='x86_64'>hvm</type></os><devices>%s</devices></domain>"
    >>> emulator(guest_from_bytes(xml % b"<emulator>/opt/qemu/bin/qemu-system-x86_64</emulator>", "web01.xml"))
    '/opt/qemu/bin/qemu-system-x86_64'

    Raises InputError where there is none.
    """
    found = guest.emulator or _on_path(guest.arch)
    if found is None:
        name = binary_name(guest)
        if printing:
            return name
        raise InputError(
            f"{name} is not installed",
            at=guest.domain.at("os/type"),
            remedy=f"install {name}, or name a QEMU binary in <emulator>",
            rule="emulator",
        )
    return found


def binary_name(guest: Guest) -> str:
    """The name of the binary for a guest's architecture, ``qemu-system-x86_64``, installed or not."""
    return f"qemu-system-{_TARGETS.get(guest.arch, guest.arch)}"


def target_of(guest: Guest) -> str:
    """QEMU's name of the architecture, as ``query-target`` says it: ``arm`` for libvirt's ``armv7l``.

    A 32 bit x86 guest runs on whichever binary it is given.
    """
    path = guest.emulator or _on_path(guest.arch) or ""
    return target_of_binary(path) or _TARGETS.get(guest.arch, guest.arch)


def check_architecture(guest: Guest, binary: str) -> None:
    """Raise ConflictError where the name of a binary says that it is another architecture's than the guest's."""
    wanted = _TARGETS.get(guest.arch, guest.arch)
    named = target_of_binary(binary)
    if named and named not in (wanted, _WIDER.get(wanted)):
        raise ConflictError(
            f"{binary} is QEMU for {named}, and the guest is an {guest.arch} one",
            at=guest.domain.at("os/type"),
            expected=f"qemu-system-{wanted}",
            rule="qemu-architecture",
        )


def machine_of(guest: Guest) -> Machine:
    """The versioned machine type of a guest, ``pc-q35-7.2`` for ``q35``.

    A versioned name stays as it is where no binary is at hand or where the binary does not know it: QEMU itself refuses
    it at launch, in its own words.  Raises InputError for an alias that cannot be resolved.
    """
    wish = guest.machine or PREFERRED.get(guest.arch, "")
    path = guest.emulator or _on_path(guest.arch)
    if path is None or not os.access(path, os.X_OK):
        if is_version(wish):
            return Machine(wish, ram=_guessed_ram(wish))
        raise InputError(
            f"QEMU alone knows the machine type {wish or 'by default'!r}, and {path or 'it'} is not installed",
            at=guest.domain.at("os/type"),
            remedy="name an installed QEMU in <emulator>, or write the versioned type, machine='pc-q35-7.2'",
            rule="machine-type",
        )
    machines = machines_of(path).machines
    if wish in machines:
        return machines[wish]
    if is_version(wish):
        return Machine(wish, ram=_guessed_ram(wish))
    raise InputError(
        f"unknown machine type {wish!r}", at=guest.domain.at("os/type"), expected=choices(machines), rule="machine-type"
    )


@lru_cache(maxsize=8)
def machines_of(path: str) -> Binary:
    """What the binary ``path`` says of itself, from the cache where it did not change; raises QemuError."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise QemuError(f"cannot run {path}: {error.strerror}", remedy=_REMEDY) from None
    name = os.path.realpath(path).replace("/", "_")[-120:]
    kept = cached(f"machines{name}-{stat.st_size:x}-{stat.st_mtime_ns:x}.json")
    try:
        with open(kept, "rb") as stream:
            return _binary(path, json.load(stream))
    except (OSError, ValueError, LookupError, TypeError):
        answer = _asked(path)
    binary = _binary(path, answer)
    keep(kept, json.dumps(answer))
    return binary


def _asked(path: str) -> dict[str, Any]:
    import subprocess  # slow to import, and rarely needed

    commands = ("qmp_capabilities", "query-version", "query-machines", "quit")
    words = [path, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio"]
    try:
        said = subprocess.run(
            words,
            input="".join(json.dumps({"execute": command}) for command in commands),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise QemuError(f"{path} does not answer within {_SECONDS:g} s", remedy=_REMEDY, rule="qemu-hangs") from None
    except (OSError, ValueError) as error:
        what = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise QemuError(f"cannot run {path}: {what}", remedy=_REMEDY, rule="qemu-missing") from None
    answers = []
    for line in said.stdout.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("return"):
            answers.append(message["return"])
    if len(answers) < 2:
        words_of_qemu = said.stderr.strip().splitlines()
        raise QemuError(
            f"{path} does not answer as QEMU does{': ' + words_of_qemu[-1] if words_of_qemu else ''}",
            remedy=_REMEDY,
            rule="qemu-missing",
        )
    version, machines = answers[0]["qemu"], answers[1]
    return {
        "version": f"{version['major']}.{version['minor']}.{version['micro']}",
        "machines": [
            {
                "name": machine["name"],
                "alias": machine.get("alias"),
                "ram": machine.get("default-ram-id"),
                "cpu": machine.get("default-cpu-type"),
                "numa_mem": machine.get("numa-mem-supported", False),
            }
            for machine in sorted(machines, key=lambda machine: str(machine["name"]))
        ],
    }


def _binary(path: str, answer: Mapping[str, Any]) -> Binary:
    machines: dict[str, Machine] = {}
    for row in answer["machines"]:
        # default-cpu-type is a type, qemu64-x86_64-cpu; what -cpu takes is its beginning
        model = re.sub(r"-[^-]+-cpu$", "", row["cpu"]) if row["cpu"] else None
        machine = Machine(row["name"], row["ram"], model, row["numa_mem"])
        machines[machine.name] = machine
        if row["alias"]:
            machines[row["alias"]] = machine
    return Binary(path, answer["version"], machines)


@lru_cache(maxsize=16)
def _on_path(arch: str) -> str | None:
    target = _TARGETS.get(arch, arch)
    names = [f"qemu-system-{name}" for name in (target, _FALLBACKS.get(target)) if name]
    return next(filter(None, map(on_path, names)), None)


def _guessed_ram(name: str) -> str | None:
    family = family_of(name)
    return family.ram if family is not None else None
