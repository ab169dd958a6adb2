"""Two nodes of the device tree: where they are, their properties, what they are to PCI, what the host made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdtool.compare import knowledge
from mdtool.compare.matching import bus_of, same_bus
from mdtool.compare.model import (
    ADDRESS,
    EFFECTIVE,
    FIRMWARE,
    HOST,
    IDENTITY,
    PCI,
    PROPERTY,
    SEVERITY_OF,
    Difference,
)
from mdtool.compare.sections import MachinePair
from mdtool.machine.drivers import same_driver
from mdtool.machine.pci import pci_facts
from mdtool.machine.roles import STRINGS, UNCHOSEN, chosen, role
from mdtool.machine.tree import BUILTIN, MONITOR, Node, Place, Properties, Tree, Value
from mdtool.machine.values import number, same
from mdtool.machine.writer import address_key
from mdtool.records import dataclass, field

#: (driver, property) that show what firmware did, not what the machine is
_SET_BY_FIRMWARE = frozenset({("q35-pcihost", "MCFG")})
#: pins that QEMU derives from other properties: with another of these in the tree they say what was
_MADE_OF = {"romsize": ("rombar", "romfile")}
#: properties that are the address of a device in hexadecimal, which a dump has as its address and nowhere else
_ARE_THE_ADDRESS = frozenset({"iobase", "addr", "port", "nr", "unit", "slot"})
#: properties that name a bus, whose name a guest does not see
_NAMES_A_BUS = frozenset({"masterbus"})
#: the value that has QEMU choose
_AUTO = "auto"
#: identities that ``auto`` has QEMU choose
_CHOSEN_BY_QEMU = frozenset({"guid", "uuid"})
#: CPU models that are whatever the host has
_HOST_MODELS = ("host-", "max-")
#: what KVM takes of the host's CPU for any model, and levels that follow from the flags that the host offers
_OF_THE_HOST = frozenset({
    "vendor", "tsc-frequency", "ucode-rev", "phys-bits", "guest-phys-bits", "level", "level-func7", "xlevel", "xlevel2",
    "avx10-version",
})  # fmt: skip


@dataclass(slots=True)
class Tally:
    """What a walk over all pairs of nodes looked at and left out."""

    properties: int = 0
    functions: int = 0
    features: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unseen: list[tuple[str, str]] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


def node_differences(
    want: Place, have: Place, pair: MachinePair, providers: Mapping[int, int], tally: Tally
) -> Iterator[Difference]:
    yield from _place(want, have, providers)
    yield from _properties(want, have, pair, tally, providers)
    shown = pci_facts(have.node)
    if shown and not pci_facts(want.node):
        tally.unknown.append(want.name)
    elif shown:
        tally.functions += 1
        yield from pci_differences(want.name, want.node, shown)
    yield from _effective(want, have, tally)


def _place(want: Place, have: Place, providers: Mapping[int, int]) -> Iterator[Difference]:
    if want.node.id is not None and have.node.id != want.node.id:
        yield Difference(want.name, "id", want.node.id, have.node.id, HOST, want.node.position)
    if not same_driver(want.node.driver, have.node.driver):
        yield Difference(want.name, "driver", want.node.driver, have.node.driver, IDENTITY, want.node.position)
    said, seen = want.node.address, have.node.address
    if any(place.bus is None and place.node.address is None for place in (want, have)):
        return  # without a given place, so that QEMU chose (an s390x console on its event bus)
    known = said is not None and (seen is not None or have.node.origin is None)
    other = known and (seen is None or address_key(said) != address_key(seen))
    if other or not same_bus(want, have, providers):
        here, there = (" ".join(filter(None, (bus_of(p), p.node.address))) for p in (want, have))
        yield Difference(want.name, "address", here, there or None, ADDRESS, want.node.position)


def _properties(
    want: Place, have: Place, pair: MachinePair, tally: Tally, providers: Mapping[int, int]
) -> Iterator[Difference]:
    described = {**want.node.pins, **want.node.properties}
    seen = {**_flat(have.node.effective), **have.node.pins, **have.node.properties}
    tally.properties += len(described)
    for name, value in described.items():
        driver = want.node.driver
        if (driver, name) in _SET_BY_FIRMWARE or _is_stale(want.node, name):
            continue
        if name not in seen:
            if _is_gone(name, value, want, have, pair):
                yield _difference(want, name, value, _absent(have, name))
            elif not _says_nothing(driver, name, value, pair) and not _is_the_address(name, value, have.node):
                tally.skipped.append((want.name, name))
        elif name in _NAMES_A_BUS and _is_the_bus(str(value), str(seen[name]), pair, providers):
            continue
        elif not same(value, seen[name]) and not _is_chosen_by_qemu(want.node, have.node, name):
            yield _difference(want, name, value, seen[name])
    mine = {**_flat(want.node.effective), **described}
    for name, value in {**have.node.pins, **have.node.properties}.items():
        if name in mine or _says_nothing(want.node.driver, name, value, pair) or _is_the_address(name, value, want.node):
            continue
        why = _unknown(name, value, want, have, pair)
        if why is None:
            yield _difference(want, name, _absent(want, name), value)
        elif why:
            tally.facts.append((f"{want.name}.{name}", why))


def _is_the_bus(want: str, have: str, pair: MachinePair, providers: Mapping[int, int]) -> bool:
    """Whether two names are of one bus: that of the same device, whatever its id."""
    sides = ((pair.description, want), (pair.machine, have))
    places = [
        next(((id(p.node), n) for p in tree.places for n, bus in enumerate(p.node.buses) if bus.name == name), None)
        for tree, name in sides
    ]
    one, two = places
    return one is not None and two is not None and (providers.get(one[0]), one[1]) == two


def _difference(want: Place, name: str, value: Value, other: Value) -> Difference:
    severity = HOST if role(want.node.driver, name) == "host" else SEVERITY_OF.get(name, PROPERTY)
    if name == "device_id" and want.node.origin == BUILTIN:
        severity = EFFECTIVE  # the disk that a usb-storage brings: named after its -drive, and no property sets it
    return Difference(want.name, name, value, other, severity, want.node.position)


def _absent(place: Place, name: str) -> Value:
    """What a property is that is not there: an empty string, where it is one."""
    return "" if name in place.node.empty or (name in STRINGS and place.node.pins) else None


def _says_nothing(driver: str, name: str, value: Value, pair: MachinePair) -> bool:
    """Whether a value is the device's default, or the host's, which no machine's description has."""
    if value is None or value == "" or (role(driver, name) in ("state", "host") and not pair.alike):
        return True
    return name in STRINGS and name in UNCHOSEN and not chosen(driver, name, value)


