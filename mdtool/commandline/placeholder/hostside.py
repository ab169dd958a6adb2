"""The host side of a command line: what the placeholders took the place of, by the names that devices give it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mdtool.commandline.companion import Process
from mdtool.commandline.option import Option
from mdtool.commandline.placeholder.backends import companion
from mdtool.records import dataclass, field


@dataclass(frozen=True)
class OptionBag:
    """A back end, or a device, as the command line has it."""

    option: Option
    bag: Mapping[str, Any]


def file_here(path: str) -> str | None:
    """A file of this host by its name; None if there is none."""
    return os.path.abspath(path) if os.path.isfile(path) else None


def in_folder(folder: str | None) -> Callable[[str], str | None]:
    """Files of a script that stands in, or goes to, a folder."""
    return lambda path: file_here(os.path.join(folder or "", path))


@dataclass
class HostSide:
    """``runtime`` is an empty folder for sockets and files of the placeholders; ``file`` finds what the command line
    calls by a name, None where it is not to be read; ``version`` asks for that of the QEMU, as (7, 2, 22).

    ``flash``          the firmware's banks, by unit, or by the block node that the machine names
    ``bare_flash``     whether the machine has no property that names a bank, as libvirt has for its <loader>
    ``devices``        each -device with its keys
    ``kept``           options that stay in <qemu:commandline> as they are
    ``processes``      what must run beside QEMU
    ``substituted``    place in ``devices`` -> the driver that the command line names there
    """

    runtime: Path
    arch: str = ""
    file: Callable[[str], str | None] = file_here
    version: Callable[[], tuple[int, ...]] = lambda: ()
    drives: dict[str, OptionBag] = field(default_factory=dict)
    nets: dict[str, OptionBag] = field(default_factory=dict)
    chars: dict[str, OptionBag] = field(default_factory=dict)
    objects: dict[str, OptionBag] = field(default_factory=dict)
    folders: dict[str, OptionBag] = field(default_factory=dict)
    tpms: dict[str, OptionBag] = field(default_factory=dict)
    audios: dict[str, OptionBag] = field(default_factory=dict)
    flash: dict[str, OptionBag] = field(default_factory=dict)
    devices: list[OptionBag] = field(default_factory=list)
    kept: list[Option] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    substituted: dict[int, str] = field(default_factory=dict)
    bare_flash: bool = False
    snapshot: bool = False
    has_spice: bool = False
    watchdog: str = "reset"

    def served(self, kind: str, id: str) -> Option:
        """A chardev to a process of mdtool's own that answers and does nothing."""
        made, process = companion(kind, id, self.runtime / f"{id}.socket")
        self.processes.append(process)
        return made
