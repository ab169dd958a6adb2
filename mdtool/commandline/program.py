"""Which program a command runs in the end: QEMU itself, or one that runs it, or another one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from mdtool.commandline.shell import ASSIGNMENT
from mdtool.commandline.syntax import Node, ShellWord
from mdtool.records import NamedTuple
from mdtool.text import pattern

QEMU = pattern(r"(.*/)?(qemu-system-[\w-]+|qemu-kvm|kvm|qemu)")
#: programs that run another one -> how many words come before it that are no options
_WRAPPERS = {**dict.fromkeys(("nice", "ionice", "numactl", "cgexec", "systemd-run", "prlimit", "unshare", "stdbuf",
                              "strace", "firejail", "runuser", "su", "setpriv", "xvfb-run", "dbus-run-session", "gdb",
                              "screen"), 0),
             "taskset": 1, "chrt": 1, "timeout": 1, "flock": 1, "ip": 3}  # fmt: skip
#: the same, without a warning
_SILENT = frozenset({"exec", "command", "builtin", "nohup", "setsid", "sudo", "doas", "env", "time"})
#: options of these that take a word
_TAKE = frozenset({"-u", "-g", "-U", "-C", "-h", "-p", "-a"})
SHELLS = frozenset({"sh", "bash", "dash", "su", "script"})
_ASKS = frozenset({"-version", "--version", "-help", "--help", "-h"})
_ASKS_OF = pattern(r"(.*,)?help|\?")
#: commands that take QEMU's program as an argument and never run it
LOOKS = frozenset({"which", "type", "hash", "echo", "printf", "pkill", "pgrep", "killall", "pidof", "grep", "apt",
                    "apt-get", "dnf", "pacman", "kill"})  # fmt: skip
QEMU_NAME = pattern(r"qemu-system-[\w-]+|qemu-kvm")


class Expanded(NamedTuple):
    """A word that a program is given; ``text`` is None if only a run can decide it, ``why``."""

    text: str | None
    word: ShellWord
    why: str


def runs_another(name: str) -> bool:
    """Whether the words of a program of this name are to be looked at."""
    name = name.rpartition("/")[2]
    return name in _WRAPPERS or name in _SILENT or name in SHELLS or QEMU.fullmatch(name) is not None


def asks(words: Sequence[Expanded]) -> bool:
    """Whether QEMU is only asked: for its version, its machines, a device's properties."""
    texts = [one.text or "" for one in words]
    options = pairwise(texts)
    return not _ASKS.isdisjoint(texts) or any(
        name.startswith("-") and name not in ("-name", "-append") and _ASKS_OF.fullmatch(value) for name, value in options
    )


def started(given: Sequence[Expanded]) -> tuple[int | None, list[Expanded], dict[str, str]]:
    """Which word is the QEMU (or the shell) that a command ends in, what runs it, and the variables that ``env`` sets."""
    wrappers: list[Expanded] = []
    settings: dict[str, str] = {}
    wrapper, before, takes = "", 0, False
    for number, one in enumerate(given):
        name = (one.text or "").rpartition("/")[2]
        if takes and not QEMU_NAME.fullmatch(name) and not (one.text or "").startswith("-"):
            takes = False
        elif QEMU.fullmatch(one.text or "") or (name in SHELLS and any(map(is_script, given[number:]))):
            return number, wrappers, settings
        elif name in _WRAPPERS or (name in _SILENT and (number == 0 or name != "exec")):
            wrapper, before, takes = name, _WRAPPERS.get(name, 0), False
            wrappers += [one] if name in _WRAPPERS else []
        elif number == 0:
            return None, [], {}
        elif (one.text or "").startswith("-"):
            takes = one.text in _TAKE or (wrapper in _WRAPPERS and "=" not in (one.text or "") and one.text != "--")
        elif match := ASSIGNMENT.fullmatch(one.text or ""):
            settings[match[1]] = match[4]
        elif before > 0:
            before -= 1
        else:
            return None, [], {}
    return None, [], {}


def is_script(given: Expanded) -> bool:
    """Whether it is the option of a shell that takes its commands."""
    return re.fullmatch(r"-\w*c", given.text or "") is not None


def qemu_in(nodes: Sequence[Node]) -> int | None:
    """Where QEMU is named first in commands and what is inside them."""
    for node in nodes:
        for word in node.words if node.kind == "simple" else ():
            if any(QEMU_NAME.fullmatch(part.text.rpartition("/")[2]) for part in word.parts):
                return word.start
        for body in node.bodies:
            if (at := qemu_in(body)) is not None:
                return at
    return None


def one_machine(ways: Sequence[list[Expanded]]) -> tuple[list[Expanded], str]:
    """One of several command lines that start the same machine, and what not all give QEMU; ([], "") for other ones."""
    starts = [started(way)[0] for way in ways]
    texts = [[one.text or "" for one in way[start:]] for way, start in zip(ways, starts, strict=True)]
    alike = {without_accelerator(words) for words in texts}
    if None in starts or len(alike) != 1:
        return [], ""
    first = max(range(len(ways)), key=lambda at: "kvm" in " ".join(texts[at][1:]))
    kept = next(iter(alike))
    return ways[first], " ".join(word for word in texts[first] if word not in kept and any(word not in it for it in texts))


def without_accelerator(words: Sequence[str]) -> tuple[str, ...]:
    """QEMU's words without what no guest sees: which accelerator it is.

    >>> without_accelerator(["qemu", "-enable-kvm", "-M", "q35,accel=kvm", "-accel", "tcg", "-m", "1G"])
    ('qemu', '-M', 'q35', '-m', '1G')
    """
    found: list[str] = []
    before = ""
    for word in words:
        option = before.lstrip("-") if before.startswith("-") else ""
        if option in ("M", "machine"):
            word = ",".join(part for part in word.split(",") if not part.startswith("accel="))
        if option != "accel" and word.lstrip("-") not in ("accel", "enable-kvm"):
            found.append(word)
        before = word
    return tuple(found)
