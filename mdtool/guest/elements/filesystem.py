"""<filesystem>: folders of the host, by 9p or virtiofs."""

from __future__ import annotations

from mdtool.guest.convert import number, positive
from mdtool.guest.host import by_libvirt, carried, idle
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop, virtio
from mdtool.records import replace


def _choice(context: ElementContext) -> str:
    kind = context.get("driver/@type")
    if kind in ("", "path", "handle", "loop", "nbd", "ploop"):
        return f"9p/{context.get('@model') or 'virtio'}"
    return kind


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    """A media device says whether its guest may write; the other kinds leave that to the host."""
    if wanted.driver != "usb-mtp":
        return wanted
    readonly = context.element.first("readonly") is not None
    return replace(wanted, properties={**wanted.properties, "readonly": readonly})


FILESYSTEM = ElementRow(
    "filesystem",
    choose=_choice,
    drivers={
        **{f"9p/{model}": driver for model, driver in virtio("virtio-9p").items()},
        "virtiofs": "vhost-user-fs-*",
        "mtp": "usb-mtp",
    },
    props={
        "mount_tag": Prop("target/@dir", drivers=("virtio-9p-*",)),
        "desc": Prop("target/@dir", drivers=("usb-mtp",)),
        "tag": Prop("target/@dir", drivers=("vhost-user-fs-*",)),
        "queue-size": Prop("driver/@queue", number, ("vhost-user-fs-*",)),
        "bootindex": Prop("boot/@order", positive, ("vhost-user-fs-*",)),
        **VIRTIO,
    },
    shape=_shape,
    origin=("target/@dir",),
    alias="fs",
    reads=("driver/@type", "@model"),
    host={
        "@type": carried("misc", "what kind of source"),
        "@accessmode": carried("misc", "who owns the files on the host"),
        "@fmode": carried("misc", "who owns the files on the host"),
        "@dmode": carried("misc", "who owns the files on the host"),
        "@multidevs": carried("misc", "how inodes of the host are numbered"),
        "source/*": carried("misc", "the folder"),
        "source/@usage": by_libvirt("containers"),
        "source/@units": by_libvirt("containers"),
        "binary/openfiles/@max": by_libvirt("a limit of the daemon"),
        "binary/*": carried("misc", "the virtiofs daemon"),
        "driver/@name": idle("containers"),
        "driver/@format": by_libvirt("containers"),
        "driver/@wrpolicy": carried("misc", "how the host writes"),
        "readonly": carried("misc", "the host refuses to write"),
        "space_hard_limit": by_libvirt("containers"),
        "space_hard_limit/@unit": by_libvirt("containers"),
        "space_soft_limit": by_libvirt("containers"),
        "space_soft_limit/@unit": by_libvirt("containers"),
        "idmap/*": by_libvirt("who owns the files on the host"),
    },
)
