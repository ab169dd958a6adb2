"""PCI as a guest's firmware enumerates it: every function behind every bridge, its configuration space, BARs and ROM.

Bridges come out of reset without bus numbers, so that nothing behind them answers.  They get numbers here, depth
first as firmware gives them, and what is behind them is read.  A function's configuration space is read before
anything in it is written: what is recorded is the state after reset, and no number given here is in it.

A function is named by its path: ``02.0/00.0`` is function 00.0 behind the bridge at 02.0 of bus 0; ``bus 128: 00.0``
is on a root bus of its own (pxb, pxb-pcie).  Paths hold no bus number that firmware gives out, so another bridge
moves no path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from mdtool.proof.qtest import QTest
from mdtool.records import dataclass, field, replace

BUSES, SLOTS, FUNCTIONS = 256, 32, 8
COMMAND, HEADER_TYPE, BAR0, BUS_NUMBERS, MEMORY_WINDOW = 0x04, 0x0E, 0x10, 0x18, 0x20
BRIDGE, MULTIFUNCTION = 0x01, 0x80
BARS = {0: 6, BRIDGE: 2}  # by header type; CardBus bridges (2) have none that QEMU models
ROM = {0: 0x30, BRIDGE: 0x38}


@dataclass(frozen=True, slots=True)
class Bar:
    """A base address register: ``kind`` is ``io``, ``mem32`` or ``mem64``, ``size`` is in bytes."""

    index: int
    kind: str
    prefetchable: bool
    size: int

    def __str__(self) -> str:
        return f"bar{self.index} {self.kind}{'p' if self.prefetchable else ''} {size_to_text(self.size)}"


@dataclass(frozen=True, slots=True)
class Rom:
    """An option ROM: ``size`` of its BAR in bytes, and the SHA-256 of what a guest reads there."""

    size: int
    sha256: str

    def __str__(self) -> str:
        return f"rom {size_to_text(self.size)} {self.sha256[:12]}"


@dataclass(frozen=True, slots=True)
class Function:
    """One PCI function as a guest finds it after reset.

    ``path``    see the module
    ``config``  256 bytes, or 4,096 where the function is PCI Express and there is an ECAM
    ``id``      QEMU's id of the device, "" for one without
    """

    path: str
    config: bytes
    bars: tuple[Bar, ...] = ()
    rom: Rom | None = None
    id: str = ""

    def number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.config[offset : offset + size], "little")

    @property
    def header(self) -> int:
        return self.config[HEADER_TYPE] & 0x7F

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """vendor, device, and the subsystem's vendor and device (0, 0 for a bridge)."""
        subsystem = (self.number(0x2C, 2), self.number(0x2E, 2)) if self.header == 0 else (0, 0)
        return self.number(0, 2), self.number(2, 2), *subsystem


class Ports:
    """Configuration space through ports 0xcf8 and 0xcfc: every x86 machine with PCI, 256 bytes a function."""

    size = 256

    def read(self, bus: int, devfn: int, offset: int) -> list[str]:
        """The commands that read 4 bytes; the last one answers."""
        return [f"outl 0xcf8 {0x80000000 | bus << 16 | devfn << 8 | offset:#x}", "inl 0xcfc"]

    def write(self, bus: int, devfn: int, offset: int, value: int) -> list[str]:
        return [f"outl 0xcf8 {0x80000000 | bus << 16 | devfn << 8 | offset:#x}", f"outl 0xcfc {value:#x}"]

    def configs(self, qtest: QTest, places: Sequence[tuple[int, int]]) -> list[bytes]:
        commands = [c for bus, devfn in places for offset in range(0, 256, 4) for c in self.read(bus, devfn, offset)]
        words = qtest.numbers(commands)[1::2]
        data = b"".join(word.to_bytes(4, "little") for word in words)
        return [data[start : start + 256] for start in range(0, len(data), 256)]


class Ecam:
    """Configuration space in memory: PCI Express, 4,096 bytes a function."""

    size = 4096

    def __init__(self, base: int, buses: int = BUSES) -> None:
        self.base = base
        self.buses = buses

    def at(self, bus: int, devfn: int, offset: int = 0) -> int:
        return self.base + (bus << 20 | devfn << 12 | offset)

    def read(self, bus: int, devfn: int, offset: int) -> list[str]:
        return [f"readl {self.at(bus, devfn, offset):#x}"]

    def write(self, bus: int, devfn: int, offset: int, value: int) -> list[str]:
        return [f"writel {self.at(bus, devfn, offset):#x} {value:#x}"]

    def configs(self, qtest: QTest, places: Sequence[tuple[int, int]]) -> list[bytes]:
        read = qtest.memories((self.at(bus, devfn), 4096) for bus, devfn in places)
        # A conventional function has 256 bytes; QEMU answers all ones behind them.
        return [config[:256] if config[256:] == b"\xff" * 3840 else config for config in read]


