"""What QEMU prints when it refuses to start, as an error at the guest XML's line of the device that it is about."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from mdtool.errors import Position, QemuError
from mdtool.text import pattern

_LINE = pattern(r"^(?:\S*qemu\S*|\S*?): ?(?P<rest>.*)$")
_STAMP = pattern(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ", re.MULTILINE)  # -msg timestamp=on
#: lines that are no refusal: warnings, and what the host lacks for sound, without which QEMU starts
_WARNING = pattern(
    r"^\S+?: (?:\S+ .*?: )?(warning|info): (?!Spice: .* failed)|^char device redirected to "
    r"|^(\S+?: )?module \S+ not found, |^(ALSA lib|(alsa|pulseaudio|audio|jack|sdl):) "
)
_CONFIG = pattern(r"(?P<file>/\S+?):(?P<line>[0-9]{1,9}): (?P<rest>.*)", re.DOTALL)
_OPTION = pattern(r"(?P<option>-[\w-]+) (?P<value>\{.*?\}|\S+): (?P<rest>.*)", re.DOTALL)
_ID = pattern(r'"?\b(?:id|node-name)"?\s*[=:]\s*"?([\w.-]+)')
#: what a refusal means, and what to do: (words of QEMU's, remedy)
_REMEDIES = (
    (
        r'Failed to get .*"?(write|shared|consistent read|resize)"? lock',
        "another QEMU uses this disk: end that one, or give the disk <shareable/> or <readonly/>",
    ),
    (
        "bridge helper failed",
        "the bridge must be there and /etc/qemu/bridge.conf allow it (allow BRIDGE); --via libvirt needs no such file",
    ),
    (
        "could not (configure|open) /dev/net/tun",
        "a tap needs root, or one that root made for this user: <target dev='TAP' managed='no'/>",
    ),
    (
        "Address already in use|Spice: .*binding socket",
        "something else listens there: give the guest another port or path, or end the other",
    ),
    ("No space left on device", "the disk is full: make room and start again"),
    (
        "(Could not open|Failed to open).*(No such file|Permission denied)",
        "check the path and who may read it; --rehearse needs no disks",
    ),
    (
        "(?i)could not access KVM|failed to initialize kvm",
        "the host has no KVM for this user: domain type='qemu' in the XML, or the group kvm",
    ),
    (
        "requires kernel irqchip and X2APIC",
        "more than 255 vCPUs need KVM, or a QEMU from 9.0 on: a rehearsal has no KVM, name another QEMU with --qemu",
    ),
    (
        "unsupported machine type",
        "this QEMU lacks the machine type: see `-machine help`, or name the right QEMU with <emulator>",
    ),
    (
        "Unknown ramblock|Unknown savevm section|Missing section|load of migration failed",
        "the incoming state is of another machine: `mdtool verify --migration` names the node",
    ),
)


def error_from_words(said: str, positions: Mapping[str, Position], config: Mapping[str, str] | None = None) -> QemuError:
    """QEMU's last words as an error: without warnings and program name, with the XML line of the id they are about.

    >>> at = Position("guest.xml", 7, 5)
    >>> str(error_from_words('qemu: -device {"driver":"e1000","id":"net0"}: Bus \\'x\\' not found', {"net0": at}))
    "guest.xml:7:5: error: QEMU refused net0: Bus 'x' not found [qemu-refuses]"
    """
    lines = [line for line in _STAMP.sub("", said).splitlines() if line.strip()]
    faults = [line for line in lines if not _WARNING.match(line)] or lines or ["it said nothing"]
    text = "\n".join(faults)
    found = _LINE.match(faults[0])
    rest = "\n".join([found["rest"] if found else faults[0], *faults[1:]])
    name: str | None = None
    if (line := _CONFIG.search(text)) and line["file"] in (config or {}):
        name = _group_at(config[line["file"]], int(line["line"]))  # type: ignore[index]
        rest = "\n".join([line["rest"], *text[: line.start()].splitlines()[:-1]])  # the output of a helper comes before
    elif option := _OPTION.match(rest):
        name, rest = _id_in(option["value"]), option["rest"]
        if name is None:
            name = option["option"] if option["option"] in positions else None
            rest = rest if name else f"{option['option']} {option['value']}: {rest}"
    if name is None:  # "Device 'net0' could not be initialized" names it in passing
        name = next((known for known in positions if re.search(rf"['\"= ]{re.escape(known)}['\", ]", rest)), None)
        what = f"QEMU refused to start: {rest}"
    else:
        what = f"QEMU refused {name}: {rest}"
    if name is None and "spice server" in rest:
        name = "-spice"
    remedy = next((remedy for words, remedy in _REMEDIES if re.search(words, text)), None)
    return QemuError(what, at=positions.get(name or ""), remedy=remedy, rule="qemu-refuses")


def _id_in(value: str) -> str | None:
    try:
        data = json.loads(value)
        return next((str(data[key]) for key in ("id", "node-name", "qom-type") if key in data), None)
    except (ValueError, TypeError, RecursionError):
        found = _ID.search(value)
        return found[1] if found else None


def _group_at(text: str, line: int) -> str | None:
    """The id of the ``[device "net0"]`` group that holds line ``line``."""
    name = None
    for row in text.splitlines()[:line]:
        if found := re.match(r'\[\S+(?: "([^"]+)")?\]', row):
            name = found[1]
    return name
