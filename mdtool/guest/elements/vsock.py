"""<vsock>: sockets between host and guest."""

from __future__ import annotations

from mdtool.guest.convert import number
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop, virtio
from mdtool.machine.tree import Value
from mdtool.records import replace


def guest_number(value: str) -> Value:
    """A CID: those below 3 mean the hypervisor and the host."""
    found = number(value)
    if not isinstance(found, int) or not 3 <= found <= 0xFFFFFFFF:
        raise ValueError("a number from 3 on")
    return found


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    """``auto='yes'`` is a number that the host finds when the guest starts: 0 until then."""
    guest_cid = 0 if context.get("cid/@auto") == "yes" else wanted.properties.get("guest-cid", 0)
    return replace(wanted, properties={**wanted.properties, "guest-cid": guest_cid})


VSOCK = ElementRow(
    "vsock",
    choose="@model",
    absent="virtio",
    drivers=virtio("vhost-vsock"),
    props={"guest-cid": Prop("cid/@address", guest_number), **VIRTIO},
    origin=(),
    alias="vsock",
    reads=("cid/@auto",),
    shape=_shape,
)
