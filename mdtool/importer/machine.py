"""The import: the script's own QEMU, started with nothing of the host behind it and dumped, and the XML beside it.

1. QEMU is started with the script's options, paused, with null back ends (``null``), and read.
2. Each device that the machine does not have by itself gets an element (``elements``); where the XML cannot express
   its host side it stays an option, in <qemu:commandline>; where it has none, it is a manual node of the description.
3. The XML is read back: an element that asks for another device than QEMU has is taken back.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option, text_from_bag
from mdtool.commandline.placeholder.hostside import HostSide, OptionBag, in_folder
from mdtool.commandline.placeholder.options import BACKENDS, without_host
from mdtool.commandline.resolved import options_from_command
from mdtool.commandline.script import Command
from mdtool.errors import MdtoolError, Position, QemuError, Report, Warn
from mdtool.guest.elements.interface import BOARD
from mdtool.guest.elements.sound import CODEC
from mdtool.importer import domain
from mdtool.importer.board import board_of
from mdtool.importer.devices import (
    ON_BOARD,
    ImportedDevice,
    add_links,
    buses_below,
    fits,
    in_order,
    is_hosts_key,
    name_device,
    name_hubs,
    names_of_drives,
    properties_of,
    typed,
)
from mdtool.importer.elements import ROWS, with_codec
from mdtool.importer.guestxml import GuestText
from mdtool.importer.markup import Keys, NoWords
from mdtool.importer.readback import linked_tree, moved, others_of, settled, warn_of_subchannels
from mdtool.importer.row import DeviceView, Writer
from mdtool.launch.device import handover
from mdtool.launch.prepare import Prepared
from mdtool.launch.rehearse import rehearsal
from mdtool.machine.document import tree_with
from mdtool.machine.roles import REMEDY, credentials, role
from mdtool.machine.sizes import bytes_of
from mdtool.machine.tree import Node, Tree
from mdtool.machine.values import number
from mdtool.qemu.commandline import naming
from mdtool.qemu.dump import tree_from_raw
from mdtool.qemu.read import read
from mdtool.qemu.replies import FOLDED, Raw, RawBus, RawDevice, placed
from mdtool.reconcile import reconcile
from mdtool.records import dataclass, replace

_ROUNDS = 6  # in each of them some devices lose their elements, and what sits on them in the next
_TAKEN_APART = frozenset({"driver", "id", "bus", "addr"})


@dataclass(frozen=True)
class Imported:
    """What an import makes: the text of a guest XML, the description, and what was not carried over."""

    xml: str
    tree: Tree
    warnings: tuple[Warn, ...] = ()


def imported(command: Command, name: str, report: Report | None = None) -> Imported:
    """The guest of a command line; raises InputError, and QemuError where QEMU itself refuses the options."""
    report = report if report is not None else Report()
    given = options_from_command(command, report)
    with tempfile.TemporaryDirectory(prefix="mdtool-import-") as folder, naming(command):
        host = HostSide(Path(folder), file=in_folder(command.folder))
        machine = _Machine(command, given, host, report)
        made = machine.imported(name)
    secrets = Report()
    for _, _, what in credentials(made.tree):
        secrets.warn(what, remedy=REMEDY, rule="credential")
    return replace(made, warnings=(*made.warnings, *secrets.warnings))


class _Machine(GuestText):
    def __init__(self, command: Command, given: Sequence[Option], host: HostSide, report: Report) -> None:
        super().__init__(command, given, host, report)
        #: devices that were named: their paths, ids and the names of their buses before
        self.names: dict[int, tuple[str | None, str, list[tuple[RawBus, str]]]] = {}
        self.buses: dict[str, str] = {}  # names of buses before and after
        self._plugged: list[tuple[RawBus, RawDevice]] = []

    # --- what the machine is ---

    def imported(self, name: str) -> Imported:
        options = without_host(self.given, self.host)
        raw = self._raw(options)
        name_hubs(raw, self.host)
        self._plug(raw)
        warned, found = list(self.report.warnings), list[Imported]()
        for eager in (False, True):  # where the first is another machine, it may be for what QEMU's defaults bring
            before = self.board
            self.board = board_of(self._raw, options, raw, self.scripted, self.host, eager=eager)
            if found and before.shorts == self.board.shorts:
                break
            one, is_same = self._attempt(name, raw)
            if is_same:
                return one
            found.append(one)
            self.report.warnings = list(warned)
        return found[0]

    def _attempt(self, name: str, raw: Raw) -> tuple[Imported, bool]:
        """The import, and whether a rehearsal of it is the same machine."""
        from mdtool.guest.defaults import with_defaults
        from mdtool.guest.devices import guest_from_bytes, wanted_from_guest

        refused: frozenset[int] = frozenset()
        for _ in range(_ROUNDS):
            report = Report(warnings=list(self.report.warnings))
            for option in self.board.shorts:
                what = f"{' '.join(option.words)}: the XML has no words for what the board makes of it, and it stays"
                report.warn(what, at=option.position, rule="import")
            entries, users = self._entries(raw, refused, report)
            tree = domain.with_sections(
                tree_from_raw(replace(raw, users=users)), self.scripted, domain.name_of(self.scripted, name, report)
            )
            tree = _with_registers(self._as_scripted(tree, entries))
            backends = self._backends(entries, report)
            tree = _without_objects(tree, entries, backends)
            xml = self._domain(tree, entries, backends, report)
            guest = guest_from_bytes(xml.encode(), f"{name}.xml")
            wanted = with_defaults(guest, wanted_from_guest(guest, Report()))
            if others := others_of(entries, guest, wanted) - refused:
                refused |= others
                continue
            tree = linked_tree(tree, guest, wanted, entries)
            if not (others := moved(entries, guest, tree) - refused):
                break
            refused |= others
        tree, is_same = settled(guest, tree, report)
        warn_of_subchannels(entries, tree, report)
        with suppress(MdtoolError):  # as a reconcile writes it, so that the next one has nothing to write
            result = reconcile(guest, tree)
            tree = result.tree if not result.plan else tree
        return Imported(xml, tree, tuple(report.warnings)), is_same

    def _raw(self, options: Sequence[Option]) -> Raw:
        from mdtool.launch.argv import Commandline

        line = Commandline(self.binary, (), (), (), processes=tuple(self.host.processes))
        try:
            with rehearsal(Prepared(Tree(), self.binary, tuple(options), handover(options), commandline=line)) as qemu:
                raw = read(qemu.session)
                if self.host.flash:
                    properties = qemu.session.execute("qom-list", {"path": "/machine"})
                    self.host.bare_flash = not any(one["name"] == "pflash0" for one in properties)
                drives = names_of_drives(qemu.session)
                for _, device in placed(raw.buses):
                    add_links(qemu.session, device)
                    if (drive := str(device.properties.get("drive"))) in drives:
                        device.properties["drive"] = drives[drive]
                return raw
        except QemuError as error:
            raise QemuError(error.what, at=self._place(error.what), rule=error.rule) from None

    def _place(self, message: str) -> Position | None:
        """The option that QEMU complains of, by its value, or by the id or the driver that it names."""
        for option in self.given:
            if option.position and option.value and option.value in message:
                return option.position
        for option in self.given:
            if option.position and (
                f"-{option.name}:" in message or (option.name == "machine" and "machine type" in message)
            ):
                return option.position
            bag = option.bag if option.name in ("device", "object", "netdev", "drive", "machine") else {}
            names = [str(bag[key]) for key in ("id", "driver", "qom-type", "type") if key in bag]
            if option.position and any(f"'{name}'" in message or f"{name}:" in message for name in names):
                return option.position
        return None

    # --- its devices ---

    def _entries(self, raw: Raw, refused: frozenset[int], report: Report) -> tuple[list[ImportedDevice], Mapping[str, str]]:
        """What is not the machine's own, each with its element, its option, or neither; and who made what."""
        audios = {id: number for number, id in enumerate(self.host.audios, 1)}
        machine = str(raw.answers["type"]).removesuffix("-machine")
        writer = Writer(self.host, machine, self.absolute, report, audios=audios, rows=ROWS)
        writer.counts |= self._letters_of_cards(raw)
        users = self._unnamed(raw)
        taken = {device.id for _, device in placed(raw.buses)}
        found: list[ImportedDevice] = []
        givens = self._matched(raw)
        inside = {id(bus) for _, device in placed(raw.buses) if device.driver == "usb-storage" for bus in device.buses}
        hands = 0
        loose = RawBus("", "none")
        wordless: set[int] = set()  # buses of what has no element, where nothing else has one either
        for bus, device in [*in_order(raw.buses), *self._plugged, *((loose, one) for one in raw.loose)]:
            if bus.type in FOLDED:
                continue
            if device.path not in users and id(bus) in inside:
                continue
            on_board = (bus.type == "System" or device.driver == "sd-card") and device.path not in users
            inherent = (device.driver, bus.name, device.properties.get("addr")) in self.board.devices
            if device.path not in users and (inherent or on_board) and not self._has_host_side(device):
                continue
            given = givens.get(id(device))
            one = self._one(bus, device, given)
            entry = ImportedDevice(device, given)
            if on_board:
                with suppress(NoWords):
                    found.append(replace(entry, made=writer.made(one), on_board=True))
                continue
            if device.driver in CODEC.choices and found and (card := found[-1]).made is not None:
                with suppress(NoWords):
                    card.made = card.made._replace(xml=with_codec(writer, card.made.xml, one))
                card.parts.append(self._call(device, f"{card.made.id}-codec{len(card.parts)}", taken, users))
                continue
            why = "the XML has no words for it"
            try:
                if id(device) not in refused and id(bus) not in wordless:
                    entry.made = writer.made(one)
            except NoWords as error:
                why = f"the XML has no words for {error}"
            is_hosts = bool(one.keys.left) or any(one.properties.get(name) or one.bag.get(name) for name in BACKENDS)
            if entry.made is not None:
                self._call(device, entry.made.id, taken, users)
            elif device.path in users or is_hosts or given is not None or self._by_default(bus, device):
                name = self._call(device, f"import{hands}", taken, users)
                hands += 1
                if is_hosts:
                    entry.verbatim = self._verbatim(one, name, given)
                wordless |= {id(one) for one in _narrow_buses(device)}
                where = "it stays an option, in <qemu:commandline>" if entry.verbatim else "it stays in the description"
                report.warn(f"{name} ({one.driver}): {why}; {where}", at=entry.at, rule="import")
            else:
                continue
            found.append(entry)
        self._with_masters(raw)
        return found, users

    def _has_host_side(self, device: RawDevice) -> bool:
        """Whether the XML says what is behind a device of the board."""
        is_nic = any(option.name in ("net", "nic") for option in self.board.shorts)
        return device.driver in ON_BOARD and not (is_nic and device.driver in BOARD)

    def _letters_of_cards(self, raw: Raw) -> dict[str, int]:
        """The counter of disks called sd*, behind those of a board's cards: a card's letter is its slot, and no other's."""
        cards = [device for _, device in placed(raw.buses) if device.driver == "sd-card" and device.path is None]
        slots = [len(cards) - 1, *(number(one.bag.get("index")) for one in self.host.drives.values())]
        return {"sd": max(slots)} if cards else {}

    def _with_masters(self, raw: Raw) -> None:
        """A companion of a USB controller names its master's bus."""
        for _, device in placed(raw.buses):
            master = device.properties.get("masterbus")
            device.properties |= {"masterbus": self.buses[master]} if master in self.buses else {}

    def _unnamed(self, raw: Raw) -> dict[str, str]:
        """Who made what, without the names that an earlier round gave: they are assigned again."""
        users = dict(raw.users)
        for _, device in placed(raw.buses):
            if (before := self.names.get(id(device))) is not None:
                if device.path != before[0]:
                    users.pop(str(device.path), None)
                device.path, device.id, names = before
                for provided, name in names:
                    provided.name = name
        return users

    def _by_default(self, bus: RawBus, device: RawDevice) -> bool:
        """Whether QEMU made a device by default, and not as a part of another device."""
        is_own_slot = bus.type in ("PCI", "PCIE") and bus.name in self.board.buses
        return device.driver in _MADE_FOR_OTHERS or (is_own_slot and device.driver not in _PARTS)

    def _call(self, device: RawDevice, id_: str, taken: set[str], users: dict[str, str]) -> str:
        """Give an anonymous device an id, as if the user had; what has one keeps it."""
        self.names.setdefault(id(device), (device.path, device.id, [(bus, bus.name) for bus in buses_below(device)]))
        if not device.id:
            while id_ in taken:
                id_ += "x"
            taken.add(id_)
            self.buses |= name_device(device, id_)
        device.path = device.path or f"/machine/peripheral/{device.id}"
        users[device.path] = device.driver
        return device.id

    def _plug(self, raw: Raw) -> None:
        """DIMMs, which sit on no bus, as devices."""
        bus = RawBus("", "none")
        self._plugged = []
        for answer in raw.answers.get("memory devices") or ():
            data = answer["data"]
            if "slot" not in data:
                continue
            data["id"] = data.get("id") or f"dimm{data['slot']}"
            path = f"/machine/peripheral/{data['id']}"
            properties = {"memdev": data.get("memdev"), "node": data.get("node")}
            driver = raw.users.get(path, {"dimm": "pc-dimm"}.get(answer["type"], answer["type"]))
            self._plugged.append((bus, RawDevice(driver, data["id"], properties, path=path)))

    def _matched(self, raw: Raw) -> dict[int, OptionBag]:
        """Each device's -device: by its id, or for anonymous ones by driver, back end and order."""
        by_id = {str(given.bag["id"]): given for given in self.host.devices if "id" in given.bag}
        anonymous = [given for given in self.host.devices if "id" not in given.bag]
        found: dict[int, OptionBag] = {}
        for device in [*(device for _, device in [*in_order(raw.buses), *self._plugged]), *raw.loose]:
            before = self.names.get(id(device), (device.path, device.id, []))
            if before[1] in by_id:
                found[id(device)] = by_id[before[1]]
                continue
            if before[0] is None or not str(before[0]).startswith("/machine/peripheral-anon"):
                continue
            fitting = (given for given in anonymous if fits(given.bag, device, self.host.arch))
            if (given := next(fitting, None)) is not None:
                found[id(device)] = given
                anonymous.remove(given)
        return found

    def _one(self, bus: RawBus, device: RawDevice, given: OptionBag | None) -> DeviceView:
        properties = properties_of(device)
        bag = given.bag if given is not None else {}
        other = self._stood_in(given)
        driver = other or device.driver
        keys = {key: value for key, value in bag.items() if key not in _TAKEN_APART and is_hosts_key(driver, key, value)}
        if other is not None:
            properties = {**properties, **{key: value for key, value in bag.items() if key not in _TAKEN_APART}}
        return DeviceView(bus, device, driver, properties, Keys(keys), bag)

    def _stood_in(self, given: OptionBag | None) -> str | None:
        """The script's own driver, where another one stands in for it."""
        at = next((at for at, one in enumerate(self.host.devices) if one is given), None)
        return self.host.substituted.get(at) if at is not None else None

    def _verbatim(self, one: DeviceView, id: str, given: OptionBag | None) -> Option:
        """The device as an option with an id; the place is the description's."""
        bag: dict[str, Any] = {"driver": one.driver, "id": id}
        if given is not None:
            rest = {key: value for key, value in given.bag.items() if key not in _TAKEN_APART}
            bag |= {key: typed(value, one.properties.get(key)) if is_hosts_key(one.driver, key, value) else value
                    for key, value in rest.items()}  # fmt: skip
        else:
            names = (name for name in BACKENDS if one.properties.get(name) and name != "audiodev")
            bag |= {name: self._backend(one, name) for name in names}
            bag |= {name: one.properties[name] for name in ("mac", "scsi-id", "lun", "unit") if name in one.properties}
        if (
            one.bus.type not in _PLACED_ELSEWHERE or one.bus.name in self.board.bridged
        ):  # QEMU would take the first bus of the kind
            bag["bus"] = one.bus.name
        plain = all(isinstance(value, str) for value in bag.values())
        return Option("device", text_from_bag(bag, "driver") if plain else json.dumps(bag))

    def _backend(self, one: DeviceView, name: str) -> str:
        found = one.behind(name)
        if name == "drive" and found not in self.host.drives:  # the CD drive that QEMU gives by default, with nothing in it
            empty = Option("drive", text_from_bag({"if": "none", "id": found}))
            self.host.drives[found] = OptionBag(empty, empty.bag)
        if name == "chardev" and found not in self.host.chars:  # behind a port that QEMU gives by default: a screen
            self.host.chars[found] = OptionBag(Option("chardev", f"null,id={found}"), {"backend": "null", "id": found})
        char = self.host.chars.get(found)
        return str(char.bag["name"]) if name == "chardev" and char and char.bag.get("backend") == "chardev" else found

    def _as_scripted(self, tree: Tree, entries: Sequence[ImportedDevice]) -> Tree:
        """What the script chose is a property, and what a substitute took the place of is as the script says it."""
        changes: dict[str, dict[str, Any]] = {}
        for entry in entries:
            if (place := tree.by_name.get(entry.device.id)) is not None:
                if entry.device.driver in _USB_OF_CHIPSETS and entry.given is None:
                    changes |= {
                        name: _without_usb_pin(tree.by_name[name].node) for name in tree.by_name if name.startswith("PIIX")
                    }
                changes[entry.device.id] = self._chosen(place.node, entry)
        return tree_with(tree, changes)

    def _chosen(self, node: Node, entry: ImportedDevice) -> dict[str, Any]:
        """A node with the script's choices, and with what a new start would not come to by itself, as properties."""
        given = entry.given.bag if entry.given is not None else {}
        guests = (key for key in given if key not in _TAKEN_APART and role(node.driver, key) != "state")
        bag = {key: given[key] for key in guests if not is_hosts_key(node.driver, key, given[key])}
        if (driver := self._stood_in(entry.given)) is not None:
            have = properties_of(entry.device)
            bag = {k: typed(v, have.get(k)) for k, v in bag.items()}
            return {"driver": driver, "properties": bag, "pins": {}, "effective": {}, "pci": {}}
        names = {
            *bag,
            "masterbus",
            *(("device_id",) if node.driver.startswith("scsi-") and node.pins.get("device_id") else ()),
        }
        chosen = {key: value for key, value in {**node.pins, **node.effective}.items() if key in names}
        if entry.made is None and entry.verbatim is None:  # a link that QEMU shows nowhere (nvme's subsystem)
            chosen |= {key: value for key, value in bag.items() if key in _LINKS}
        if any(entry.device is device for _, device in self._plugged):  # of which a monitor reports little
            chosen |= {k: bytes_of(v) if k == "label-size" else typed(v, None)
                       for k, v in bag.items() if k not in {**node.pins, **node.properties}}  # fmt: skip
        pins, effective = ({k: v for k, v in values.items() if k not in names} for values in (node.pins, node.effective))
        return {"properties": {**node.properties, **chosen}, "pins": pins, "effective": effective}


