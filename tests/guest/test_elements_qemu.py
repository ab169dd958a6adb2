"""QEMU itself knows the drivers and properties that the elements become."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from conftest import require
from test_elements import CASES, NAMES

from mdtool.errors import Report
from mdtool.guest.devices import guest_from_file, wanted_from_guest
from tests.support_waiting import PATIENCE

#: properties that came after QEMU 7.2
NEWER = {("intel-iommu", "dma-translation"), ("amd-iommu", "xtsup"), ("amd-iommu", "pt"), ("virtio-iommu", "granule")}
#: the switches that came with accelerated SMMUs
NEWER |= {("arm-smmuv3", name) for name in ("accel", "ats", "cmdqv", "oas", "ril", "ssidsize")}
#: QEMU 10 has it no more: a guest that asks for it is refused, as by libvirt
OLDER = {(f"virtio-blk-pci{kind}", "scsi") for kind in ("", "-transitional", "-non-transitional")}
BINARIES = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64", "armv7l": "qemu-system-aarch64"}


def properties_of(binary: str, drivers: list[str]) -> dict[str, set[str]]:
    """Driver -> the names of its properties, for those that this QEMU has."""
    asked: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}]
    asked += [{"execute": "device-list-properties", "arguments": {"typename": driver}, "id": driver} for driver in drivers]
    said = subprocess.run(
        [binary, "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"],
        input="".join(json.dumps(one) + "\n" for one in [*asked, {"execute": "quit"}]),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    return {one["id"]: {row["name"] for row in one["return"]} for one in answers if "id" in one and "return" in one}


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_qemu_knows_the_properties(arch: str) -> None:
    binary = require(BINARIES[arch])
    wanted: dict[str, set[str]] = {}
    for name in NAMES:
        guest = guest_from_file(CASES / f"{name}.xml")
        if BINARIES.get(guest.arch) == BINARIES[arch]:
            for one in wanted_from_guest(guest, Report()):
                # QEMU 7.2 ends itself where the module behind a -gl device is missing
                if one.driver and "-gl" not in one.driver:
                    wanted.setdefault(one.driver, set()).update(one.properties)
    known = properties_of(binary, sorted(wanted))
    assert len(known) >= 0.8 * len(wanted), f"not in this QEMU: {sorted(wanted.keys() - known.keys())}"
    unknown = {(driver, name) for driver in known for name in wanted[driver] - known[driver]} - NEWER - OLDER
    assert not unknown
