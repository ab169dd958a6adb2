"""What import writes for a device asks for that device again: the table of elements, read backwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mdtool.commandline.option import options_from_words
from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.sections import sections_from_options
from mdtool.errors import Report
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.elements.hub import HUB
from mdtool.guest.elements.iommu import IOMMU
from mdtool.guest.elements.panic import PANIC
from mdtool.guest.elements.sound import SOUND
from mdtool.guest.elements.video import VIDEO
from mdtool.importer.domain import machine_properties
from mdtool.importer.elements import ROWS
from mdtool.importer.markup import Keys, NoWords
from mdtool.importer.option_list import OptionList
from mdtool.importer.row import DeviceView, Writer
from mdtool.qemu.replies import RawBus, RawDevice


def drivers() -> Iterator[str]:
    for row in (HUB, IOMMU, PANIC, SOUND, VIDEO):
        yield from (driver.replace("-*", "-pci") for driver in row.choices if driver not in ("arm-smmuv3", "pvpanic-pci"))
    yield from ("virtio-vga", "virtio-vga-gl")


@pytest.mark.parametrize("driver", list(drivers()))
def test_an_imported_device_is_asked_for_by_its_element(driver: str) -> None:
    codec = RawBus("hda.0", "HDA", [RawDevice("hda-duplex", "codec")])
    device, report = RawDevice(driver, "x", buses=[codec] if driver.endswith("-hda") else []), Report()
    driver = driver.replace("virtio-iommu", "virtio-iommu-pci")
    writer = Writer(HostSide(Path()), "pc-q35-7.2", str, report, rows=ROWS)
    made = writer.made(DeviceView(RawBus("pcie.0", "PCIE"), device, driver, {}, Keys({})))
    assert made is not None
    xml = f"""<domain type='qemu'><name>g</name><memory>65536</memory><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    </os><devices>{"<video><model type='vga'/></video>" if "gpu" in driver else ""}{made.xml}</devices></domain>"""
    wanted = wanted_from_guest(guest_from_bytes(xml.encode(), "guest.xml"), report)
    assert driver.removesuffix("-pci") in {one.driver.removesuffix("-pci") for one in wanted}
    assert not report.errors


def test_the_interrupt_controller_of_an_accelerator_is_the_machines() -> None:
    options = options_from_words(["-machine", "q35", "-accel", "kvm,kernel-irqchip=split", "-accel", "tcg"])
    assert machine_properties(OptionList(options)) == {"kernel-irqchip": "split"}
    assert sections_from_options(options)["machine"] == {"properties": {"kernel_irqchip": "split"}}


def test_what_the_xml_cannot_say_of_a_controller_makes_it_an_option() -> None:
    device = RawDevice("virtio-serial-pci", "x", buses=[RawBus("x.0", "virtio-serial-bus", [])])
    writer = Writer(HostSide(Path()), "pc-q35-7.2", str, Report(), rows=ROWS)
    with pytest.raises(NoWords, match="ioeventfd"):
        writer.made(DeviceView(RawBus("pcie.0", "PCIE"), device, device.driver, {}, Keys({"ioeventfd": "off"})))
