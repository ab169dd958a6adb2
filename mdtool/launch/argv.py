"""From a description and its guest XML to QEMU's command line.

    commandline = argv_from_tree(guest, tree, wanted)
    commandline.argv          every word, for ``--via device``
    commandline.platform      the parts, for the ways that hand something over otherwise: machine, CPU, memory, ...
    commandline.backends      the host side: -blockdev, -netdev, -chardev, -object, displays
    commandline.devices       one a device, in an order in which a bus exists before what sits on it

Nothing is opened or started: descriptors, processes and files that QEMU needs are named, for ``launch`` to make.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mdtool.commandline.companion import Process
from mdtool.commandline.option import json_from_text
from mdtool.commandline.placeholder.drivers import VHOST_USER, substituted
from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.placeholder.options import note_flash
from mdtool.errors import InputError, MdtoolError, Position, Report, Warn
from mdtool.files import on_path
from mdtool.guest.commandline import groups, option_of, text_of, undescribed
from mdtool.guest.machines import emulator, machines_of
from mdtool.guest.model import QEMU_NS, Guest, Wanted
from mdtool.guest.platform import crash_action, platform_of
from mdtool.guest.platform.firmware import Copy
from mdtool.guest.platform.units import names
from mdtool.guest.xml import Element
from mdtool.launch.backends import NO_DEVICE, backend_of, check_carried, implied_audio
from mdtool.launch.backends.base import Backend, Host, Secret, numbered
from mdtool.launch.backends.process import process_options
from mdtool.launch.context import TO_SHOW, LaunchContext
from mdtool.launch.rehearse_backends import implied_silence, rehearsed, rehearsed_option, served, substitutes
from mdtool.machine.buses.arguments import device_arguments
from mdtool.machine.buses.providers import TYPES
from mdtool.machine.tree import BUILTIN, MANUAL, Place, Tree
from mdtool.machine.values import natural
from mdtool.records import dataclass, field
from mdtool.text import quoted

HOST_RULES = frozenset({"host-side", "kvm", "firmware", "missing"})
FIRST_DESCRIPTOR = 64  # below are the standard streams and what mdtool itself has open
OLDEST = (7, 2)  # the QEMU whose words all later ones still understand


@dataclass(frozen=True, slots=True)
class DeviceOption:
    """One -device: its node's ``name`` in the description, the arguments for QEMU, and where the XML asks for it."""

    name: str
    arguments: Mapping[str, Any]
    position: Position | None = None

    @property
    def words(self) -> tuple[str, str]:
        return "-device", json.dumps(self.arguments)


