"""``--via device``: every device is a ``-device`` with its bus and address (Solution 2 of 2009).

The command line is made so; there is nothing to change in it.  The other ways start from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdtool.commandline.option import Option
from mdtool.records import dataclass


@dataclass(frozen=True, slots=True)
class Handover:
    """How one machine reaches QEMU.

    ``options``    what is on the command line
    ``config``     text of the file for ``-readconfig``; "" if there is none
    ``additions``  arguments of ``device_add``, in order, for before the guest runs
    ``notes``      what this way cannot say, and why it went elsewhere
    """

    options: tuple[Option, ...]
    config: str = ""
    additions: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def handover(options: Sequence[Option]) -> Handover:
    return Handover(tuple(options))
