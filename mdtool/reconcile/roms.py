"""Two devices whose ROMs QEMU cannot distinguish: then it does not start.

The ROM of a device with a ROM BAR is in the BAR.  Without one (``<rom bar='off'/>``) QEMU hands it to the firmware as an
fw_cfg file with the ROM file's name, and refuses a second of that name: ``duplicate fw_cfg file name:
genroms/efi-virtio.rom``, on 7.2 as on 11.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mdtool.errors import Position, Report
from mdtool.machine.tree import Place, Tree
from mdtool.machine.values import plain

#: driver -> the ROM that QEMU gives it by default, for want of a dump
_ROMS: Mapping[str, str] = {
    **dict.fromkeys(("virtio-net-pci", "virtio-net-pci-transitional", "virtio-net-pci-non-transitional"), "efi-virtio.rom"),
    **dict.fromkeys(("e1000", "e1000-82544gc", "e1000-82545em"), "efi-e1000.rom"),
    **dict.fromkeys(
        [f"i8255{name}" for name in ("0", "7a", "7b", "7c", "8a", "8b", "9a", "9b", "9c", "9er")], "pxe-eepro100.rom"
    ),
    "i82562": "pxe-eepro100.rom",
    "i82801": "pxe-eepro100.rom",
    "e1000e": "efi-e1000e.rom",
    "ne2k_pci": "efi-ne2k_pci.rom",
    "pcnet": "efi-pcnet.rom",
    "rtl8139": "efi-rtl8139.rom",
    "vmxnet3": "efi-vmxnet3.rom",
}


def warn_of_shared_roms(tree: Tree, positions: Mapping[str, Position | None], report: Report) -> None:
    """A warning at each device but the first that gives the firmware a ROM of a name; ``positions`` are by origin."""
    first: dict[str, str] = {}
    for place, file in _handed_over(tree):
        if file in first:
            report.warn(
                f"{place.name}: a ROM {file} without a BAR, as {first[file]} has one: QEMU starts with one of them only",
                at=positions.get(place.node.origin or "") or place.node.position,
                remedy="<rom enabled='no'/> for all but one of them, or <rom bar='on'/>",
                rule="shared-rom",
            )
        first.setdefault(file, place.name)


def _handed_over(tree: Tree) -> Iterator[tuple[Place, str]]:
    """Devices whose ROM the firmware gets by its name, and the name."""
    for place in tree.places:
        file = str(place.node.value("romfile", _ROMS.get(place.node.driver, "")))
        if file and plain(place.node.value("rombar", 1)) in ("0", "off"):
            yield place, file
