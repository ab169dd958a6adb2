"""A QEMU command line from a file, started with nothing of the host behind it: to dump what it would make.

Devices stay as they are; every back end becomes a placeholder, and what is only for the host (monitors, displays,
daemons) goes: the table is ``commandline.placeholder``.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option, words_from_options
from mdtool.commandline.placeholder.drivers import KEPT, substitute_of
from mdtool.commandline.placeholder.hostside import HostSide, in_folder
from mdtool.commandline.placeholder.options import without_host
from mdtool.commandline.process import sha256_of
from mdtool.commandline.resolved import options_from_command
from mdtool.commandline.script import Command, command_from_data
from mdtool.commandline.sections import sections_from_commandline
from mdtool.errors import InputError, MdtoolError, Report, Warned
from mdtool.guest.machines import version_of
from mdtool.machine.document import tree_with
from mdtool.machine.machines import target_of_binary
from mdtool.machine.roles import REMEDY, credentials, role
from mdtool.machine.tree import SOURCES, Tree
from mdtool.qemu.arguments import with_sections
from mdtool.qemu.dump import dump
from mdtool.qemu.process import QemuProcess
from mdtool.qemu.read import Method
from mdtool.records import replace

#: what a report of ``options_from_command`` says that a dump does not need to say: it carries nothing over
_OF_IMPORT = frozenset({"option-lost", "secret"})


def binary_of(command: Command, report: Report) -> str:
    """The QEMU to ask: the script's own, or where this host has no such program, the one of that name's machine."""
    text = command.words[0].text
    found = shutil.which(text)
    if found is not None or (text.startswith("/") and os.path.exists(text)):
        return os.path.realpath(found or text) if os.path.basename(text) in ("kvm", "qemu", "qemu-kvm") else text
    base = os.path.basename(text)
    other = shutil.which(base if base.startswith("qemu-system") else f"qemu-system-{os.uname().machine}")
    if other is None:
        return text
    what = f"{text} is not on this host; {other} was asked in its place"
    report.warn(what, at=command.words[0].position, rule="emulator")
    return other


@contextmanager
def naming(command: Command) -> Iterator[None]:
    """A QEMU that is not there is missing where the command line names it."""
    try:
        yield
    except MdtoolError as error:
        if error.rule == "qemu-missing" and error.at is None:
            error.at = command.words[0].position
        raise


def arch_of(binary: str) -> str:
    """The architecture that a QEMU of this name has; this machine's where the name does not say."""
    return target_of_binary(binary) or os.uname().machine


def command_from_text(data: bytes, file: str, report: Report) -> Command:
    """The command line of a script or of a text with nothing else.  Raises InputError with line and column."""
    try:
        expected = "a description, guest XML or a QEMU command line"
        return command_from_data(data, file, report, other="a machine", expected=expected)
    except InputError as error:
        if error.rule != "script-qemu":
            raise
        raise InputError(
            "neither a description nor guest XML nor a QEMU command line",
            at=error.at,
            expected="mdtool: machine/1, <domain ...> or qemu-system-...",
            rule="source",
        ) from None


def _with_ids(options: Sequence[Option], arch: str) -> tuple[list[Option], dict[str, Option]]:
    """The options with an id for each device whose place another one keeps, and by its id what that is."""
    found: list[Option] = []
    behind: dict[str, Option] = {}
    for option in options:
        bag = option.bag if option.name == "device" else {}
        if substitute_of(str(bag.get("driver")), bag, arch):
            id = str(bag.get("id", f"placeholder{len(behind)}"))
            behind[id] = option
            option = option.with_bag({**bag, "id": id})
        found.append(option)
    return found, behind


def _as_given(tree: Tree, behind: Mapping[str, Option]) -> Tree:
    """The tree with the devices that were replaced; what QEMU would make of them is unknown."""
    changes: dict[str, dict[str, Any]] = {}
    for id, option in behind.items():
        bag = option.bag
        driver = str(bag["driver"])
        said = {key: value for key, value in bag.items() if key not in (*KEPT, "driver") and role(driver, key) == "guest"}
        nothing: dict[str, Any] = {"pins": {}, "effective": {}, "pci": {}}
        changes[id] = {"driver": driver, "id": bag.get("id"), "properties": said, **nothing}
    return tree_with(tree, {id: change for id, change in changes.items() if id in tree.by_name})


def dumped_commandline(
    path: str,
    data: bytes,
    *,
    way: Method | None = None,
    warn: Warned = lambda _: None,
    binary: Callable[[str], str | None] = lambda _: None,
) -> Tree:
    """The machine that the QEMU command line of ``path`` makes, with what only the options say.

    ``binary`` takes the program's name and may name another one.
    """
    report = Report()
    command = command_from_text(data, path, report)
    given = options_from_command(command, report)
    program = binary(command.words[0].text) or binary_of(command, report)
    for warning in report.warnings:
        if warning.rule not in _OF_IMPORT:
            warn(f"{warning.at}: {warning.what}" if warning.at else warning.what)
    options, behind = _with_ids(given, arch_of(program))
    folder = command.folder or os.getcwd()
    with tempfile.TemporaryDirectory(prefix="mdtool-") as runtime, naming(command):
        host = HostSide(Path(runtime), arch_of(program), in_folder(folder), lambda: version_of(program))
        words = [program, *words_from_options(without_host(options, host))]
        with QemuProcess(words, death_signal=signal.SIGKILL, helpers=tuple(host.processes)) as qemu:
            tree = dump(qemu.session, way=way, warn=warn)
    sections = sections_from_commandline(given, lambda file: sha256_of(None, os.path.join(folder, file)))
    found = replace(with_sections(_as_given(tree, behind), sections), source=SOURCES)
    for _, _, what in credentials(found):
        warn(f"{path}: {what}; {REMEDY}")
    return found
