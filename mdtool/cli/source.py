"""The options and arguments that say where machines and guest XML come from: the same in every command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mdtool.records import NamedTuple

if TYPE_CHECKING:
    from mdtool.apply.revise import Request
    from mdtool.sources import Access

MACHINE = "a description, guest XML, a QEMU command line, -, REV:PATH, a QMP socket, tcp:HOST:PORT, pid:N or libvirt:NAME"
XML = "guest XML (libvirt domain XML): a file, -, REV:PATH or libvirt:NAME"
ROOT = "the folder that this QEMU lives in, as / does (debootstrap)"
MORE = "further guests: guest XML, each with its description beside it, and folders of both"
DESCRIPTION = "a description: a file, -, REV:PATH, or guest XML or libvirt:NAME with one inside"


EACH, PAIRS, SIDES = "each", "pairs", "sides"
#: for many guests: the guest of libvirt with the name of each description
LIBVIRT = "libvirt:"


class Guests(NamedTuple):
    """How a command's arguments name many guests; its module has one as ``GUESTS``.

    ``kind``        EACH: one argument, as many sources as one likes; a folder stands for the descriptions in and below it.
                    PAIRS: guest XML, description and more; a folder stands for each NAME.xml with the NAME.yaml beside it.
                    SIDES: two; a folder of descriptions, and a second folder, or LIBVIRT; or ``REV:``, git's, and a folder
    ``names``       these arguments
    ``files``       option that names a file -> the suffix of each guest's own, in the folder that it names for many guests
    ``one_by_one``  whether the next guest waits for the last one, and stays as it is where that one failed
    """

    kind: str
    names: tuple[str, ...]
    files: Mapping[str, str] = {}
    one_by_one: bool = False


def words_of(args: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """What arguments say, those with many words and those with one alike."""
    values = [value if isinstance(value, list) else [value] for name in names if (value := getattr(args, name, None))]
    return [word for value in values for word in value]


def names_many(args: argparse.Namespace, guests: Guests) -> bool:
    """Whether the arguments name many guests; where they do not, an argument is the one word that it has."""
    words = words_of(args, guests.names)
    folders = [os.path.isdir(word) for word in words]
    if guests.kind == SIDES:
        return folders[0] or (folders[1] and words[0].endswith(":"))
    if any(folders) or len(words) > (1 if guests.kind == EACH else 2):
        return True
    if guests.kind == PAIRS:
        return len(words) == 2 and all(word.endswith(".xml") for word in words)
    for word in words:
        setattr(args, guests.names[0], word)
    return False


def connect_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI for libvirt:NAME")


def qemu_arguments(parser: argparse.ArgumentParser) -> None:
    says = "start this QEMU in place of the one that the XML or the command line names"
    parser.add_argument("--qemu", metavar="BINARY", help=says)
    parser.add_argument("--qemu-root", metavar="DIR", help=ROOT)


def source_arguments(parser: argparse.ArgumentParser) -> None:
    """``--connect``, ``--qemu`` and ``--qemu-root``."""
    connect_argument(parser)
    qemu_arguments(parser)


def facts_arguments(parser: argparse.ArgumentParser) -> None:
    """``--qemu`` and ``--qemu-root`` of what only asks a QEMU what it has."""
    says = "ask this QEMU for its drivers and properties; auto is the one of the guest's architecture"
    parser.add_argument("--qemu", metavar="BINARY", help=says)
    parser.add_argument("--qemu-root", metavar="DIR", help=ROOT)


def facts_binary(args: argparse.Namespace, arch: str) -> str | None:
    """The binary that these options name for an architecture; None where they name none."""
    if args.qemu is None and args.qemu_root is None:
        return None
    from mdtool.qemu.introspect import binary_of
    from mdtool.qemu.root import program

    name = binary_of(arch) if args.qemu in (None, "auto") else args.qemu
    return name if args.qemu_root is None else program(name, args.qemu_root)


def access_of(args: argparse.Namespace) -> Access:
    """How the sources of a command are reached, by its options; what a reader warns of goes to stderr."""
    from mdtool.cli.output import say
    from mdtool.sources import Access

    def warn(what: str) -> None:
        say(what if ": warning: " in what else f"warning: {what}")

    connect, qemu, root = (getattr(args, name, None) for name in ("connect", "qemu", "qemu_root"))
    return Access(connect, qemu, root, warn=warn)


def request_of(args: argparse.Namespace, *, output: str | None = None) -> Request:
    """What is to be brought up to date, by the options that reconcile and apply share."""
    from mdtool.apply.revise import Request
    from mdtool.reconcile import Options

    return Request(
        guest=args.guest,
        description=args.description,
        output=output,
        write_xml=args.write_xml,
        aliases=getattr(args, "aliases", "kept"),
        machine=args.rebase_machine,
        minimal=getattr(args, "minimal", False),
        options=Options(prefer=args.prefer, forget=args.forget, prune=args.prune, strict=args.strict),
        access=access_of(args),
    )
