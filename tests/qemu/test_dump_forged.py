"""A property with line breaks: it makes up no device, no bus and no property of a dump."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mdtool.errors import MdtoolError
from mdtool.qemu.dump import dump
from mdtool.qemu.read import Method
from mdtool.qemu.session import session_from_source
from tests.conftest import require

PORT = ("-device", "virtio-serial-pci", "-device")
FORGED = {
    "a bus below": ['x"', "bus: evil.0", "  type PCI", '  dev: e1000, id "evil"', '    mac = "00:00:00:00:00:00'],
    "a bus of a real name": ['x"', "bus: pcie.0", "  type PCIE", '  dev: VGA, id ""', '    mac = "00:00:00:00:00:00'],
    "a CPU on a bus": ['x"', "bus: pcie.0", "  type PCIE", '  dev: qemu64-x86_64-cpu, id ""', '    mac = "0'],
    "a second value": ['x"', 'name = "org.example.other'],
    "a boot order": ["x", "bootindex = 1"],
}


def machine(folder: Path, value: str, *words: str) -> str:
    path = folder / "qmp"
    port = json.dumps({"driver": "virtserialport", "name": value})
    options = ["-M", "q35", "-S", "-m", "16", "-display", "none", "-nodefaults", "-daemonize"]
    options += ["-qmp", f"unix:{path},server=on,wait=off"]
    subprocess.run([require("qemu-system-x86_64"), *options, *PORT, port, *words], check=True)
    return str(path)


@pytest.mark.parametrize("way", [Method.QTREE, Method.WALK])
@pytest.mark.parametrize("lines", FORGED.values(), ids=FORGED)
def test_what_a_property_makes_up_is_an_error(lines: list[str], way: Method, tmp_path: Path) -> None:
    indent = 14 if lines[0] == 'x"' and " = " in lines[1] else 12
    with session_from_source(machine(tmp_path, ("\n" + " " * indent).join(lines))) as session:
        try:
            with pytest.raises(MdtoolError, match="qtree"):
                dump(session, way=way)
        finally:
            session.execute("quit")


@pytest.mark.parametrize("way", list(Method)[::2])
def test_what_is_there_is_read(way: Method, tmp_path: Path) -> None:
    """The same machine without line breaks, with two devices of a kind and buses that others provide."""
    more = ["-device", "pxb-pcie,id=p", "-device", "e1000,bus=pcie.0", "-device", "e1000,bus=pcie.0"]
    more += ["-device", "virtio-scsi-pci,bus=pcie.0", "-device", "qemu-xhci,bus=pcie.0", "-device", "usb-hub"]
    with session_from_source(machine(tmp_path, 'x" bus: evil.0', *more)) as session:
        try:
            tree = dump(session, way=way)
        finally:
            session.execute("quit")
    assert [p.node.properties["name"] for p in tree.places if p.node.driver == "virtserialport"] == ['x" bus: evil.0']
