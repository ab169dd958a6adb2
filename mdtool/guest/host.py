"""What the host does of guest XML, and who carries it out: the column of the table beside what the guest sees.

carried("block", "the backend")      ``launch.backends.block`` reads it; a test holds that it does
by_libvirt("a block job")            libvirt alone can: a direct launch ends with an error that names it
tuned("limits of a control group")   libvirt alone can, and the guest runs without: a warning
idle("libvirt's own notes")          nothing is to be carried out
"""

from __future__ import annotations

from typing import Literal

from mdtool.records import NamedTuple


class HostRow(NamedTuple):
    """``why`` says what it is on the host, ``by`` the module of ``launch.backends`` that carries it out, "" for none.

    ``unless`` are values that ask for nothing, so that there is nothing for libvirt to do.
    """

    why: str
    who: Literal["launch", "libvirt", "nobody"]
    by: str = ""
    unless: tuple[str, ...] = ()
    warns: bool = False

    def __str__(self) -> str:
        return {
            "launch": f"host side: {self.why}",
            "libvirt": f"host side, with `--via libvirt` alone: {self.why}",
            "nobody": f"host side, nothing to carry out: {self.why}",
        }[self.who]

    def refuses(self, value: str) -> bool:
        """Whether a direct launch must refuse this value."""
        return self.who == "libvirt" and not self.warns and value not in self.unless


def carried(by: str, why: str) -> HostRow:
    return HostRow(why, "launch", by)


def by_libvirt(why: str, *, unless: tuple[str, ...] = ()) -> HostRow:
    return HostRow(why, "libvirt", unless=unless)


def tuned(why: str) -> HostRow:
    return HostRow(why, "libvirt", warns=True)


def idle(why: str) -> HostRow:
    return HostRow(why, "nobody")
