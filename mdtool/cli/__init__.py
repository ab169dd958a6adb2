"""The command line: a thin file a command, and the one ``except MdtoolError``.

A command's module has ``EXAMPLE`` (shown by --help), ``arguments(parser)`` and ``run(args) -> int``, the exit status as
diff(1): 0 nothing differs or all done, 1 differences or changes planned, 2 an error.  A module is imported only when
its command runs, which keeps ``mdtool --help`` quick.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from mdtool import __version__
from mdtool.cli.options import output_arguments
from mdtool.cli.output import chosen_output, width
from mdtool.errors import InputError, MdtoolError, as_error
from mdtool.files import check_writable, is_standard, pipes_kept

#: command: what --help says of it; the module is ``mdtool.cli.COMMAND`` with - as _ (and ``import_`` for import)
COMMANDS = {
    "dump": "write the machine description of a running QEMU, or of a guest XML",
    "reconcile": "bring a description up to date with an edited guest XML, while survivors keep their places",
    "adopt": "describe all guests of a libvirt host in a folder that is a git repository",
    "status": "say of each guest of a folder whether XML, description, libvirt and what runs are in step",
    "edit": "edit guest XML or a description: checked, with its plan, written and defined in one go",
    "apply": "carry a plan out in a guest: live where it can be, with a power cycle where it must be",
    "launch": "start a guest with exactly the described hardware, checked before it runs",
    "verify": "compare a running machine with its description",
    "fingerprint": "read what a guest sees of its machine, without a guest: PCI, ACPI, SMBIOS, CPUID",
    "audit": "say what a guest will see differently with another QEMU, and what restores it",
    "hints": "keep a guest's addresses, and nothing else, in an opaque file",
    "import": "make a guest XML and a description of a QEMU command line",
    "check": "say what QEMU would refuse in a description, and what would trouble a guest",
    "diff": "say what differs between two machines: files, git revisions, running guests",
    "show": "draw a machine: a tree in the terminal, a picture, a page",
    "embed": "put a description into the guest XML, where it travels with the libvirt domain",
    "extract": "take a description out of a guest XML",
    "merge": "merge two branches' descriptions, node by node",
    "textconv": "show a description as git diff should: a device a line",
    "git-setup": "make git show and merge descriptions by device",
    "schema": "print the JSON Schema that editors use, with one QEMU's drivers and properties",
    "names": "say what a Linux guest will call its NICs and disks, before and after an edit",
    "hook": "what libvirt, KubeVirt, CloudStack and oVirt call when a guest starts: addresses put back, or a start refused",
    "lsp": "the language server that editors start, for descriptions and guest XML",
    "completion": "print completion for bash, zsh or fish, or the manual page",
}
#: commands that only show something and never ask: their output may go through a pager
_SHOWN = "audit check diff dump extract fingerprint names schema show status textconv verify"
PAGED = frozenset(_SHOWN.split())
#: the options that name a file to be replaced, and those of one that QEMU or a launch makes or goes on with
REPLACED = ("output", "write_xml", "html", "svg", "hints_out")
OPENED = ("log", "pidfile", "qmp")


def program() -> NoReturn:
    """``mdtool`` as a process: ``main``, and then its end at once.

    Python takes itself apart object by object when it ends, which is a tenth of the time of a reconcile, for memory that
    the kernel takes back anyway.  Whatever has to be closed or removed was, by the ``with`` that opened it.

    Whatever goes wrong, also in telling of it, the status is 2: Python's own is 1, which means that something differs.
    """
    gc.set_threshold(50_000, 20, 100)  # Python's own, 700, is a tenth of the time of a command: imports leave no garbage
    status = 2
    try:
        _open_what_is_closed()
        try:
            status = main()
        finally:
            with suppress(OSError):  # what an error left unwritten; that stdout cannot be written was reported
                sys.stdout.flush()
    except SystemExit as end:  # argparse
        status = end.code if isinstance(end.code, int) else 2
    except BaseException:
        os.write(2, b"error: mdtool failed, and could not say why [internal]\n")
    finally:
        os._exit(status)


def _open_what_is_closed() -> None:
    """A standard stream that was closed gets a descriptor on which it fails; else the first file opened would be it."""
    for number, name, flags in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            os.open(os.devnull, flags)  # the lowest number that is free
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def main(argv: list[str] | None = None) -> int:
    from mdtool.cli.output import guarded

    with guarded():
        try:
            status = _run(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # the reader of our output went away: not a fault of anyone's
            pass
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            print(as_error(error), file=sys.stderr)
        return 2


def _run(arguments: Sequence[str]) -> int:
    wanted = next((word for word in arguments if word in COMMANDS), "")  # options may stand before it
    args = parser(wanted).parse_args(arguments)
    try:
        with chosen_output(args.color, quiet=args.quiet), _pager(args), pipes_kept():
            return _done(args)
    except MdtoolError as error:
        from mdtool.cli.findings import from_error, write

        write(from_error(error), args.output_format, sys.stderr)
        return 2


def _done(args: argparse.Namespace) -> int:
    """The command's exit status: for one guest, or for all that its arguments name."""
    from mdtool.cli.source import names_many

    status: int
    _check_streams(args)
    if args.guests is not None and names_many(args, args.guests):
        from mdtool.cli import many

        return many.run(args.run, args, many.calls(args, args.guests), args.guests)
    check_writable(*(getattr(args, option, None) for option in REPLACED))  # before what may take long, or a guest runs
    check_writable(*(getattr(args, option, None) for option in OPENED), replaced=False)
    status = args.run(args)
    return status


