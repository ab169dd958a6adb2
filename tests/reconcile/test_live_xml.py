"""The XML of a guest and ``virsh dumpxml`` of the same guest while it runs are one and the same to a description."""

from __future__ import annotations

from support_sequences import parsed

from mdtool.reconcile import reconcile

INACTIVE = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><cpu mode='custom' match='exact' check='none'>
<model fallback='allow'>Nehalem</model></cpu><devices/></domain>"""
#: what libvirt 9.0 makes of it once the guest runs
LIVE = INACTIVE.replace("type='qemu'", "type='qemu' id='7'").replace("check='none'", "check='full'").replace(
    "</cpu>", "<feature policy='require' name='hypervisor'/></cpu>"
)  # fmt: skip


def test_there_and_back_changes_nothing() -> None:
    first = reconcile(parsed(INACTIVE)).tree
    live = reconcile(parsed(LIVE), first)
    assert not live.plan and "hypervisor" in str(live.warnings[0])
    back = reconcile(parsed(INACTIVE), live.tree)
    assert not back.plan and not back.warnings and back.tree == first


def test_a_feature_that_somebody_asks_for_is_taken() -> None:
    first = reconcile(parsed(INACTIVE)).tree
    asked = reconcile(parsed(LIVE.replace(" id='7'", "")), first)
    assert asked.plan and asked.tree.cpu["features"] == {"hypervisor": True}
