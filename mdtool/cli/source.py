"""The options and arguments that say where machines and guest XML come from: the same in every command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdtool.sources import Access

MACHINE = "a description, guest XML, a QEMU command line, -, REV:PATH, a QMP socket, tcp:HOST:PORT, pid:N or libvirt:NAME"
XML = "guest XML (libvirt domain XML): a file, -, REV:PATH or libvirt:NAME"
DESCRIPTION = "a description: a file, -, REV:PATH, or guest XML or libvirt:NAME with one inside"


def connect_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI for libvirt:NAME")


def qemu_arguments(parser: argparse.ArgumentParser) -> None:
    says = "start this QEMU in place of the one that the XML or the command line names"
    parser.add_argument("--qemu", metavar="BINARY", help=says)
    parser.add_argument("--qemu-root", metavar="DIR", help="the folder that this QEMU lives in, as / does (debootstrap)")


def source_arguments(parser: argparse.ArgumentParser) -> None:
    """``--connect``, ``--qemu`` and ``--qemu-root``."""
    connect_argument(parser)
    qemu_arguments(parser)


def access_of(args: argparse.Namespace) -> Access:
    """How the sources of a command are reached, by its options; what a reader warns of goes to stderr."""
    from mdtool.cli.output import say
    from mdtool.sources import Access

    def warn(what: str) -> None:
        say(what if ": warning: " in what else f"warning: {what}")

    connect, qemu, root = (getattr(args, name, None) for name in ("connect", "qemu", "qemu_root"))
    return Access(connect, qemu, root, warn=warn)
