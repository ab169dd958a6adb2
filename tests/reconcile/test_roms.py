"""Two ROMs of one name that have no BAR: reconcile warns, and QEMU indeed refuses."""

from __future__ import annotations

import pytest
from support_sequences import parsed

from mdtool.errors import QemuError
from mdtool.launch.rehearse import rehearsed
from mdtool.reconcile import reconcile

NIC = "<interface type='user'><mac address='52:54:00:00:00:0{n}'/><model type='{model}'/>{rom}</interface>"
OFF, NONE = "<rom bar='off'/>", "<rom enabled='no'/>"


def guest(*nics: tuple[str, str]) -> str:
    devices = "\n".join(NIC.format(n=at, model=model, rom=rom) for at, (model, rom) in enumerate(nics))
    return f"""<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><devices>
{devices}</devices></domain>"""


@pytest.mark.parametrize(
    ("nics", "starts"),
    [
        ([("virtio", OFF), ("virtio", OFF)], False),
        ([("e1000", OFF), ("virtio", ""), ("e1000", OFF)], False),
        ([("virtio", OFF), ("virtio", "")], True),
        ([("virtio", OFF), ("e1000", OFF)], True),
        ([("virtio", OFF), ("virtio", NONE)], True),
    ],
)
def test_shared_roms(nics: list[tuple[str, str]], starts: bool, qemu: str) -> None:
    xml = parsed(guest(*nics))
    warnings = [str(one) for one in reconcile(xml).warnings]
    if starts:
        assert warnings == []
        with rehearsed(xml):
            return
    assert len(warnings) == 1 and f"p.xml:{2 + len(nics)}:1:" in warnings[0] and "without a BAR" in warnings[0]
    with pytest.raises(QemuError, match="duplicate fw_cfg file name"), rehearsed(xml):
        pass
