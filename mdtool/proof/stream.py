"""The migration stream as a proof: QEMU itself says whether one machine's state loads into another.

Both machines stand still after reset, so that this says what a guest's first instruction would find.  A guest that has run
may send more (sections for what its drivers switched on); where the empty machine is refused, a running one is too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mdtool.errors import QemuError
from mdtool.proof.migration import wait_until
from mdtool.proof.probe import probed
from mdtool.records import dataclass


@dataclass(frozen=True, slots=True)
class Loaded:
    """Whether a state loads; ``said`` is QEMU's reason if it does not, "" if it does."""

    ok: bool
    said: str = ""

    def __str__(self) -> str:
        return "loads" if self.ok else f"does not load: {self.said}"


@dataclass(frozen=True, slots=True)
class MachineCommand:
    """A command line and the root folder of its QEMU (None for this system's)."""

    argv: Sequence[str]
    root: str | Path | None = None


def loads(source: MachineCommand, target: MachineCommand) -> Loaded:
    """Save ``source`` after reset and load it into ``target``.  Raises QemuError where ``source`` does not start."""
    with tempfile.TemporaryDirectory(prefix="mdtool-") as folder:
        state = Path(folder) / "state"
        with probed(source.argv, root=source.root) as probe:
            try:
                probe.session.execute("migrate", {"uri": f"exec:cat > '{state}'"})
                wait_until(probe.session, "query-migrate", "completed")
            except QemuError as error:  # a device that cannot migrate at all
                return Loaded(False, _words(error))
        try:
            with probed(target.argv, root=target.root, more=["-incoming", "defer"]) as probe:
                probe.session.execute("migrate-incoming", {"uri": f"exec:cat '{state}'"})
                wait_until(probe.session, "query-migrate", "completed")
        except QemuError as error:
            return Loaded(False, _words(error))
    return Loaded(True)


def _words(error: QemuError) -> str:
    return error.what.removeprefix("QEMU does not start: ").removeprefix("QEMU refused migrate: ")
