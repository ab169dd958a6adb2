"""The migration stream as a proof: QEMU itself says whether one machine's state loads into another.

Both machines stand still after reset, so that this says what a guest's first instruction would find.  A guest that has run
may send more (sections for what its drivers switched on); where the empty machine is refused, a running one is too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdtool.errors import MdtoolError, QemuError
from mdtool.proof.probe import probed
from mdtool.qemu.session import Refused, Session

SECONDS = 60.0
POLL = 0.02


@dataclass(frozen=True, slots=True)
class Loaded:
    """Whether a state loads; ``said`` is QEMU's reason where it does not, "" where it does."""

    ok: bool
    said: str = ""

    def __str__(self) -> str:
        return "loads" if self.ok else f"does not load: {self.said}"


@dataclass(frozen=True, slots=True)
class Machine:
    """A command line and the root folder of its QEMU (None for this system's)."""

    argv: Sequence[str]
    root: str | Path | None = None


def loads(source: Machine, target: Machine, *, seconds: float = SECONDS) -> Loaded:
    """Save ``source`` after reset and load it into ``target``.  Raises QemuError where one of them does not start."""
    with tempfile.TemporaryDirectory(prefix="mdtool-") as folder:
        state = Path(folder) / "state"
        with probed(source.argv, root=source.root) as probe:
            try:
                probe.session.execute("migrate", {"uri": f"exec:cat > '{state}'"})
            except Refused as error:  # a device that cannot migrate at all
                return Loaded(False, error.what.removeprefix("QEMU refused migrate: "))
            ended = _ended(probe.session, seconds)
            if ended != "completed":
                return Loaded(False, f"it cannot be saved: {ended}")
        try:
            with probed(target.argv, root=target.root, more=["-incoming", "defer"]) as probe:
                probe.session.execute("migrate-incoming", {"uri": f"exec:cat '{state}'"})
                ended = _ended(probe.session, seconds)
        except QemuError as error:
            return Loaded(False, error.what.removeprefix("QEMU does not start: "))
        return Loaded(ended == "completed", "" if ended == "completed" else ended)


def _ended(session: Session, seconds: float) -> str:
    """``completed``, or why not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = session.execute("query-migrate")
        status = answer.get("status", "none")
        if status in ("completed", "failed", "cancelled"):
            return str(status if status == "completed" else answer.get("error-desc", status))
        time.sleep(POLL)
    raise MdtoolError(f"the state is not through after {seconds:.0f} s", remedy="try again on an idle host")
