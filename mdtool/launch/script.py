"""``launch --print``: a launch as a script that a shell can run, or as JSON.

    # vnc-password: a file of yours with the secret in it
    [ -e vars.fd ] || cp OVMF_VARS.fd vars.fd
    swtpm socket ... & until [ -S swtpm.sock ]; do sleep 0.1; done
    qemu-system-x86_64 ... -readconfig /dev/stdin 3<vnc-password <<'EOF'

Nothing checks the machine that such a script starts: that is ``mdtool launch``'s, or ``mdtool verify``'s.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mdtool.launch.backends.base import numbered
from mdtool.launch.prepare import Prepared
from mdtool.launch.start import CONFIG
from mdtool.text import one_line

if TYPE_CHECKING:
    from mdtool.launch.argv import Commandline

FIRST_DESCRIPTOR = 3  # of one digit, which is all that a POSIX shell has to know


def script_from_prepared(prepared: Prepared, *, paused: bool = False) -> str:
    """The commands, the file behind them as a here-document; ``paused`` leaves the guest so."""
    handover, line = prepared.handover, prepared.commandline
    numbers = {secret.name: n for n, secret in enumerate(line.secrets if line else (), FIRST_DESCRIPTOR)}
    words = [numbered(word, numbers) for word in prepared.words("/dev/stdin") if word != "-S"]
    words += ["-S"] if paused or handover.additions else []
    given = ""
    if handover.config:
        given = _here(handover.config)
    elif handover.additions:
        words += ["-qmp", "stdio"]
        given = _here("".join(_plugging(prepared, paused=paused)))
    environment = [f"{name}={shlex.quote(value)}" for name, value in (line.environment if line else {}).items()]
    opened = [f"{number}<{shlex.quote(name)}" for name, number in numbers.items()]
    return "\n".join(
        [
            *(f"# {one_line(note)}" for note in handover.notes),
            *(f"# over QMP, when it runs: {json.dumps(command)}" for command in _settings(prepared)),
            *(f"# {one_line(name)}: a file of yours with the secret in it" for name in numbers),
            *(_before(line) if line else ()),
            " ".join([*environment, shlex.join(words), *opened]) + given,
        ]
    )


def _settings(prepared: Prepared) -> list[dict[str, Any]]:
    """What a launch sets in the machine, as QMP has it."""
    settings = prepared.commandline.settings if prepared.commandline else ()
    return [{"execute": command, "arguments": dict(arguments)} for command, arguments in settings]


def _here(text: str) -> str:
    """A here-document that ends where ``text`` does, whatever is in it."""
    mark = "EOF"
    while mark in text.split("\n"):
        mark += "_"
    return f" <<'{mark}'\n{text}{mark}"


def _before(line: Commandline) -> Iterator[str]:
    """What has to be there before QEMU starts."""
    for copy in line.copies:
        source, target = shlex.quote(copy.source), shlex.quote(copy.target)
        yield f"[ -e {target} ] || cp -- {source} {target}"
    for process in line.processes:
        folders = [folder for folder in (process.folder, process.ready.parent if process.ready else None) if folder]
        if folders:
            yield shlex.join(["mkdir", "-p", "--", *map(str, folders)])
        waits = f" until [ -S {shlex.quote(str(process.ready))} ]; do sleep 0.1; done" if process.ready else ""
        yield f"{shlex.join(process.argv)} &{waits}"


def _plugging(prepared: Prepared, *, paused: bool) -> Iterator[str]:
    """QMP for ``-qmp stdio``: the devices one by one, and the reset that QEMU does when it starts with all of them."""
    reboots = "-no-reboot" not in prepared.words()
    commands: list[tuple[str, Mapping[str, Any]]] = [("qmp_capabilities", {})]
    commands += [("device_add", addition) for addition in prepared.handover.additions]
    commands += [] if reboots else [("set-action", {"reboot": "reset"})]
    commands += [("system_reset", {})]
    commands += [] if reboots else [("set-action", {"reboot": "shutdown"})]
    commands += [] if paused else [("cont", {})]
    for command, arguments in commands:
        said = {"execute": command} | ({"arguments": dict(arguments)} if arguments else {})
        yield json.dumps(said) + "\n"


def data_from_prepared(prepared: Prepared) -> Any:
    """What --print --json says: the command line as a list; an object where there is more than a command line.

    A secret is read from the descriptor ``<fd:NAME>``, whose number is filled in by the one who starts QEMU.
    """
    handover = prepared.handover
    settings = _settings(prepared)
    if not handover.config and not handover.additions and not settings:
        return prepared.words()
    data: dict[str, Any] = {"argv": prepared.words(CONFIG)}
    if handover.config:
        data["files"] = {CONFIG: handover.config}
    if handover.additions:
        data["device_add"] = [dict(addition) for addition in handover.additions]
    if settings:
        data["qmp"] = settings
    if handover.notes:
        data["notes"] = list(handover.notes)
    return data
