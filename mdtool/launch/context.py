"""What a command line is made for: a launch, a rehearsal, or to be shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.records import dataclass

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class LaunchContext:
    """What a command line is made for.

    ``rehearse``  placeholder back ends everywhere
    ``qmp``       the path of a monitor socket that QEMU makes
    ``paused``    whether QEMU waits for ``cont``
    ``binary``    the QEMU in place of the one that the XML names
    ``runtime``   the guest's private folder; without it the command line is for showing, and nothing of the host is
                  looked at
    ``now``       the time, for clocks that count from it
    ``port``      finds a free TCP port from a number up
    """

    rehearse: bool = False
    qmp: str | None = None
    paused: bool = True
    binary: str | None = None
    runtime: Path | None = None
    now: datetime | None = None
    port: Callable[[int], int] = int

    @property
    def printing(self) -> bool:
        return self.runtime is None


#: a command line to look at
TO_SHOW = LaunchContext()
