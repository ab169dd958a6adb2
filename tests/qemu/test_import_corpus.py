"""Command lines from the wild: each is imported whole and launched as it was, and every reader of it sees one machine."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from mdtool.commandline.vendor import without_vendor
from mdtool.compare import compare, guest_visible
from mdtool.errors import Report
from mdtool.guest.devices import guest_from_bytes
from mdtool.importer import command_from_script, imported
from mdtool.qemu.commandline import dumped_commandline
from mdtool.reconcile import reconcile
from mdtool.reconcile.plan import Action

LINES = (Path(__file__).parents[1] / "importer" / "corpus.txt").read_text().splitlines()
CORPUS = dict(line.split(": ", 1) for line in LINES if line and not line.startswith("#"))


#: boards whose IDE controllers have no PCI address: a drive with an id is not known again as the one without
NOT_YET = {name: pytest.mark.xfail(strict=True) for name in ("mac99", "g3beige", "alpha", "hppa")}


@pytest.mark.parametrize("name", [pytest.param(name, marks=NOT_YET.get(name, ())) for name in CORPUS])
def test_a_command_line_is_imported_whole(name: str, tmp_path: Path) -> None:
    """Nothing is planned, the rehearsal finds what the script's QEMU has, and the dump of the script is the same."""
    text = CORPUS[name]
    if shutil.which(text.split()[0]) is None:
        pytest.skip(f"{text.split()[0]} is not here")
    text = text.replace(" -readconfig /usr/share/qemu-server/pve-q35-4.0.cfg",
                        " -device ich9-usb-ehci1,id=ehci,bus=pcie.0,addr=0x1d.7 -device i82801b11-bridge,id=pcidmi,bus=pcie.0,addr=0x1e -device pci-bridge,id=pci.0,bus=pcidmi,addr=0x1,chassis_nr=1")  # fmt: skip
    report = Report()
    command = without_vendor(command_from_script(text, "s.sh", report, "/vm"), report)
    assert (sum(one.rule == "vendor" for one in report.warnings) == 2) == (name == "proxmox")
    made = imported(command, name, report)
    said = [one.what for one in report.warnings]
    assert not [what for what in said if "a launch ends with this" in what or "could not be tried" in what]
    guest = guest_from_bytes(made.xml.encode(), f"{name}.xml")
    assert [step for step in reconcile(guest, made.tree).plan.steps if step.action is not Action.KEEP] == []
    script = tmp_path / "start.sh"
    script.write_text(shlex.join(word.text for word in command.words) + "\n")
    tree = dumped_commandline(str(script), script.read_bytes())
    assert [str(one) for one in guest_visible(compare(made.tree, tree))] == []
