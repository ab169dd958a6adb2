"""The CPU that ``host-model`` and ``match='minimum'`` stand for on this host: a named model and features.

libvirt is asked, which starts its guests with it; where it is not there, QEMU expands the host's CPU to a static model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mdtool.errors import MdtoolError
from mdtool.guest.machines import binary_name
from mdtool.guest.model import Guest
from mdtool.guest.platform.cpu import REPLACED, features_of
from mdtool.guest.xml import element_from_bytes
from mdtool.qemu.introspect import conversation
from mdtool.qemu.virsh import Virsh

SECONDS = 10.0
#: a feature of this host alone, with which no guest can migrate: libvirt starts a guest without it
_HERE_ALONE = "invtsc"
#: what QEMU expands for each kind of domain
_EXPANDED = {"kvm": "host", "qemu": "max"}


def host_model(guest: Guest, connect: str | None, *, ask_libvirt: bool = True) -> Mapping[str, Any] | None:
    """``{"model": "EPYC", "features": {"umip": True, ...}}``; None where neither libvirt nor QEMU says.

    So too for a model that QEMU has not, in whose place libvirt takes another one.
    """
    if (replaced := REPLACED.get(str(guest.domain.get("cpu/model")))) is not None:
        return replaced
    binary = guest.emulator or binary_name(guest)
    kind = guest.domain.get("@type") or "kvm"
    found = _of_libvirt(connect, kind, binary, guest.arch, guest.machine) if ask_libvirt else None
    return found or _of_qemu(binary, kind)


@lru_cache(maxsize=32)
def _of_libvirt(connect: str | None, kind: str, binary: str, arch: str, machine: str) -> Mapping[str, Any] | None:
    words = ["--virttype", kind, "--arch", arch, *(["--machine", machine] if machine else [])]
    words += ["--emulatorbin", binary] if os.path.isabs(binary) else []
    try:
        text = Virsh(connect)("domcapabilities", *words, timeout=SECONDS)
        modes = element_from_bytes(text.encode(), "domcapabilities", "domainCapabilities").all("cpu/mode")
        mode = next((mode for mode in modes if mode.get("@name") == "host-model"), None)
        model = mode.get("model") if mode is not None and mode.get("@supported") == "yes" else None
    except MdtoolError:
        return None
    if mode is None or model is None:
        return None
    return {"model": model, "features": {k: v for k, v in features_of(mode, lambda _: None).items() if k != _HERE_ALONE}}


def offers(guest: Guest, feature: str) -> bool | None:
    """Whether this host's QEMU has a feature for a guest; True where it does not say."""
    kind = guest.domain.get("@type") or "kvm"
    whole = _expanded(guest.emulator or binary_name(guest), kind, _EXPANDED.get(kind, "max"))
    return whole is None or bool(whole.get("props", {}).get(feature))


@lru_cache(maxsize=32)
def _expanded(binary: str, kind: str, name: str) -> Mapping[str, Any] | None:
    command = {
        "execute": "query-cpu-model-expansion",
        "arguments": {"type": "static", "model": {"name": name}},
        "id": "expanded",
    }
    try:
        said, _ = conversation(binary, [command], accel="kvm" if kind == "kvm" else "tcg")
    except MdtoolError:
        return None
    return (said.get("expanded") or {}).get("model")


def _of_qemu(binary: str, kind: str) -> Mapping[str, Any] | None:
    """The static model nearest to the host's CPU, with what that has beyond the model by itself."""
    whole = _expanded(binary, kind, _EXPANDED.get(kind, "max"))
    itself = _expanded(binary, kind, whole["name"]) if whole else None
    if whole is None or itself is None:
        return None
    more = {k: v for k, v in sorted(whole.get("props", {}).items()) if itself.get("props", {}).get(k) != v}
    return {"model": whole["name"], "features": {k: v for k, v in more.items() if k != _HERE_ALONE}}
