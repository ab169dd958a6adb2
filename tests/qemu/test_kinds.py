"""The kinds of bus by drivers' names, held against the bus that each QEMU prints of each device."""

from __future__ import annotations

import re
import subprocess

import pytest

from mdtool.machine.buses.kinds import KINDS, kind_of_driver
from mdtool.machine.buses.pci import is_port
from mdtool.machine.drivers import canonical_driver
from tests.conftest import PACKAGES, require

_PRINTED = re.compile(r'^name "([^"]+)", bus ([^,\s]+)', re.MULTILINE)
_ALIAS = re.compile(r'^name "([^"]+)".*, alias "([^"]+)"', re.MULTILINE)
#: buses that have a row; devices of the others have no place that anybody gives
BUSES = {bus for kind in KINDS.values() for bus in kind.types} - {"SSI", "System", "virtio-bus"}


@pytest.mark.parametrize("qemu", [name for name in PACKAGES if name.startswith("qemu-system-")])
def test_each_device_is_of_the_kind_of_its_bus(qemu: str) -> None:
    shown = subprocess.run([require(qemu), "-device", "help"], capture_output=True, text=True, check=True).stdout
    printed = [(name, bus) for name, bus in _PRINTED.findall(shown) if bus in BUSES]
    assert len(printed) > 30
    assert [(name, bus) for name, bus in printed if bus not in kind_of_driver(name).types] == []
    if "s390x" not in qemu:  # where the names of virtio devices are those of channel devices
        assert [name for driver, name in _ALIAS.findall(shown) if canonical_driver(name) != driver] == []
    ports = [name for name, _ in printed if re.search(r"root-port|downstream|-rp$|ioh3420", name)]
    assert [name for name in ports if not is_port(name) and not name.startswith("pnv-")] == []
