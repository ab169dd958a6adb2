"""<shmem>: memory shared with other guests."""

from __future__ import annotations

from mdtool.guest.convert import number, switch, word
from mdtool.guest.host import carried
from mdtool.guest.model import Wanted
from mdtool.guest.table import ElementContext, ElementRow, Prop
from mdtool.records import replace


def _shape(_: ElementContext, wanted: Wanted) -> Wanted:
    """With a server interrupts come by ioeventfd, unless the XML says otherwise."""
    if wanted.driver != "ivshmem-doorbell":
        return wanted
    return replace(wanted, properties={"ioeventfd": True, **wanted.properties})


SHMEM = ElementRow(
    "shmem",
    choose="model/@type",
    absent="ivshmem-plain",
    drivers={"ivshmem-plain": "ivshmem-plain", "ivshmem-doorbell": "ivshmem-doorbell"},
    props={
        "master": Prop("@role", word(master="on", peer="off"), ("ivshmem-plain",)),
        "vectors": Prop("msi/@vectors", number, ("ivshmem-doorbell",)),
        "ioeventfd": Prop("msi/@ioeventfd", switch, ("ivshmem-doorbell",)),
    },
    facts={"name": "@name"},
    origin=("@name",),
    alias="shmem",
    host={
        "server/@path": carried("misc", "the socket"),
        "size": carried("misc", "the backend's size"),
        "size/@unit": carried("misc", "the backend's size"),
    },
    reads=("msi/@enabled",),
    shape=_shape,
)
