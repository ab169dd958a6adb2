"""CPUs that were plugged into a running guest are devices of its dump, and <vcpu> counts them in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support_backends import guest_of

from mdtool.machine.tree import Node
from mdtool.reconcile import reconcile


@pytest.mark.parametrize(("current", "warned"), [(2, False), (1, True), (3, True)])
def test_plugged_cpus_are_counted(current: int, warned: bool) -> None:
    started = reconcile(guest_of(outside="<vcpu current='1'>4</vcpu>")).tree
    tree = replace(started, devices=(*started.devices, Node("qemu64-x86_64-cpu", id="vcpu1", address="1:0:0")))
    result = reconcile(guest_of(outside=f"<vcpu current='{current}'>4</vcpu>"), tree)
    assert [str(one.rule) for one in result.warnings] == ["plugged-cpus"] * warned
    assert "vcpu1" in result.tree.by_name
    if not warned:
        assert not result.plan and result.tree.cpu["vcpus"] == 1
        again = reconcile(guest_of(outside=f"<vcpu current='{current}'>4</vcpu>"), result.tree)
        assert again.tree == result.tree and not again.plan