Way = Ports | Ecam


@dataclass(frozen=True, slots=True)
class Found:
    """A function with where it answers now; ``bridges`` lead to it, outermost first."""

    bus: int
    devfn: int
    function: Function
    bridges: tuple[tuple[int, int], ...] = ()


def ecam_of_q35(qtest: QTest, base: int = 0xB0000000) -> Ecam | None:
    """Switch q35's PCIEXBAR on, as firmware does, where SeaBIOS puts it; None where bus 0 has no q35 host bridge."""
    ports = Ports()
    host = qtest.numbers(ports.read(0, 0, 0))[-1]
    if host != 0x29C08086:
        return None
    qtest.run([*ports.write(0, 0, 0x64, base >> 32), *ports.write(0, 0, 0x60, base & 0xFFFFFFFF | 1)])
    return Ecam(base)


def functions_on_bus(qtest: QTest, way: Way, bus: int) -> list[tuple[int, bytes]]:
    """(devfn, configuration space) of all that answers on ``bus``.

    As by the book, functions 1 to 7 are looked for only where a function 0 answers and says that there are several.
    """

    def words(places: Sequence[tuple[int, int]]) -> list[int]:
        width = len(way.read(0, 0, 0))
        return qtest.numbers([c for devfn, offset in places for c in way.read(bus, devfn, offset)])[width - 1 :: width]

    slots = [slot << 3 for slot in range(SLOTS)]
    present = [devfn for devfn, word in zip(slots, words([(d, 0) for d in slots]), strict=True) if _answers(word)]
    headers = words([(devfn, HEADER_TYPE & ~3) for devfn in present])
    several = [devfn for devfn, word in zip(present, headers, strict=True) if word >> 16 & MULTIFUNCTION]
    others = [devfn + function for devfn in several for function in range(1, FUNCTIONS)]
    present += [devfn for devfn, word in zip(others, words([(d, 0) for d in others]), strict=True) if _answers(word)]
    present.sort()
    return list(zip(present, way.configs(qtest, [(bus, devfn) for devfn in present]), strict=True))


def _answers(word: int) -> bool:
    return word & 0xFFFF not in (0xFFFF, 0)


def enumerate_functions(qtest: QTest, way: Way, roots: Sequence[int] = (0,)) -> list[Found]:
    """Every function, root bus by root bus, depth first; every bridge is left with its bus numbers.

    ``roots`` are the numbers of the root buses (``extra_roots``), 0 first; no bridge gets one of those.  Where there
    are more bridges than numbers, the last ones stay closed.
    """
    walk = _Walk(qtest, way, [number for number in range(1, BUSES) if number not in roots])
    for root in sorted(roots):
        walk.bus(root, f"bus {root}: " if root else "", ())
    return walk.found


@dataclass
class _Walk:
    """An enumeration under way: ``free`` are the bus numbers that no bridge has yet, ``found`` what was seen."""

    qtest: QTest
    way: Way
    free: list[int]
    found: list[Found] = field(default_factory=list)

    def bus(self, number: int, prefix: str, bridges: tuple[tuple[int, int], ...]) -> int:
        """Append what is on a bus and behind it; returns the highest number that it took."""
        last = number
        for devfn, config in functions_on_bus(self.qtest, self.way, number):
            path = f"{prefix}{devfn >> 3:02x}.{devfn & 7}"
            function = Function(path, config)
            self.found.append(Found(number, devfn, function, bridges))
            if function.header != BRIDGE or not self.free:
                continue
            secondary = self.free.pop(0)
            numbers = (config[0x1B] << 24) | secondary << 8 | number  # with the latency timer as it was
            # Everything above goes down this bridge while what is behind it gets its numbers.
            self.qtest.run(self.way.write(number, devfn, BUS_NUMBERS, numbers | 0xFF << 16))
            last = self.bus(secondary, f"{path}/", (*bridges, (number, devfn)))
            self.qtest.run(self.way.write(number, devfn, BUS_NUMBERS, numbers | last << 16))
        return last


def extra_roots(qtest: QTest, way: Way, count: int) -> list[int]:
    """The numbers of ``count`` root buses beside bus 0 (fw_cfg's etc/extra-pci-roots), before any bridge has a number.

    A root bus answers by its own number from the start, so whatever answers now, apart from bus 0, is one.
    """
    if not count:
        return []
    width = len(way.read(0, 0, 0))
    places = [(bus, slot << 3) for bus in range(1, BUSES) for slot in range(SLOTS)]
    words = qtest.numbers([c for bus, devfn in places for c in way.read(bus, devfn, 0)])[width - 1 :: width]
    return sorted({bus for (bus, _), word in zip(places, words, strict=True) if _answers(word)})


