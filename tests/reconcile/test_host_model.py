"""A CPU that libvirt works out when it starts a guest: said where nothing is described yet, and kept where it is."""

from __future__ import annotations

import pytest

from mdtool.guest.devices import guest_from_bytes
from mdtool.reconcile import reconcile

DOMAIN = """<domain type='qemu'><name>g</name><memory unit='MiB'>256</memory>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
{}
</domain>"""


@pytest.mark.parametrize("cpu", ["<cpu mode='host-model'/>", "<cpu match='minimum'><model>qemu64</model></cpu>"])
def test_a_host_s_choice_is_said_once(cpu: str) -> None:
    guest = guest_from_bytes(DOMAIN.format(cpu).encode(), "guest.xml")
    first = reconcile(guest, None)
    (warning,) = first.warnings
    assert (warning.rule, str(warning.at)) == ("host-model", "guest.xml:3:1")
    again = reconcile(guest, first.tree)
    assert not again.warnings
    assert not again.plan


def test_a_model_by_name_says_nothing() -> None:
    guest = guest_from_bytes(DOMAIN.format("<cpu match='exact'><model>qemu64</model></cpu>").encode(), "guest.xml")
    assert not reconcile(guest, None).warnings
