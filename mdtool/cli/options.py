"""Options that several commands have: each has one spelling, one metavar and one sentence, here."""

from __future__ import annotations

import argparse
from typing import Any, Protocol

from mdtool.cli.output import FORMATS


class Adding(Protocol):
    """A parser, or a group of one."""

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action: ...


_FLAG = {"action": "store_true"}
#: option -> the arguments of add_argument that are alike in every command
_COMMON: dict[str, dict[str, Any]] = {
    "--output": {"metavar": "FILE", "help": "write there, whole or not at all; stdout without it"},
    "--json": {**_FLAG, "help": "as JSON on stdout"},
    "--strict": {**_FLAG, "help": "what the XML says and mdtool leaves out is an error"},
    "--yes": {**_FLAG, "help": "do not ask"},
    "--prefer": {"choices": ("xml", "description"), "help": "which one wins where both changed"},
    "--forget": {**_FLAG, "help": "clear the addresses kept for removed devices"},
    "--prune": {**_FLAG, "help": "remove ports and controllers that nothing uses any more"},
    "--write-xml": {
        "metavar": "FILE",
        "help": "write the XML with every address filled in; may be GUEST.xml, or - for stdout",
    },
    "--rebase-machine": {"metavar": "TYPE", "help": "change the machine type, and show what the guest sees otherwise"},
    "--qmp": {"metavar": "PATH", "help": "a monitor socket of your own"},
    "--pidfile": {"metavar": "FILE", "help": "write QEMU's process id here, until the guest ends"},
    "--log": {"metavar": "FILE", "help": "append what QEMU prints to this file"},
    "--daemonize": {**_FLAG, "help": "return once the guest runs"},
    "--paused": {**_FLAG, "help": "leave the guest paused after the comparison"},
}
#: the options of a reconciliation, for reconcile and apply
REVISION = ("--prefer", "--forget", "--prune", "--strict", "--write-xml", "--rebase-machine")
#: where QEMU goes that is started, by launch and apply --restart
LAUNCH = ("--qmp", "--pidfile", "--log", "--daemonize", "--paused")
_SHORT = {"--output": "-o", "--yes": "-y"}


def options(parser: Adding, *names: str, **other: Any) -> None:
    """Common options; ``other`` is what is different about them in this command."""
    for name in names:
        short = [_SHORT[name]] if name in _SHORT else []
        parser.add_argument(*short, name, **{**_COMMON[name], **other})


def via_option(parser: Adding, **other: Any) -> None:
    """``--via``, of the ways that there are."""
    from mdtool.launch.ways import WAYS

    says = "how the machine reaches QEMU (file): the guest cannot tell which"
    parser.add_argument("--via", **{"choices": list(WAYS), "help": says, **other})


def output_arguments(parser: argparse.ArgumentParser, *, defaults: bool = False) -> None:
    """What every command takes, before it, behind it and behind its action: how it says what it says.

    ``defaults``: with the values of what is not given; only the parser of all commands has them, since each parser below
    it would put its own in place of what stands before the command.
    """
    group = parser.add_argument_group("output")

    def add(*names: str, default: Any, **settings: Any) -> None:
        group.add_argument(*names, default=default if defaults else argparse.SUPPRESS, **settings)

    says = "findings and errors for a person, a program or a forge"
    add("--output-format", choices=FORMATS, default="text", help=says)
    add("--color", choices=("auto", "always", "never"), default="auto", help="colour on a terminal (auto)")
    add("--no-pager", action="store_true", default=False, help="do not show long output through $PAGER")
    add("-q", "--quiet", action="store_true", default=False, help="no progress and no notes; warnings and errors stay")
