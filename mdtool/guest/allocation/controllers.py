"""Controllers as values: which driver each type and model is, and a controller that is not in the XML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mdtool.guest.choices import SCSI_MODEL, chosen, has_newest_qemu
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.machine.buses.providers import DRIVERS, ENDINGS


def scsi_model(guest: Guest, index: int = 0) -> str:
    """The SCSI controller that libvirt adds for drives without one, or that the description has."""
    return guest.known.get(("scsi", index)) or chosen(SCSI_MODEL, guest.arch, guest.machine, "lsilogic")


def implied(guest: Guest, type_: str, model: str, index: int, **facts: Any) -> Wanted:
    """A controller that the XML leaves out: ``controller/pci/3``."""
    driver = DRIVERS[type_, model]
    if driver.endswith("-*"):
        facts["transport"] = guest.transport
        driver = driver[:-1] + ENDINGS[facts["transport"]]
    if (type_ == "sata" and guest.is_q35 and index == 0) or (type_ == "fdc" and not guest.is_q35):
        driver = ""  # the chipset's own
    return Wanted(
        kind="controller",
        driver=driver,
        origin=f"controller/{type_}/{index}",
        alias=type_,
        facts={"type": type_, "model": model, "index": index, "sorted": has_newest_qemu(guest), **facts},
    )


def type_of(wanted: Wanted) -> str:
    """A controller's type, ``pci``; "" for anything else."""
    return str(wanted.facts.get("type", "")) if wanted.kind == "controller" else ""


def controllers_of(wanted: Iterable[Wanted], type_: str) -> dict[int, Wanted]:
    """The controllers of a type, by index."""
    return {index_of(one): one for one in wanted if one.kind == "controller" and type_of(one) == type_}


def model_of(wanted: Wanted) -> str:
    return str(wanted.facts.get("model") or "")


def index_of(wanted: Wanted) -> int:
    return int(wanted.facts.get("index", 0))


def is_placed(address: Address | None) -> bool:
    """Whether an address says where: libvirt takes a PCI address of domain 0, bus 0 and slot 0 for none."""
    if address is None:
        return False
    if address.type == "pci":
        numbers = address.numbers
        return bool(numbers.get("slot") or numbers.get("bus") or numbers.get("domain"))
    return bool(address.numbers) or address.type in ("virtio-mmio", "none", "unassigned")