def _narrow_buses(device: RawDevice) -> Iterator[RawBus]:
    """Its buses, those behind a virtio proxy too, but for PCI: a device finds its place there by number."""
    for bus in device.buses:
        if bus.type in FOLDED:
            for inner in bus.devices:
                yield from _narrow_buses(inner)
        elif bus.type not in ("PCI", "PCIE"):
            yield bus


def _without_objects(tree: Tree, entries: Sequence[ImportedDevice], backends: Sequence[Option]) -> Tree:
    """The memory behind a device of its own is the device's affair, and the option's or the element's that makes it."""
    elsewhere = {option.id for option in backends if option.name == "object"}
    elsewhere |= {name for entry in entries if entry.made is not None for name in entry.made.used}
    return replace(tree, objects={name: facts for name, facts in tree.objects.items() if name not in elsewhere})


def _with_registers(tree: Tree) -> Tree:
    """On POWER the NVRAM takes the first free register, which was another one while the machine made its own console."""
    found = next((place.node for place in tree.places if place.node.driver == "spapr-nvram" and place.node.address), None)
    if found is None:
        return tree
    globals_ = {**tree.features.get("globals", {}), "spapr-nvram.reg": int(str(found.address), 16)}
    return replace(tree, features={**tree.features, "globals": globals_})


#: properties that name another device, and that QEMU shows nowhere
_LINKS = frozenset({"subsys", "bus", "primary-bus", "endpoint", "bmc"})
#: buses on which the description says where an option's device goes
_PLACED_ELSEWHERE = frozenset({"", "none", "PCI", "PCIE", "System", "ISA", "virtio-bus", "virtual-css-bus"})
_PARTS = frozenset({"AMDVI-PCI"})  # PCI functions that another device brings
#: QEMU plugs a hub where a bus has no port left (unless the device names its port, as from now on), and a floppy controller
#: where a drive is given
_MADE_FOR_OTHERS = frozenset({"usb-hub", "isa-fdc"})
#: USB controllers that -usb makes, and that newer chipsets report as their own
_USB_OF_CHIPSETS = frozenset({"piix3-usb-uhci", "piix4-usb-uhci"})


def _without_usb_pin(node: Node) -> dict[str, Any]:
    return {"pins": {key: value for key, value in node.pins.items() if key != "has-usb"}}
