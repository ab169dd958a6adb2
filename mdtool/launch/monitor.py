"""``--via monitor``: devices are plugged over QMP, each at its address, before the guest runs (Solution 3 of 2009).

QEMU plugs only into buses that a running guest could be given a device on: not into ``pcie.0`` of q35, not into ISA,
IDE or SATA.  What cannot be plugged, and everything that carries such a device, stays on the command line; ``notes``
say which and why.  QEMU has the last word: where it refuses one that was thought pluggable, that one goes to the
command line and the launch starts over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mdtool.commandline.option import Option
from mdtool.launch.device import Handover
from mdtool.machine.buses.kinds import NO_HOT_PLUG, kind_of_driver
from mdtool.machine.facts import kind_of
from mdtool.machine.values import number
from mdtool.records import dataclass
from mdtool.text import pattern

#: PCI devices that QEMU itself marks as not hotpluggable, beside ports, bridges and displays, and why one cares
_FIXED = (
    (pattern(r".*-iommu"), "an IOMMU"),
    (pattern(r"usb-ehci|ich9-usb-"), "a controller with companions"),
)


@dataclass(frozen=True, slots=True)
class _Held:
    option: Option
    id: str
    driver: str
    bus: str
    why: str = ""


def handover(options: Sequence[Option], refused: Iterable[tuple[str, str]] = ()) -> Handover:
    """``refused`` are (id, QEMU's reason) of what an earlier try showed to be unpluggable."""
    reasons = dict(refused)
    buses = {found[1]: why for why in reasons.values() if (found := re.search(r"Bus '([^']+)' does not support", why))}
    devices: dict[str, _Held] = {}
    for option in options:
        if option.name == "device":
            bag = option.bag
            id = str(bag.get("id", f"?{len(devices)}"))
            driver, bus = str(bag.get("driver", "")), str(bag.get("bus", ""))
            devices[id] = _Held(option, id, driver, bus, reasons.get(id) or buses.get(bus) or _why_not(option, driver, bus))
    stays = {id: held.why for id, held in devices.items() if held.why}
    for id in list(stays):  # what carries it must be there first
        for possible in _possible_carriers(devices, devices[id]):
            stays.setdefault(possible, f"it carries {id}")
    for id in list(stays):
        carrier = _carrier(devices, devices[id].bus)
        while carrier is not None and carrier not in stays:
            stays[carrier] = f"it carries {id}"
            carrier = _carrier(devices, devices[carrier].bus)
    _keep_functions_together(devices, stays)
    additions = [held for id, held in devices.items() if id not in stays]
    plugged = [held.option for held in additions]
    rest = [option for option in options if not any(option is other for other in plugged)]
    # Function 0 makes a whole slot appear, so it comes after its other functions; a carrier before what it carries.
    additions.sort(key=lambda held: (_depth(devices, held), held.bus, _slot(held), -_function(held)))
    notes = tuple(f"{id} ({devices[id].driver}) is on the command line: {why}" for id, why in stays.items())
    return Handover(tuple(rest), additions=tuple(dict(held.option.bag) for held in additions), notes=notes)


def _why_not(option: Option, driver: str, bus: str) -> str:
    if not bus or bus == NO_HOT_PLUG or not kind_of_driver(driver).hot_plug:
        return f"bus {bus or 'of the machine'} takes no plugged device"
    if not option.is_json:
        return "QMP takes its properties in JSON only"
    if (kind := kind_of(driver)) in ("bridge", "display"):
        return f"a {kind} cannot be plugged"
    return next((f"{what} cannot be plugged" for pattern, what in _FIXED if pattern.match(driver)), "")


#: what takes any bus of its kind where none is named -> the drivers that have one
_ANY_BUS = (
    (r"virtconsole|virtserialport", r"virtio-serial-.*"),
    (r"scsi-.*", r"virtio-scsi-.*|lsi.*|megasas.*|mptsas.*|pvscsi"),
    (r"usb-.*", r".*(uhci|ehci|ohci|xhci).*"),
    (r"hda-.*", r".*hda"),
)


def _possible_carriers(devices: dict[str, _Held], held: _Held) -> list[str]:
    """The devices one of which will carry ``held``, which names no bus."""
    kinds = [carrier for carried, carrier in _ANY_BUS if not held.bus and re.fullmatch(carried, held.driver)]
    return [id for id, other in devices.items() for kind in kinds if re.fullmatch(kind, other.driver)]


def _carrier(devices: dict[str, _Held], bus: str) -> str | None:
    """The device that provides a bus: PCI bridges name it as themselves, controllers with a number behind."""
    return next((name for name in (bus, bus.rpartition(".")[0]) if name in devices), None)


def _depth(devices: dict[str, _Held], held: _Held) -> int:
    carrier = _carrier(devices, held.bus)
    return 0 if carrier is None else 1 + _depth(devices, devices[carrier])


def _keep_functions_together(devices: dict[str, _Held], stays: dict[str, str]) -> None:
    """A slot whose function 0 is there already takes no more functions: all of a slot are plugged, or none."""
    slots: dict[tuple[str, str], list[str]] = {}
    for id, held in devices.items():
        if "addr" in held.option.bag and not held.driver.startswith("virtserial"):
            slots.setdefault((held.bus, _slot(held)), []).append(id)
    for together in slots.values():
        if not any(_function(devices[id]) == 0 for id in together):
            for id in together:
                stays.setdefault(id, "function 0 of its slot is the machine's own")
        if len(together) > 1 and (first := next((id for id in together if id in stays), None)):
            for id in together:
                stays.setdefault(id, f"it shares a slot with {first}")


def _slot(held: _Held) -> str:
    return str(held.option.bag.get("addr", "")).partition(".")[0]


def _function(held: _Held) -> int:
    text = str(held.option.bag.get("addr", "")).partition(".")[2]
    return number(text)


def is_refusal(words: str) -> bool:
    """Whether QEMU says that a device or a bus is not for plugging.

    >>> is_refusal("Bus 'pcie.0' does not support hotplugging")
    True
    """
    return re.search(r"hot-?plug|pluggable|can only be (cold|added)|already occupied", words, re.IGNORECASE) is not None
