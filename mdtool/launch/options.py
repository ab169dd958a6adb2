"""``--via options``: the options of old that still take ``addr=`` (Solution 1 of 2009).

Of those that 2009 had, ``-net nic,model=...,addr=...`` is left; it reaches bus 0 alone, function 0, and knows a NIC's
MAC and vectors and nothing else.  What it cannot say is a ``-device``.  A NIC made so has no id, which no guest sees.

QEMU 9.0 and later still take ``addr=`` and ignore it without a word (measured on 11.1): there every NIC is a ``-device``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdtool.commandline.option import Option, text_from_bag
from mdtool.launch.device import Handover
from mdtool.machine.values import number

#: driver -> model of ``-net nic``
_MODELS = {
    "virtio-net-pci": "virtio",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "rtl8139",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet",
    "i82551": "i82551",
    "i82557b": "i82557b",
    "i82559er": "i82559er",
}
_SAID = frozenset({"driver", "id", "bus", "addr", "mac", "netdev", "vectors"})
_ROOTS = frozenset({"pci.0", "pcie.0"})


IGNORES_ADDR = (9, 0)  # the first QEMU that does
MOST_NICS = 8  # QEMU's MAX_NICS


def handover(options: Sequence[Option], version: tuple[int, ...] = (0,)) -> Handover:
    """``version`` is QEMU's where it is known."""
    if version >= IGNORES_ADDR:
        note = f"every NIC is a -device: QEMU {'.'.join(map(str, version))} takes -net nic,addr= and ignores the address"
        return Handover(tuple(options), notes=(note,))
    made: list[Option] = []
    notes: list[str] = []
    nics = 0
    bags = [option.bag for option in options if option.name == "device"]
    beside = {bag.get("target") for bag in bags if bag.get("driver") == "zpci"}
    for option in options:
        nic = _nic(option.bag) if option.name == "device" else ""
        if isinstance(nic, Option) and option.id in beside:
            nic = "a zpci device names it by its id"
        if isinstance(nic, Option) and nics >= MOST_NICS:
            nic = f"QEMU has room for {MOST_NICS} -net nic"
        if isinstance(nic, Option):
            nics += 1
        elif nic:
            notes.append(f"{option.id} ({option.bag['driver']}) is a -device: {nic}")
        made.append(nic if isinstance(nic, Option) else option)
    return Handover(tuple(made), notes=tuple(notes))


def _nic(bag: dict[str, Any]) -> Option | str:
    """The -net option, or why there is none; "" if it is no NIC."""
    model = _MODELS.get(str(bag.get("driver")))
    if model is None:
        return ""
    if bag.get("bus") not in _ROOTS:
        return f"-net nic reaches bus 0 alone, and this one sits on {bag.get('bus')}"
    slot, _, function = str(bag.get("addr", "")).partition(".")
    if not slot or number(function):
        return "-net nic knows slots and no functions"
    if more := sorted(bag.keys() - _SAID):
        return f"-net nic cannot say {', '.join(more)}"
    if "netdev" not in bag:
        return "it has no network"
    said = {"type": "nic", "netdev": bag["netdev"], "model": model, "macaddr": bag.get("mac"), "addr": slot}
    said |= {"vectors": bag.get("vectors")}
    return Option("net", text_from_bag({key: value for key, value in said.items() if value is not None}, "type"))