def sized(qtest: QTest, way: Way, found: Sequence[Found]) -> list[Found]:
    """``found`` with BAR sizes: all ones in, size out, the old value back in, one pipeline for all of them."""
    commands: list[str] = []
    answers: list[tuple[int, int, int]] = []  # (index in found, offset, index of the answer)
    for index, one in enumerate(found):
        for offset, ones in _registers(one.function):
            commands += way.write(one.bus, one.devfn, offset, ones)
            commands += way.read(one.bus, one.devfn, offset)
            answers.append((index, offset, len(commands) - 1))
            commands += way.write(one.bus, one.devfn, offset, one.function.number(offset, 4))
    values = qtest.numbers(commands)
    masks: list[dict[int, int]] = [{} for _ in found]
    for index, offset, answer in answers:
        masks[index][offset] = values[answer]
    return [
        replace(
            one,
            function=replace(one.function, bars=tuple(_bars(one.function, mask)), rom=_rom(one.function, mask)),
        )
        for one, mask in zip(found, masks, strict=True)
    ]


def _registers(function: Function) -> Iterator[tuple[int, int]]:
    for index in range(BARS.get(function.header, 0)):
        yield BAR0 + 4 * index, 0xFFFFFFFF
    if function.header in ROM:
        yield ROM[function.header], 0xFFFFF800


def _bars(function: Function, masks: dict[int, int]) -> Iterator[Bar]:
    """The type of a BAR is in its register as it was before: of one below 16 bytes the answer has size bits there."""
    index = 0
    while index < BARS.get(function.header, 0):
        offset = BAR0 + 4 * index
        mask = masks[offset]
        if mask == 0:
            index += 1
            continue
        kind = function.number(offset, 4)
        if kind & 1:
            yield Bar(index, "io", False, (-(mask & 0xFFFC)) & 0xFFFF or 0x10000)
            index += 1
        elif kind & 0x6 == 0x4:
            wide = masks.get(offset + 4, 0) << 32 | mask & ~0xF
            yield Bar(index, "mem64", bool(kind & 8), -wide & 0xFFFFFFFFFFFFFFFF)
            index += 2
        else:
            yield Bar(index, "mem32", bool(kind & 8), -(mask & ~0xF) & 0xFFFFFFFF)
            index += 1


def _rom(function: Function, masks: dict[int, int]) -> Rom | None:
    mask = masks.get(ROM.get(function.header, -1), 0) & 0xFFFFF800
    return Rom(-mask & 0xFFFFFFFF, "") if mask else None


def with_roms(qtest: QTest, way: Way, found: Sequence[Found], window: int) -> list[Found]:
    """``found`` with the hash of every option ROM; ``window`` is where the machine has free PCI memory below 4 GiB.

    One ROM after the other is mapped there, with the bridges on the way opened for it, read, and taken away again.
    """
    return [
        one if one.function.rom is None else replace(one, function=_hashed(qtest, way, one, one.function.rom, window))
        for one in found
    ]


def _hashed(qtest: QTest, way: Way, one: Found, rom: Rom, window: int) -> Function:
    base = (window + rom.size - 1) & -rom.size
    top = base + max(rom.size, 0x100000) - 1
    offset = ROM[one.function.header]
    opened: list[str] = []
    closed: list[str] = []
    for bus, devfn in one.bridges:
        opened += way.write(bus, devfn, MEMORY_WINDOW, (top >> 16 & 0xFFF0) << 16 | base >> 16 & 0xFFF0)
        opened += way.write(bus, devfn, COMMAND, 0x2)
        closed += way.write(bus, devfn, COMMAND, 0)
        closed += way.write(bus, devfn, MEMORY_WINDOW, 0xFFF0)  # base above limit: closed, as after reset
    opened += way.write(one.bus, one.devfn, offset, base | 1)
    command = one.function.number(COMMAND, 2)
    opened += way.write(one.bus, one.devfn, COMMAND, command | 0x2)
    closed += way.write(one.bus, one.devfn, COMMAND, command)
    closed += way.write(one.bus, one.devfn, offset, one.function.number(offset, 4))
    qtest.run(opened)
    content = qtest.memory(base, rom.size)
    qtest.run(closed)
    return replace(one.function, rom=Rom(rom.size, hashlib.sha256(content).hexdigest()))


_UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k"))


def size_to_text(size: int) -> str:
    """
    >>> size_to_text(16384)
    '16k'
    >>> size_to_text(32)
    '32'
    """
    return next((f"{size // unit}{name}" for unit, name in _UNITS if size and size % unit == 0), str(size))
