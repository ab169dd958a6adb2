"""What rows of the table of elements have in common: the device on its way, its element, libvirt's counters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.errors import Report
from mdtool.importer.markup import Keys, NoWords, tag
from mdtool.machine.values import number
from mdtool.qemu.replies import RawBus, RawDevice
from mdtool.records import NamedTuple, dataclass, field


class Written(NamedTuple):
    """One element, and what its device is called from now on; ``used`` are the back ends that it speaks for."""

    xml: str
    id: str
    used: tuple[str, ...] = ()


@dataclass
class DeviceView:
    """A device on its way: as QEMU has it (``properties``, with those behind a virtio proxy), and ``keys``, what its
    option says of the host, to be taken by the row that knows it; ``bag`` is all that its option says."""

    bus: RawBus
    device: RawDevice
    driver: str
    properties: Mapping[str, Any]
    keys: Keys
    bag: Mapping[str, Any] = field(default_factory=dict)

    def behind(self, name: str) -> str:
        """The name of the back end that its option names, or that a property holds; "" for none."""
        self.keys.take(name)
        return str(self.bag.get(name) or self.properties.get(name) or "").removeprefix("#").rpartition("/")[2]


@dataclass
class Writer:
    """What rows need to know besides: the host side, the machine, and libvirt's counters."""

    host: HostSide
    machine: str
    absolute: Callable[[str], str]
    report: Report
    counts: dict[str, int] = field(default_factory=dict)
    indexes: dict[str, int] = field(default_factory=dict)
    masters: dict[str, int] = field(default_factory=dict)  # bus of a USB controller -> its index
    sata: set[int] = field(default_factory=set)  # buses of SATA controllers
    audios: dict[str, int] = field(default_factory=dict)
    rows: Mapping[re.Pattern[str], Callable[[Writer, DeviceView], Written]] = field(default_factory=dict)

    def made(self, one: DeviceView) -> Written | None:
        """Its element; None where no row knows the driver.  Raises NoWords where the element cannot say its host side."""
        for pattern, row in self.rows.items():
            if pattern.fullmatch(one.driver):
                before = dict(self.counts), dict(self.indexes)
                try:
                    found = row(self, one)
                    one.keys.done()
                except NoWords:
                    self.counts, self.indexes = before
                    raise
                return found
        return None

    def count(self, name: str) -> int:
        self.counts[name] = self.counts.get(name, -1) + 1
        return self.counts[name]

    def audio(self, one: DeviceView) -> str:
        """<audio id=...> of a card."""
        name = one.behind("audiodev")
        return tag("audio", id=self.audios[name]) if name in self.audios else ""


def boot_of(one: DeviceView) -> str:
    order = number(one.properties.get("bootindex"), -1)
    return tag("boot", order=order) if order > 0 else ""


def virtio_model(driver: str, plain: str = "virtio") -> str:
    """libvirt's word for a virtio device that is transitional or is not."""
    return next((f"virtio-{end}" for end in ("non-transitional", "transitional") if driver.endswith(end)), plain)


def transport(one: DeviceView) -> str:
    """The address type that distinguishes virtio-mmio from PCI."""
    return tag("address", type_="virtio-mmio") if one.bus.type == "virtio-bus" else ""


def rom_of(writer: Writer, one: DeviceView) -> str:
    """An option ROM of the user's."""
    path = one.keys.take("romfile")
    return tag("rom", file=writer.absolute(path)) if path else ""


def thread_of(writer: Writer, name: Any) -> int | None:
    """libvirt numbers its I/O threads; QEMU names them."""
    if name is None:
        return None
    threads = [id for id, given in writer.host.objects.items() if given.bag.get("qom-type") == "iothread"]
    return threads.index(str(name)) + 1 if name in threads else None