@dataclass(frozen=True)
class Commandline:
    """A QEMU command line in parts, and what must be there when QEMU starts.

    ``extra``        words of <qemu:commandline>, after everything else
    ``positions``    id of a device or of a backend -> where the guest XML asks for it
    ``secrets``      what QEMU reads from descriptors; their numbers are ``descriptors``
    ``processes``    what must run beside QEMU
    ``copies``       files to make where they are not there yet
    ``environment``  variables for QEMU
    ``substitutes``  in a rehearsal: device id -> the driver that takes the place of the described one
    ``left_out``     in a rehearsal: sections that cannot be as described, each with its reason
    ``refused``      only without ``runtime``: what a launch would end with
    ``settings``     QMP commands that follow when the devices are there, as libvirt gives them
    ``spawns``       whether QEMU itself starts a program, which a sandbox must allow
    ``warnings``     what of the XML only libvirt carries out, and the guest runs without
    """

    binary: str
    platform: tuple[str, ...]
    backends: tuple[str, ...]
    devices: tuple[DeviceOption, ...]
    extra: tuple[str, ...] = ()
    positions: Mapping[str, Position] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    processes: tuple[Process, ...] = ()
    copies: tuple[Copy, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    substitutes: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[MdtoolError, ...] = ()
    settings: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    spawns: bool = False
    warnings: tuple[Warn, ...] = ()

    @property
    def argv(self) -> list[str]:
        """Every word, the binary first."""
        devices = [word for device in self.devices for word in device.words]
        return [self.binary, *(self.numbered(word) for word in (*self.platform, *self.backends, *devices, *self.extra))]

    @property
    def descriptors(self) -> dict[int, Secret]:
        """The numbers under which QEMU expects its secrets."""
        return dict(enumerate(self.secrets, start=FIRST_DESCRIPTOR))

    def numbered(self, word: str) -> str:
        """A word with the descriptors' numbers in place of ``<fd:NAME>``."""
        numbers = {secret.name: number for number, secret in self.descriptors.items()}
        return numbered(word, numbers)


def argv_from_tree(guest: Guest, tree: Tree, wanted: Sequence[Wanted], context: LaunchContext = TO_SHOW) -> Commandline:
    """The command line that makes the machine of ``tree`` with the host side of ``guest``.

    ``wanted`` links the XML's elements to the nodes, by origin.

    Raises InputError for what direct launch does not know, and where XML and description disagree.  In a command line
    for showing, what direct launch or this host cannot do is in ``refused``, and the devices are there all the same.
    """
    host = Host(
        guest,
        context.runtime or _runtime(guest, rehearse=context.rehearse),
        _each_once(context.port, guest),
        _version(guest, context.binary, printing=context.printing),
    )
    report = Report()
    nodes = {origin: place for place in tree.places if (origin := place.node.origin) and origin not in (BUILTIN, MANUAL)}
    _of_one_mind(nodes, wanted, report)
    sides = _host_sides(host, nodes, wanted, context, report)
    devices = tuple(_devices(tree, wanted, sides))
    refused = _refused(report) if context.printing else ()
    report.done()
    total = sides.total
    platform = platform_of(
        guest,
        tree,
        rehearse=context.rehearse,
        now=context.now,
        properties=total.machine,
        printing=context.printing,
    )
    outside = HostSide(host.runtime, guest.arch) if context.rehearse else None
    extra, environment = _passed_through(guest, wanted, outside)
    return Commandline(
        binary=context.binary or emulator(guest, printing=context.printing),
        platform=(
            *_without(platform.words, {*_ids(total.options), *_ids(extra)}),
            *_display(guest, context.rehearse),
            *_monitor(context.qmp),
            *(("-S",) if context.paused else ()),
        ),
        backends=(*sides.served, *_once(total.options)),
        devices=devices,
        extra=extra,
        positions=sides.positions,
        secrets=tuple({secret.name: secret for secret in total.secrets}.values()),
        processes=(*total.processes, *(outside.processes if outside is not None else ())),
        copies=platform.copies,
        environment={} if context.rehearse else {**_zone(guest), **total.environment, **environment},
        substitutes={name: made.substitute for name, made in sides.by_name.items() if made.substitute is not None},
        left_out=platform.left_out,
        refused=(*refused, *platform.refused),
        settings=(*crash_action(guest), *sides.settings),
        spawns=total.spawns,
        warnings=tuple(report.warnings),
    )


#: properties of the host's side that libvirt sets in the machine, and not on the command line
_SET_LATER = frozenset({"guest-stats-polling-interval"})
_FILES: Mapping[str, Callable[[str], bool]] = {"jsonfile": lambda _: False, "romfile": os.path.isfile}  # and a rehearsal?


@dataclass
class _Sides:
    """The host side of all devices: ``total`` together, ``by_name`` of each node; ``served`` are options of the process."""

    total: Backend
    by_name: dict[str, Backend] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    served: tuple[str, ...] = ()
    settings: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


def _host_sides(
    host: Host, nodes: Mapping[str, Place], wanted: Sequence[Wanted], context: LaunchContext, report: Report
) -> _Sides:
    guest = host.guest
    sides = _Sides((implied_silence if context.rehearse else implied_audio)(host))
    make = rehearsed if context.rehearse else backend_of
    if context.rehearse:
        sides.by_name.update(substitutes(nodes.values(), guest.arch))
    else:
        check_carried(guest, report)
    for element, found in _elements(guest, nodes, wanted):
        with report.step():
            made = make(element, found.node if found is not None else None, host)
            sides.positions.update(dict.fromkeys(_ids(made.options), element.position))
            sides.total += made
            if found is not None:
                sides.by_name[found.name] = made
                sides.positions[found.node.id or found.name] = element.position
    for want in wanted:
        if want.origin in nodes and (properties := want.facts.get("host")):
            name = nodes[want.origin].name
            path, later = f"/machine/peripheral/{nodes[want.origin].node.id or name}", properties.keys() & _SET_LATER
            sides.settings += [("qom-set", {"path": path, "property": key, "value": properties[key]}) for key in later]
            gone = later | {key for key in _FILES if context.rehearse and not _FILES[key](str(properties.get(key)))}
            properties = {key: value for key, value in properties.items() if key not in gone}
            if context.rehearse and want.kind == "commandline" and nodes[want.origin].node.driver in VHOST_USER:
                sides.total += served("vhost-user", f"chr-{name}", name, host)
                properties["chardev"] = f"chr-{name}"
            sides.by_name[name] = Backend(properties=properties) + sides.by_name.get(name, Backend())
        if want.kind == "commandline" and want.position is not None:
            sides.positions[want.id or want.origin] = want.position
    with report.step():
        sides.served = process_options(guest, host.version, rehearse=context.rehearse)
    return sides


def _devices(tree: Tree, wanted: Sequence[Wanted], sides: _Sides) -> Iterator[DeviceOption]:
    for place in ordered(tree, [want.origin for want in wanted if want.kind == "commandline"]):
        node, made = place.node, sides.by_name.get(place.name, Backend())
        arguments = {**device_arguments(place.bus.name if place.bus else None, node, place.parent), **made.properties}
        if made.substitute is not None:
            arguments, behind = substituted(made.substitute, arguments, f"behind-{place.name}")
            sides.total += Backend(tuple(word for made in behind for word in made.words))
        yield DeviceOption(place.name, arguments, sides.positions.get(node.id or place.name, node.position))


# --- what belongs together -------------------------------------------------------------------------------------------


def _elements(guest: Guest, nodes: Mapping[str, Place], wanted: Sequence[Wanted]) -> Iterator[tuple[Element, Place | None]]:
    """Every device element with each of its places, in the XML's order; with None where it has none."""
    stands: dict[int, list[Wanted]] = {}
    for want in wanted:
        if want.element is not None:
            stands.setdefault(id(want.element), []).append(want)
    parts: dict[str, list[Wanted]] = {}
    for want in wanted:  # the codecs of a sound card, written or implied: their host side is the card's
        if "of" in want.facts:
            parts.setdefault(want.facts["of"], []).append(want)
    for element in guest.devices:
        if element.tag in NO_DEVICE or _is_copy(element, guest):
            continue
        wants = stands.get(id(element), [])
        wants = [*wants, *(part for want in wants for part in parts.get(want.origin, ()))]
        found = [nodes[want.origin] for want in wants if want.origin in nodes]
        if not found:
            yield element, None
        for place in found:
            yield element, place


def _is_copy(element: Element, guest: Guest) -> bool:
    """libvirt lists the first serial port once more as a <console>."""
    if element.tag != "console" or (element.get("target/@type") or "serial") != "serial":
        return False
    return any(device.tag == "serial" for device in guest.devices)


def _of_one_mind(nodes: Mapping[str, Place], wanted: Sequence[Wanted], report: Report) -> None:
    asked = {want.origin for want in wanted}
    unlike = [
        (f"{want.origin}: the guest XML asks for it, and the description does not have it", want.position)
        for want in wanted
        if want.driver and want.origin not in nodes
    ]
    unlike += [
        (
            f"{place.name}: the description has it for {origin}, and the guest XML no longer asks for that",
            place.node.position,
        )
        for origin, place in nodes.items()
        if origin not in asked
    ]
    for what, at in unlike:
        report.error(
            InputError(what, at=at, remedy="bring the description up to date with mdtool reconcile", rule="reconciled")
        )


def _refused(report: Report) -> tuple[MdtoolError, ...]:
    """Takes out of ``report`` what only the host side is to blame for."""
    found = tuple(error for error in report.errors if error.rule in HOST_RULES)
    report.errors = [error for error in report.errors if error.rule not in HOST_RULES]
    return found


#: options that define something without an id: QEMU's words about it name the option
UNNAMED = frozenset({"-vnc", "-spice", "-display"})


def _ids(words: Iterable[str]) -> Iterator[str]:
    """The ids that options define, and the options that define something without."""
    for word in words:
        if word.startswith("{"):
            with suppress(ValueError, RecursionError, AttributeError):  # a text that begins so, and is no option
                yield from [text for key, text in json_from_text(word).items() if key in ("id", "node-name")]
        elif word in UNNAMED:
            yield word
        else:
            yield from re.findall(r"(?:^|,)id=([^,]+)", word)


def _without(words: Sequence[str], ids: Container[str]) -> Iterator[str]:
    """The words without the objects of ``ids``: of the memory behind a device, its element or argument knows more."""
    left = iter(words)
    for word in left:
        group = (word, next(left)) if word == "-object" else (word,)
        if not any(id in ids for id in _ids(group[1:])):
            yield from group


def _once(words: Sequence[str]) -> Iterator[str]:
    """Options in pairs, an identical one only once: disks share a throttle group."""
    seen = set()
    for pair in zip(words[::2], words[1::2], strict=True):
        if pair not in seen:
            seen.add(pair)
            yield from pair


# --- the order of devices ------------------------------------------------------------------------------------------

#: libvirt's order of its command line, by the first part of an origin; what is not here comes last
_ORDER = names(
    "iommu memory controller hub disk filesystem interface smartcard serial parallel channel console "
    "shmem tpm input video sound watchdog redirdev hostdev memballoon rng nvram panic vsock crypto pstore"
)
#: what makes a bus of its own name through a host bridge, which is the machine's own
EXPANDERS = frozenset({"pxb", "pxb-pcie", "pxb-cxl"})
#: properties that name a bus or a device that must be there before: of a USB companion, of an IOMMU, of an NVMe controller,
#: of a device of <qemu:commandline> without an address
_NAME_A_BUS = ("masterbus", "primary-bus", "bus", "subsys", "endpoint", "bmc")
#: an amd-iommu makes a PCI function of its own in the first slot that is free: after what has a place, and before the
#: host's devices, which look for it
_LATE = {"amd-iommu": 1, "vfio-pci": 2, "vfio-pci-nohotplug": 2}


def ordered(tree: Tree, written: Sequence[str] = ()) -> list[Place]:
    """The devices to create, a bus before what sits on it, otherwise in libvirt's order.

    The order shows in the migration stream where a device has no address of its own (two ISA serial ports), so it
    depends on the description alone and not on the order of the XML's elements; but for the devices of
    <qemu:commandline>, whose origins are ``written``: those are created in the order in which they stand.
    """
    provides = {bus.name: place for place in tree.places for bus in place.node.buses}
    hosts = {place.node.id or place.node.driver: place for place in tree.places}
    beside = {place.node.properties.get("target"): place for place in tree.places if place.node.driver == "zpci"}
    provides.update({bus.name: hosts[bus.host] for bus in tree.buses if bus.host in hosts})
    provides |= {str(p.node.id): p for p in tree.places if p.node.driver in EXPANDERS}
    provides |= {":".join(p.address): p for p in tree.places if p.node.driver == "usb-hub" and p.address}
    ids = {place.node.id: place for place in tree.places if place.node.id is not None}
    numbers = {origin: number for number, origin in enumerate(written)}
    done: set[str] = set()
    made: list[Place] = []

    def provider_of(bus: str) -> Place | None:
        """What provides a bus: by the bus's name, or by the id in it, for a bus that no description has yet."""
        return provides.get(bus) or provides.get(bus.removesuffix(".0")) or ids.get(bus) or ids.get(bus.rpartition(".")[0])

    def create(place: Place) -> None:
        if place.name in done:
            return
        done.add(place.name)
        hub = ":".join(place.address or ()).rpartition(".")[0]  # of a USB port: 1 of 1.2
        for bus in (place.bus.name if place.bus else None, hub, *map(place.node.properties.get, _NAME_A_BUS)):
            if bus and (provider := provider_of(str(bus))) is not None:
                create(provider)
        if place.node.id in beside:
            create(beside[place.node.id])
        if place.node.origin != BUILTIN:
            made.append(place)

    late = _LATE if any(place.node.driver == "amd-iommu" for place in tree.places) else {}
    for place in sorted(
        tree.places, key=lambda p: (late.get(p.node.driver, 0), numbers.get(p.node.origin or "", -1), _rank(p))
    ):
        create(place)
    return made


def _rank(place: Place) -> tuple[Any, ...]:
    kind, _, rest = (place.node.origin or "~").partition("/")
    inner = rest.partition("/")[0]
    master = str(place.node.properties.get("masterbus", "")).partition(".")[0]  # a companion follows its controller
    return (
        _ORDER.index(kind) if kind in _ORDER else len(_ORDER),
        TYPES.index(inner) if kind == "controller" and inner in TYPES else len(TYPES),
        natural(place.node.id or master),
        natural(place.name),
    )


# --- the rest ------------------------------------------------------------------------------------------------------


def _zone(guest: Guest) -> dict[str, str]:
    """The time zone of <clock offset='timezone'>, which QEMU's local time follows."""
    zone = guest.domain.get("clock/@timezone")
    return {"TZ": zone} if zone and guest.domain.get("clock/@offset") == "timezone" else {}


def _display(guest: Guest, rehearse: bool) -> tuple[str, ...]:
    """No window unless a <graphics> opens one."""
    opens = {device.get("@type") for device in guest.devices if device.tag == "graphics"}
    return () if not rehearse and opens & {"sdl", "dbus", "egl-headless"} else ("-display", "none")


def _monitor(path: str | None) -> tuple[str, ...]:
    if path is None:
        return ()
    socket = f"socket,id=charmonitor,path={path.replace(',', ',,')},server=on,wait=off"
    return "-chardev", socket, "-mon", "chardev=charmonitor,id=monitor,mode=control"


def _version(guest: Guest, binary: str | None, *, printing: bool) -> tuple[int, ...]:
    """The version of the QEMU that is to run; the oldest that matters where it need not be there, or is not."""
    path = on_path(binary or emulator(guest, printing=printing))
    if path is None:  # its start says so
        return OLDEST
    try:
        found = machines_of(path).version
    except MdtoolError:
        if printing:
            return OLDEST
        raise
    return tuple(int(part) for part in found.split(".")[:2])


def _each_once(port: Callable[[int], int], guest: Guest) -> Callable[[int], int]:
    """``port``, which never gives the same one twice, nor one that the XML gives to another display."""
    taken = {device.get(f"@{name}") for device in guest.devices for name in ("port", "tlsPort", "websocket")}

    def next_port(start: int) -> int:
        while str(start := port(start)) in taken:
            start += 1
        taken.add(str(start))
        return start

    return next_port


def _runtime(guest: Guest, *, rehearse: bool) -> Path:
    if rehearse:
        from tempfile import gettempdir

        return Path(gettempdir())
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run") / "mdtool" / guest.name.replace("/", "_")


def _children(element: Element, name: str) -> list[Element]:
    """Children in QEMU's namespace, whose name has slashes that a path would stumble over."""
    return [child for child in element if child.tag == QEMU_NS + name]


def _passed_through(
    guest: Guest, wanted: Sequence[Wanted], outside: HostSide | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Words and variables of <qemu:commandline>; what the description carries is there already.

    With ``outside``, which takes their host side, they are those of a rehearsal.
    """
    taken = {id(want.element) for want in wanted if want.element is not None}
    holder = next(iter(_children(guest.domain, "commandline")), None)
    if holder is None:
        return (), {}
    environment = dict(map(_variable, _children(holder, "env")))
    words: list[str] = []
    if outside is not None:
        note_flash(filter(None, map(option_of, groups(guest))), outside)
    for group in groups(guest):
        made = option_of(group)
        left = undescribed(made) if made is not None else None
        if not any(id(argument) in taken for argument in group) and (made is None or left is not None):
            said = list(left.words) if left is not None else [text_of(argument) for argument in group]
            words += rehearsed_option(said, outside) if outside is not None else said
    return tuple(words), {} if outside is not None else environment


def _variable(env: Element) -> tuple[str, str]:
    """A variable of <qemu:env>, by libvirt's rules; a shell takes no other name for one."""
    name = env.get("@name") or ""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        what = f"<qemu:env>: {quoted(name)} is not a valid variable name"
        raise InputError(what, at=env.position, expected="letters, digits and _", rule="environment")
    return name, env.get("@value") or ""
