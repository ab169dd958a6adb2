"""<iommu>: address translation for devices."""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.guest.convert import auto, number, switch
from mdtool.guest.model import Address, Wanted
from mdtool.guest.table import ElementContext, ElementRow, Prop
from mdtool.machine.values import decimal
from mdtool.records import replace

_INTEL = ("intel-iommu",)
_AMD = ("amd-iommu",)
_SMMU = ("arm-smmuv3",)  # of one bus; the machine's own over pcie.0 is a switch of the machine


def _choice(context: ElementContext) -> str:
    model = context.get("@model")
    return f"{model}/bus" if model == "smmuv3" and context.get("driver/@pciBus") else model


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    if wanted.driver == "amd-iommu":  # a place is that of the PCI function that it brings: see pci_function
        return replace(wanted, address=None, facts={**wanted.facts, "place": wanted.address})
    if wanted.driver == "arm-smmuv3":
        return replace(wanted, origin=f"{wanted.kind}/smmuv3/{wanted.facts.get('bus', '')}")
    if wanted.driver == "virtio-iommu" and (granule := _granule(context)):
        return replace(wanted, properties={**wanted.properties, "granule": granule})
    return wanted


def _granule(context: ElementContext) -> str:
    """``64k`` or ``host``; "" where the XML does not say."""
    if context.get("driver/granule/@mode") == "host":
        return "host"
    size = context.get("driver/granule/@size")
    units = {"": "k", "KiB": "k", "k": "k", "MiB": "m", "M": "m"}
    unit = context.get("driver/granule/@unit")
    if size and (unit not in units or decimal(size) is None):
        context.error("driver/granule", f"granule '{size} {unit}'", expected="a number and KiB", rule="value-valid")
    return f"{size}{units.get(unit, 'k')}" if size else ""


def pci_function(_: ElementContext, iommu: Wanted) -> Iterator[Wanted]:
    """The PCI function that amd-iommu makes itself, in the first slot that is free then: no other device gets that one."""
    if iommu.driver == "amd-iommu":
        place: Address | None = iommu.facts["place"]
        yield Wanted("iommu", "", "iommu/amd/pci", address=place, facts={"choice": "amd"}, element=iommu.element)


IOMMU = ElementRow(
    "iommu",
    choose=_choice,
    drivers={
        "intel": "intel-iommu",
        "virtio": "virtio-iommu",
        "amd": "amd-iommu",
        "smmuv3": "",
        "smmuv3/bus": "arm-smmuv3",
    },
    props={
        "intremap": Prop("driver/@intremap", auto, (*_INTEL, *_AMD)),
        "caching-mode": Prop("driver/@caching_mode", switch, _INTEL),
        "eim": Prop("driver/@eim", auto, _INTEL),
        "device-iotlb": Prop("driver/@iotlb", switch, (*_INTEL, *_AMD)),
        "aw-bits": Prop("driver/@aw_bits", number, _INTEL),
        "dma-translation": Prop("driver/@dma_translation", switch, _INTEL),
        "xtsup": Prop("driver/@xtsup", switch, _AMD),
        "pt": Prop("driver/@passthrough", switch, _AMD),
        "accel": Prop("driver/@accel", switch, _SMMU),
        "ats": Prop("driver/@ats", auto, _SMMU),
        "ril": Prop("driver/@ril", auto, _SMMU),
        "cmdqv": Prop("driver/@cmdqv", auto, _SMMU),
        "ssidsize": Prop("driver/@ssidsize", drivers=_SMMU),
        "oas": Prop("driver/@oas", drivers=_SMMU),
    },
    facts={"bus": Prop("driver/@pciBus", number)},
    alias="iommu",
    reads=("@model", "driver/granule/@mode", "driver/granule/@size", "driver/granule/@unit"),
    shape=_shape,
    also=pci_function,
)
