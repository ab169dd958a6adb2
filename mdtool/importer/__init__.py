"""``mdtool import``: an existing QEMU command line becomes a guest XML and a description.

    machine     the machine that QEMU makes from the options, read, and the XML beside it
    devices     the devices of that machine: walked, named, matched with the options that made them
    elements    a device as an element: one row a kind; block, flash, net, char, display, host_devices are behind some
    domain      everything outside of <devices>; features is a part of it
    guestxml    the elements in one text
    readback    the XML read back, and the import tried in a rehearsal

The options come from ``commandline``: ``script`` finds the command line in a script, a file or a process, ``placeholder``
makes the options that have nothing of the host behind them.

The machine is not guessed from the options: QEMU itself is started with them, paused, with null back ends, and dumped.  So
every default and every address is there that the script's guest has today.  The XML then gets an element for each device
that it can express, with the host side that the options name.
"""

from __future__ import annotations

from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.placeholder.options import without_host
from mdtool.commandline.resolved import bag_by_grammar, options_from_command
from mdtool.commandline.script import Command, Word, command_from_script, command_from_source
from mdtool.errors import Report
from mdtool.importer.machine import Imported, imported
from mdtool.records import replace


def with_binary(command: Command, binary: str | None) -> Command:
    """The command line with another QEMU; as it is where ``binary`` is None."""
    first, *rest = command.words
    return replace(command, words=(replace(first, text=binary), *rest)) if binary else command


__all__ = [
    "Command",
    "HostSide",
    "Imported",
    "Report",
    "Word",
    "bag_by_grammar",
    "command_from_script",
    "command_from_source",
    "imported",
    "options_from_command",
    "with_binary",
    "without_host",
]
