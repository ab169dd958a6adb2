"""A process that must run beside QEMU: swtpm, virtiofsd, or one of mdtool's own that only answers."""

from __future__ import annotations

from pathlib import Path

from mdtool.records import NamedTuple

#: the chardev of the monitor that mdtool gives every QEMU that it starts
MONITOR = "mdtool-qmp"


class Process(NamedTuple):
    """``argv`` starts it; ``ready`` is the socket that it makes once it listens, or None for one that makes none;
    ``folder`` keeps its state, and must be there before it starts."""

    argv: tuple[str, ...]
    ready: Path | None = None
    folder: Path | None = None
