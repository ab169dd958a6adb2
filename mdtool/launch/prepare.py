"""A launch before QEMU exists: everything that is decided beforehand, from guest XML and description (pure)."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.commandline.option import Option, options_from_words, users, words_from_options
from mdtool.errors import Position, QemuError
from mdtool.guest.machines import version_of
from mdtool.guest.model import Guest, Wanted
from mdtool.launch.context import TO_SHOW, LaunchContext
from mdtool.launch.device import Handover
from mdtool.launch.ways import DEFAULT, WAYS
from mdtool.machine.tree import BUILTIN, MANUAL, Tree
from mdtool.records import dataclass, field, replace

if TYPE_CHECKING:
    from mdtool.launch.argv import Commandline


@dataclass(frozen=True)
class Prepared:
    """A launch before QEMU exists.

    ``tree``       what QEMU must then be
    ``options``    the whole command line as options; ``handover`` says how each of them reaches QEMU, by the way ``via``
    ``positions``  id of a device, or of what stands behind it -> its line of guest XML
    ``substitutes``  in a rehearsal: nodes that another driver stands in for, or that are left out
    ``folder``     QEMU's working folder; None is mdtool's own
    ``is_rehearsal``  whether nothing of the host is behind it
    """

    tree: Tree
    binary: str
    options: tuple[Option, ...]
    handover: Handover
    via: str = DEFAULT
    positions: Mapping[str, Position] = field(default_factory=dict)
    substitutes: frozenset[str] = frozenset()
    commandline: Commandline | None = None
    folder: Path | None = None
    is_rehearsal: bool = False

    def words(self, config: str | Path | None = None) -> list[str]:
        """The command line; ``config`` is where the file for -readconfig is."""
        read = ["-readconfig", str(config)] if self.handover.config and config is not None else []
        return [self.binary, *words_from_options(self.handover.options), *read]


def prepared(
    guest: Guest, tree: Tree, wanted: Sequence[Wanted], *, via: str = DEFAULT, context: LaunchContext = TO_SHOW
) -> Prepared:
    """The launch of a description; touches nothing of the host.  Raises InputError with the XML's lines."""
    from mdtool.launch.argv import argv_from_tree

    line = argv_from_tree(guest, tree, wanted, context)
    devices = [word for made in line.devices for word in made.words]
    found = options_from_words([*line.platform, *line.backends, *devices, *line.extra])
    if context.rehearse:
        found = [_under_tcg(option) for option in found]
    places = {str(made.arguments["id"]): made.position for made in line.devices if "id" in made.arguments}
    places |= dict(line.positions)
    behind = {name: places[user] for name, user in users(found).items() if user in places}
    return Prepared(
        tree=tree,
        binary=line.binary,
        options=tuple(found),
        via=via,
        handover=handed_over(found, via, line.binary),
        positions={name: place for name, place in {**behind, **places}.items() if place is not None},
        substitutes=frozenset({*line.substitutes, *line.left_out, *_as_made(line.substitutes)}),
        commandline=line,
        is_rehearsal=context.rehearse,
    )


def handed_over(found: Sequence[Option], via: str, binary: str) -> Handover:
    """How the options of a command line reach the QEMU ``binary`` by a way in which mdtool itself starts it."""
    make = WAYS[via].handover
    assert make is not None, via
    return make(found, lambda: version_of(binary))


def wanted_by(guest: Guest, tree: Tree) -> list[Wanted]:
    """The devices that the XML asks for, by whose origins a node finds its element and so its host side.

    ``tree`` is what reconcile made of the XML: the ports that it added are wanted too, and no element says so.
    """
    from mdtool.errors import Report
    from mdtool.guest.choices import as_described
    from mdtool.guest.defaults import with_defaults
    from mdtool.guest.devices import wanted_from_guest
    from mdtool.guest.override import overridden

    report = Report()
    guest = as_described(guest, tree)
    ids = {place.node.origin: place.node.id for place in tree.places}
    wanted = with_defaults(guest, wanted_from_guest(guest, report))
    wanted = overridden(guest, [replace(want, id=ids.get(want.origin, want.id)) for want in wanted], report)
    report.done()
    asked = {want.origin for want in wanted}
    return [
        *wanted,
        *(
            Wanted(kind=origin.partition("/")[0], driver=place.node.driver, origin=origin, id=place.node.id)
            for place in tree.places
            if (origin := place.node.origin) not in (None, BUILTIN, MANUAL) and origin not in asked
        ),
    ]


def _as_made(substitutes: Mapping[str, str]) -> Iterator[str]:
    """What the machine calls those that have no id: ``pci-testdev@pcie.0/09.0``."""
    for name, driver in substitutes.items():
        if place := name.partition("@")[2]:
            yield f"{driver}@{place}"


def _under_tcg(option: Option) -> Option:
    """A rehearsal needs no KVM: the machine is the same, and no guest runs in it."""
    return replace(option, value="tcg") if option.name == "accel" else option


def free_port(first: int) -> int:
    """The first free TCP port from ``first`` up."""
    for port in range(first, min(first + 1000, 65536)):
        with socket.socket() as attempt, suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            return port
    raise QemuError(f"no free TCP port from {first} up", remedy="end some guests, or give the guest a port")
