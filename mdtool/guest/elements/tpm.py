"""<tpm>: a trusted platform module; what it keeps is the host's."""

from __future__ import annotations

from mdtool.guest.elements.character import SOURCE
from mdtool.guest.host import by_libvirt, carried, idle
from mdtool.guest.table import ElementContext, ElementRow


def default_model(context: ElementContext) -> str:
    return "tpm-spapr" if context.guest.is_ppc else "tpm-tis"


def drivers(context: ElementContext) -> dict[str, str]:
    """ARM machines have the module on the system bus, where QEMU calls it tpm-tis-device."""
    tis = "tpm-tis" if context.guest.is_x86 else "tpm-tis-device"
    return {"tpm-tis": tis, "tpm-crb": "tpm-crb", "tpm-spapr": "tpm-spapr", "spapr-tpm-proxy": "spapr-tpm-proxy"}


TPM = ElementRow(
    "tpm",
    choose="@model",
    absent=default_model,
    drivers=drivers,
    alias="tpm",
    host={
        **SOURCE,
        "backend/*": carried("misc", "the backend and its state"),
        "backend/@debug": by_libvirt("what swtpm writes down", unless=("0",)),
        "backend/@persistent_state": idle("whether libvirt keeps the state: here it stays"),
        "backend/active_pcr_banks/*": by_libvirt("what swtpm_setup sets up"),
        "backend/profile/*": by_libvirt("what swtpm_setup sets up"),
    },
)
