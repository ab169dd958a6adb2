"""<iommu>: address translation for devices."""

from __future__ import annotations

from mdtool.guest.table import Device, Prop, auto, number, switch

_INTEL = ("intel-iommu",)

IOMMU = Device(
    "iommu",
    choose="@model",
    drivers={"intel": "intel-iommu", "virtio": "virtio-iommu", "amd": "amd-iommu", "smmuv3": ""},
    props={
        "intremap": Prop("driver/@intremap", auto, ("intel-iommu", "amd-iommu")),
        "caching-mode": Prop("driver/@caching_mode", switch, _INTEL),
        "eim": Prop("driver/@eim", auto, _INTEL),
        "device-iotlb": Prop("driver/@iotlb", switch, ("intel-iommu", "amd-iommu")),
        "aw-bits": Prop("driver/@aw_bits", number, _INTEL),
        "dma-translation": Prop("driver/@dma_translation", switch, _INTEL),
        "xtsup": Prop("driver/@xtsup", switch, ("amd-iommu",)),
        "pt": Prop("driver/@pt", switch, ("amd-iommu",)),
    },
    alias="iommu",
)