def _check_streams(args: argparse.Namespace) -> None:
    """Raise InputError where - stands for two sources, or for two results."""
    from mdtool.cli.source import words_of

    sources = vars(args).keys() - {*REPLACED, *OPENED}
    for names, what, rule in (sources, "sources", "standard-input"), (REPLACED, "results", "standard-output"):
        if sum(map(is_standard, words_of(args, names))) > 1:
            raise InputError(f"two {what} are both -", remedy="name a file for one of them", rule=rule)


def _pager(args: argparse.Namespace) -> AbstractContextManager[None]:
    if args.no_pager or not (args.command in PAGED or getattr(args, "dry_run", False)) or not sys.stdout.isatty():
        return nullcontext()
    from mdtool.cli.pager import paged

    return paged()


def module_of(command: str) -> ModuleType:
    return import_module(f"mdtool.cli.{command.replace('-', '_')}{'_' if command == 'import' else ''}")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as it is written; argparse makes one for each argument, and would ask for the terminal's width each time."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=width(80) - 2)


def parser(only: str | None = None, kind: type[ArgumentParser] = ArgumentParser) -> ArgumentParser:
    """The parser of the whole command line; with ``only``, the other commands are names without arguments.

    To make the parsers of all commands takes longer than many a command.
    """

    def command_parser(**options: Any) -> ArgumentParser:
        name = options["prog"].removeprefix("mdtool ")
        if only not in (None, name):
            return made
        module = module_of(name)
        command = kind(**options, epilog=module.EXAMPLE, formatter_class=Formatter)
        module.arguments(command)
        output_arguments(command)
        command.set_defaults(run=module.run, guests=getattr(module, "GUESTS", None))
        return command

    made = kind(
        prog="mdtool",
        description="Machine descriptions for QEMU: keep a guest's hardware in a file, in git, and unchanged.",
        epilog="example: mdtool dump /run/qemu/web01.qmp -o web01.yaml",
        formatter_class=Formatter,
    )
    made.add_argument("--version", action="version", version=f"mdtool {__version__}", help="show the version and exit")
    maker: Any = command_parser  # argparse asks for a class, and calls it
    output_arguments(made, defaults=True)
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=maker)
    for name, says in COMMANDS.items():
        commands.add_parser(name, help=says, description=says[0].upper() + says[1:] + ".")
    return made
