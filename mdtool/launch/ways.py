"""The ways in which a described machine reaches QEMU (``--via``): one row a way, with what it can do.

Choices on the command line, the launch itself, the tests and the benchmarks come from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from mdtool.errors import InputError
from mdtool.records import NamedTuple

if TYPE_CHECKING:
    from mdtool.commandline.option import Option
    from mdtool.launch.device import Handover

Version = tuple[int, ...]
#: (options of the command line, what answers with QEMU's version) -> how each option reaches QEMU
Make: TypeAlias = "Callable[[Sequence[Option], Callable[[], Version]], Handover]"


# The modules are imported when a way is taken: the table itself is asked by every --help.


def _file(found: Sequence[Option], _version: Callable[[], Version]) -> Handover:
    from mdtool.launch import file

    return file.handover(found)


def _device(found: Sequence[Option], _version: Callable[[], Version]) -> Handover:
    from mdtool.launch import device

    return device.handover(found)


def _monitor(found: Sequence[Option], _version: Callable[[], Version]) -> Handover:
    return _plugged(found, ())


def _plugged(found: Sequence[Option], refused: Iterable[tuple[str, str]]) -> Handover:
    from mdtool.launch import monitor

    return monitor.handover(found, refused)


def _options(found: Sequence[Option], version: Callable[[], Version]) -> Handover:
    from mdtool.launch import options

    return options.handover(found, version())


class Way(NamedTuple):
    """A row of the table.

    ``how``        in a few words, for the documentation
    ``solution``   its number in the proposal of 2009; None where it has none there
    ``handover``   how the options of a command line reach QEMU; None where no command line of mdtool's does
    ``refused``    for ``device_add`` that QEMU refuses: the handover without the refused (id, reason); None where
                   nothing is plugged
    ``hints``      the addresses come from a hints file and not from a description
    ``rehearses``  the machine can be started with nothing of the host behind it
    ``refuses``    options of ``mdtool launch`` that it cannot carry out
    """

    name: str
    how: str
    solution: int | None
    handover: Make | None
    refused: Callable[[Sequence[Option], Iterable[tuple[str, str]]], Handover] | None = None
    hints: bool = False
    rehearses: bool = True
    refuses: tuple[str, ...] = ()

    @property
    def by_libvirt(self) -> bool:
        """Whether libvirt starts QEMU, and not mdtool."""
        return self.handover is None


_ROWS = (
    Way("file", "the description compiled to a file that QEMU reads itself (-readconfig)", 4, _file),
    Way("device", "-device with bus and address", 2, _device),
    Way(
        "monitor",
        "device_add over QMP before the guest runs",
        3,
        _monitor,
        refused=_plugged,
    ),
    Way(
        "options",
        "the options of old that still take addr=",
        1,
        _options,
    ),
    Way("hints", "an opaque file with addresses only, applied over fresh XML", 5, _file, hints=True),
    Way(
        "libvirt",
        "the XML with every address, started through libvirt",
        None,
        None,
        rehearses=False,
        refuses=("qmp", "pidfile", "log", "incoming", "daemonize", "user", "qemu", "qemu_root"),
    ),
)
WAYS: Mapping[str, Way] = {row.name: row for row in _ROWS}
#: those in which mdtool itself starts QEMU from a description
DIRECT = tuple(name for name, way in WAYS.items() if not way.by_libvirt and not way.hints)
DEFAULT = "file"


def chosen(name: str | None, *, hints: bool) -> Way:
    """The way of ``--via``; if not given, the default one.  Raises InputError for an unknown way.

    >>> chosen(None, hints=True).name, chosen("monitor", hints=False).name
    ('hints', 'monitor')
    """
    if name is None:
        return WAYS["hints" if hints else DEFAULT]
    if name not in WAYS:
        what = f"--via {name}: there is no such way"
        raise InputError(what, expected=", ".join(WAYS), rule="via")
    way = WAYS[name]
    if way.hints and not hints:
        raise InputError(f"--via {name} without a hints file", remedy="name it with --hints FILE", rule="hints")
    return way
