"""A rehearsal: the described machine, started paused under TCG with nothing of the host behind it.

No disk has to exist, no tap is opened, no port is taken; null disks, unconnected NICs and null chardevs stand behind
the devices.  So a description can be tried on a laptop or in CI, and a guest XML can be dumped that never ran.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.guest.model import Guest
from mdtool.launch.context import LaunchContext
from mdtool.launch.prepare import Prepared, prepared
from mdtool.launch.signals import signals_end_it
from mdtool.launch.start import Say, silent, started
from mdtool.launch.ways import DEFAULT
from mdtool.machine.tree import Tree
from mdtool.qemu.process import START_SECONDS, QemuProcess
from mdtool.qemu.runtime import runtime_base

if TYPE_CHECKING:
    from mdtool.qemu.session import Session  # which is loaded while QEMU starts


@contextmanager
def rehearsed(
    guest: str | Path | Guest, tree: Tree | None = None, *, binary: str | None = None, via: str = "device"
) -> Iterator[Session]:
    """A Session with a rehearsed guest, ended when the block is left.

    ``guest`` is a guest XML or its path; ``tree`` its description, and without one the machine that the XML alone asks
    for.  Raises what reading, reconciling and QEMU raise.

        with rehearsed("web01.xml") as session:
            tree = dump(session)
    """
    with rehearsal(prepared_rehearsal(guest, tree, binary=binary, via=via)) as qemu:
        yield qemu.session


def prepared_rehearsal(
    guest: str | Path | Guest, tree: Tree | None = None, *, binary: str | None = None, via: str = DEFAULT
) -> Prepared:
    """The rehearsal before QEMU exists: its command line, and the tree that QEMU must then be."""
    from mdtool.guest.devices import guest_from_file
    from mdtool.launch.prepare import wanted_by
    from mdtool.reconcile import reconcile

    read = guest if isinstance(guest, Guest) else guest_from_file(guest)
    result = reconcile(read, tree)
    return prepared(
        read, result.tree, wanted_by(read, result.tree), via=via, context=LaunchContext(rehearse=True, binary=binary)
    )


@contextmanager
def rehearsal(
    prepared: Prepared, *, more: Sequence[str] = (), timeout: float = START_SECONDS, say: Say = silent
) -> Iterator[QemuProcess]:
    """Its QEMU.  It has no disks to flush: where mdtool is killed it goes at once."""
    with (
        signals_end_it(),
        tempfile.TemporaryDirectory(prefix="rehearsal-", dir=runtime_base()) as directory,
        started(
            prepared,
            directory=Path(directory),
            more=more,
            death_signal=signal.SIGKILL,
            timeout=timeout,
            say=say,
        ) as qemu,
    ):
        yield qemu
