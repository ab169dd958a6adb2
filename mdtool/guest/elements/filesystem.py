"""<filesystem>: folders of the host, by 9p or virtiofs."""

from __future__ import annotations

from mdtool.guest.table import VIRTIO, Context, Device, Prop, number, positive, virtio


def _choice(context: Context) -> str:
    kind = "virtiofs" if context.get("driver/@type") == "virtiofs" else "9p"
    return kind if kind == "virtiofs" else f"{kind}/{context.get('@model') or 'virtio'}"


FILESYSTEM = Device(
    "filesystem",
    choose=_choice,
    drivers={
        **{f"9p/{model}": driver for model, driver in virtio("virtio-9p").items()},
        "virtiofs": "vhost-user-fs-*",
    },
    props={
        "mount_tag": Prop("target/@dir", drivers=("virtio-9p-*",)),
        "tag": Prop("target/@dir", drivers=("vhost-user-fs-*",)),
        "queue-size": Prop("driver/@queue", number, ("vhost-user-fs-*",)),
        "bootindex": Prop("boot/@order", positive, ("vhost-user-fs-*",)),
        **VIRTIO,
    },
    origin=("target/@dir",),
    alias="fs",
    reads=("driver/@type", "@model"),
    host={
        "@type": "what kind of source",
        "@accessmode": "who owns the files on the host",
        "@fmode": "who owns the files on the host",
        "@dmode": "who owns the files on the host",
        "@multidevs": "how inodes of the host are numbered",
        "source/*": "the folder",
        "binary/*": "the virtiofs daemon",
        "driver/@name": "containers",
        "driver/@format": "containers",
        "driver/@wrpolicy": "how the host writes",
        "readonly": "the host refuses to write",
        "space_hard_limit": "containers",
        "space_hard_limit/@unit": "containers",
        "space_soft_limit": "containers",
        "space_soft_limit/@unit": "containers",
        "idmap/*": "who owns the files on the host",
    },
    ignored={"boot/@loadparm": "the firmware of s390x alone reads it, from the machine"},
)
