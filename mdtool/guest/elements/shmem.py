"""<shmem>: memory shared with other guests."""

from __future__ import annotations

from mdtool.guest.table import Device, Prop, number, switch, word

SHMEM = Device(
    "shmem",
    choose="model/@type",
    absent="ivshmem-plain",
    drivers={"ivshmem-plain": "ivshmem-plain", "ivshmem-doorbell": "ivshmem-doorbell"},
    props={
        "master": Prop("@role", word(master="on", peer="off")),
        "vectors": Prop("msi/@vectors", number, ("ivshmem-doorbell",)),
        "ioeventfd": Prop("msi/@ioeventfd", switch, ("ivshmem-doorbell",)),
    },
    facts={"name": "@name"},
    origin=("@name",),
    alias="shmem",
    host={"server/@path": "the socket", "size": "the backend's size", "size/@unit": "the backend's size"},
    reads=("msi/@enabled",),
)