def _is_gone(name: str, value: Value, want: Place, have: Place, pair: MachinePair) -> bool:
    """Whether a described property that the machine lacks is not set there, and not merely not shown."""
    if _says_nothing(want.node.driver, name, value, pair) or _is_the_address(name, value, have.node):
        return False
    if name in have.node.empty:
        return True
    if pair.alike:
        return name in want.node.properties or bool(want.node.pins and have.node.pins)
    was_written = have.node.position is not None  # a file does not keep which strings were empty
    return was_written and name in STRINGS and MONITOR in pair.machine.source and bool(have.node.pins)


def _unknown(name: str, value: Value, want: Place, have: Place, pair: MachinePair) -> str | None:
    """None where the description would have a property of the machine's that it lacks; else why not, "" for no reason
    worth a line."""
    if pair.alike:
        is_set = name in have.node.properties or bool(want.node.pins and have.node.pins)
        return None if is_set else ""
    if MONITOR in pair.description.source and want.node.pins:
        if not isinstance(value, str):
            return ""
        if name in STRINGS or _version(pair.description) == _version(pair.machine):
            return None
        return f"QEMU {_version(pair.description)}, which was dumped, does not show it"
    is_hid = want.node.driver.startswith("usb-") and want.node.driver != "usb-storage"  # QEMU gives some a number
    by_xml = knowledge.XML in knowledge.sources_of(pair.description) and want.node.origin is not None
    is_known = (by_xml or MONITOR in pair.description.source) and want.node.origin != BUILTIN and not is_hid
    return None if name in STRINGS and is_known and not want.node.pins and name in have.node.properties else ""


def _version(tree: Tree) -> str:
    return str(tree.machine.get("qemu", ""))


def _is_the_address(name: str, value: Value, node: Node) -> bool:
    """Whether a property is where the other node is: ``iobase: 0x402`` and the address 402."""
    if name not in _ARE_THE_ADDRESS or node.address is None:
        return False
    try:
        return number(value, -1) == int(node.address.partition(".")[0], 16) or same(value, node.address)
    except ValueError:
        return same(value, node.address)


def _is_chosen_by_qemu(want: Node, have: Node, name: str) -> bool:
    """Whether one side says ``auto`` and the other has what QEMU made of it; an identity that is called auto is one."""
    if name in STRINGS and name not in _CHOSEN_BY_QEMU:
        return False
    return _AUTO in (want.properties.get(name), have.properties.get(name))


def _is_stale(node: Node, pin: str) -> bool:
    """Whether a property in the tree overrides what a pin was made of; the size of a ROM is also among the PCI facts."""
    return pin not in node.properties and any(name in node.properties for name in _MADE_OF.get(pin, ()))


def _effective(want: Place, have: Place, tally: Tally) -> Iterator[Difference]:
    made, recorded = _flat(have.node.effective), _flat(want.node.effective)
    if made and not recorded:
        tally.unrecorded.append(want.name)
    for name, value in recorded.items():
        if name in want.node.properties:
            continue
        if name not in made:
            tally.unseen.append((want.name, name))
            continue
        tally.features += 1
        if not same(value, made[name]):
            severity = PROPERTY if _is_the_models(want.node.driver, name) else EFFECTIVE
            yield Difference(want.name, name, value, made[name], severity, want.node.position)


def _is_the_models(driver: str, name: str) -> bool:
    """Whether a value is what the CPU model and the command line make of it, on every host.

    >>> _is_the_models("Nehalem-x86_64-cpu", "identity.stepping"), _is_the_models("host-x86_64-cpu", "identity.stepping")
    (True, False)
    """
    kind, _, key = name.partition(".")
    return kind == "identity" and key not in _OF_THE_HOST and not driver.startswith(_HOST_MODELS)


def _flat(bag: Properties, path: str = "") -> dict[str, Any]:
    """A mapping in a mapping by its path: ``feature-words.1.ecx``."""
    found: dict[str, Any] = {}
    for name, value in bag.items():
        found |= _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return found


#: PCI facts (``pci_facts``) that are called otherwise in a report, where ``id`` is QEMU's
_PCI_NAMES = {"class": "PCI class", "id": "PCI id", "sub": "PCI subsystem id", "rom": "ROM size"}


def pci_differences(name: str, node: Node, seen: Mapping[str, Value]) -> Iterator[Difference]:
    """What is otherwise than the description's PCI facts of ``node``; nothing where it has none."""
    known = pci_facts(node)
    for fact in sorted({*known, *seen}) if known else ():
        want, have = known.get(fact), seen.get(fact)
        if want != have:
            severity = FIRMWARE if fact == "rom" else PCI
            yield Difference(name, _PCI_NAMES.get(fact, fact), want, have, severity, node.position)
