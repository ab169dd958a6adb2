"""What a reconcile with nothing to change costs, in calls of Python functions: a clock tells another time on each host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from mdtool.guest.devices import guest_from_bytes
from mdtool.machine.document import document_from_text
from mdtool.machine.edit import rewritten
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import reconcile
from mdtool.review.names import names

T = TypeVar("T")


def guest_xml(devices: int) -> bytes:
    nics = "".join(f"<interface type='user'><mac address='52:54:00:00:{n >> 8:02x}:{n & 255:02x}'/>"
                   f"<model type='virtio'/></interface>" for n in range(devices // 8))  # fmt: skip
    disks = "".join(f"<disk type='file' device='disk'><source file='/{n}.img'/><target dev='vd{_letters(n)}' bus='scsi'/>"
                    f"</disk>" for n in range(devices - devices // 8))  # fmt: skip
    return (
        "<domain type='qemu'><name>calls</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='pc-q35-7.2'>"
        "hvm</type></os><devices><controller type='scsi' index='0' model='virtio-scsi'/>"
        + nics
        + disks
        + "</devices></domain>"
    ).encode()


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number > 25 else "") + chr(97 + number % 26)


def calls(devices: int) -> int:
    """Of reconciling and writing a guest of so many devices again."""
    xml = guest_xml(devices)
    text = yaml_from_tree(reconcile(guest_from_bytes(xml, "calls.xml")).tree)
    old = document_from_text(text, "calls.yaml")
    count, again = counted(lambda: rewritten(old, reconcile(guest_from_bytes(xml, "calls.xml"), old.tree).tree), "call")
    assert again == text
    return count


def counted(work: Callable[[], T], *events: str) -> tuple[int, T]:
    """How many calls some work takes, and what it returns."""
    count = 0

    def seen(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in events

    sys.setprofile(seen)
    try:
        found = work()
    finally:
        sys.setprofile(None)
    return count, found


def test_reconciling_again_takes_as_many_calls_as_there_are_devices() -> None:
    few, many = calls(60), calls(240)
    assert few <= 40_000
    assert many <= 4 * few


def test_names_take_as_many_calls_as_there_are_devices() -> None:
    few, many = (reconcile(guest_from_bytes(guest_xml(devices), "calls.xml")).tree for devices in (60, 240))
    assert len(names(few)) >= 60  # patterns are compiled now
    found = counted(lambda: names(few), "call", "c_call")
    assert counted(lambda: names(many), "call", "c_call")[0] <= 4.4 * found[0]
