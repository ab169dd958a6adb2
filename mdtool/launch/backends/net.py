"""Network interfaces: -netdev."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from mdtool.commandline.companion import Process
from mdtool.errors import InputError
from mdtool.guest.xml import Element
from mdtool.launch.backends.base import (
    Backend,
    Host,
    given,
    listed,
    option,
    reconnecting,
    refused,
    switch,
    whole,
)
from mdtool.launch.backends.hostdev import pci_name
from mdtool.machine.tree import Node
from mdtool.machine.values import DIGITS, decimal

#: the setuid program by which a user without privileges gets a tap on a bridge; QEMU's own default path is the same
_BRIDGE_HELPER = "/usr/lib/qemu/qemu-bridge-helper"
#: libvirt's network that every installation has, and its bridge
_DEFAULT_NETWORK = {"default": "virbr0"}


def interface(element: Element, node: Node | None, host: Host) -> Backend:
    """The -netdev of an <interface>; ``-net nic`` where the NIC is the machine's own."""
    kind = element.get("@type") or ""
    if kind == "hostdev":
        return _hostdev(element)
    id = f"host{node.id if node is not None and node.id else _builtin(element, host)}"
    backend = element.get("backend/@type")
    make = _passt if backend == "passt" else KINDS.get(kind)
    if make is None:
        raise refused(element, f"an interface of type {kind!r}")
    made = make(element, id, host)
    if node is None:
        model = element.get("model/@type")
        nic = listed("-net", "nic", macaddr=element.get("mac/@address"), netdev=id, model=model)
        return made + Backend(nic)
    return made + Backend(properties={"netdev": id})


def _builtin(element: Element, host: Host) -> str:
    return f"net{[d for d in host.guest.devices if d.tag == 'interface'].index(element)}"


def _queues(element: Element) -> int | None:
    count = whole(element, "driver/@queues")
    return count if count is not None and count > 1 else None


def _vhost(element: Element, host: Host) -> dict[str, Any]:
    """vhost as libvirt chooses it: for virtio under KVM; where the host has none, QEMU says so and goes on without."""
    name = element.get("driver/@name")
    virtio = (element.get("model/@type") or "").startswith("virtio")
    return {"vhost": True} if virtio and (name == "vhost" or (name is None and host.is_kvm)) else {}


def _tap(element: Element, id: str, host: Host) -> Backend:
    """A tap that is there already (managed='no'), or one that QEMU makes and <script> sets up."""
    name = element.get("target/@dev")
    managed = element.get("target/@managed") != "no"
    script = element.get("script/@path")
    facts = {
        "ifname": name,
        "script": script or "no",
        "downscript": element.get("downscript/@path") or "no",
        "queues": _queues(element),
        "sndbuf": whole(element, "tune/sndbuf"),
        **_vhost(element, host),
    }
    if not managed and name is None:
        raise refused(element, "a tap of the host's without its name", path="target/@dev")
    return Backend(option("-netdev", type="tap", id=id, **facts), spawns=script is not None)


def _on_bridge(element: Element, id: str, host: Host, bridge: str) -> Backend:
    if element.get("virtualport/@type") is not None:
        raise refused(element, f"a port of {element.get('virtualport/@type')}", path="virtualport/@type")
    if element.first("vlan") is not None:
        raise refused(element, "a VLAN of a bridge", path="vlan/@trunk")
    if _queues(element) is not None:
        raise refused(element, "more than one queue on a bridge", path="driver/@queues")
    facts = {"br": bridge, "helper": _BRIDGE_HELPER, "sndbuf": whole(element, "tune/sndbuf"), **_vhost(element, host)}
    return Backend(option("-netdev", type="tap", id=id, **facts), spawns=True)


def _bridge(element: Element, id: str, host: Host) -> Backend:
    return _on_bridge(element, id, host, given(element, "source/@bridge"))


def _network(element: Element, id: str, host: Host) -> Backend:
    name = given(element, "source/@network")
    bridge = element.get("source/@bridge") or _DEFAULT_NETWORK.get(name)
    if bridge is None:
        raise refused(element, f"libvirt's network {name!r}, whose bridge only libvirt knows", path="source/@network")
    return _on_bridge(element, id, host, bridge)


def _user(element: Element, id: str, _host: Host) -> Backend:
    facts: dict[str, Any] = {}
    if (forward := element.first("portForward")) is not None:  # libvirt refuses it as well
        what = "<portForward> needs passt: QEMU's own user network has no ports of the guest"
        raise InputError(what, at=forward.position, remedy="add <backend type='passt'/>", rule="host-side")
    for ip in element.all("ip"):
        address, family = given(ip, "@address"), ip.get("@family") or "ipv4"
        prefix = ip.get("@prefix")
        if family == "ipv6":
            facts.update({"ipv6-prefix": address, "ipv6-prefixlen": int(prefix) if prefix else None})
        else:
            facts["net"] = f"{address}/{prefix or 24}"
    return Backend(option("-netdev", type="user", id=id, **facts))


def _passt(element: Element, id: str, host: Host) -> Backend:
    """A passt process of the interface's own, as libvirt starts it."""
    socket = host.file(f"{id}.passt")
    words = ["passt", "--foreground", "--quiet", "--one-off", "--socket", str(socket)]
    mac = element.get("mac/@address")
    if mac:
        words += ["--mac-addr", mac]
    if element.get("source/@dev"):
        words += ["--interface", element.get("source/@dev") or ""]
    if element.get("backend/@logFile"):
        words += ["--log-file", element.get("backend/@logFile") or ""]
    for ip in element.all("ip"):
        words += ["--address", given(ip, "@address")]
        if ip.get("@prefix") and (ip.get("@family") or "ipv4") == "ipv4":
            words += ["--netmask", str(ipaddress.ip_network(f"0.0.0.0/{ip.get('@prefix')}").netmask)]
    for forward in element.all("portForward"):
        words += _forwards(forward)
    made = option("-netdev", type="stream", id=id, server=False, addr={"type": "unix", "path": str(socket)})
    return Backend(made, processes=(Process(tuple(words), socket),))


def _forwards(forward: Element) -> list[str]:
    prefix = forward.get("@address") or ""
    prefix += ("%" + (forward.get("@dev") or "")) if forward.get("@dev") else ""
    specs = []
    for row in forward.all("range"):
        text = given(row, "@start") + (f"-{row.get('@end')}" if row.get("@end") else "")
        if row.get("@exclude") == "yes":
            text = "~" + text
        elif row.get("@to"):
            text += f":{row.get('@to')}"
        specs.append(text)
    flag = "--udp-ports" if forward.get("@proto") == "udp" else "--tcp-ports"
    return [flag, (f"{prefix}/" if prefix else "") + (",".join(specs) or "all")]


def _vhostuser(element: Element, id: str, host: Host) -> Backend:
    server = element.get("source/@mode") == "server"
    path = given(element, "source/@path")
    wish = element.first("source/reconnect")
    reconnect = wish.get("@timeout") if wish is not None and switch(wish, "@enabled") else None
    # a server that does not wait: the switch may come later, and the guest starts without
    listens: dict[str, Any] = {"server": True, "wait": False} if server else reconnecting(reconnect, host)
    name = f"char{id.removeprefix('host')}"
    return Backend(
        (
            *listed("-chardev", "socket", id=name, path=path, **listens),
            *option("-netdev", type="vhost-user", chardev=name, id=id, queues=_queues(element)),
        )
    )


def _vdpa(element: Element, id: str, _host: Host) -> Backend:
    return Backend(
        option("-netdev", type="vhost-vdpa", id=id, vhostdev=given(element, "source/@dev"), queues=_queues(element))
    )


def _socket(role: str) -> Callable[[Element, str, Host], Backend]:
    def make(element: Element, id: str, _host: Host) -> Backend:
        address, port = element.get("source/@address") or "", given(element, "source/@port")
        local = element.get("source/local/@address")
        if role == "udp":
            ours = f"{local}:{given(element, 'source/local/@port')}"
            return Backend(option("-netdev", type="socket", id=id, udp=f"{address}:{port}", localaddr=ours))
        return Backend(option("-netdev", type="socket", id=id, **{role: f"{address}:{port}"}))

    return make


def _hostdev(element: Element) -> Backend:
    """An SR-IOV function: vfio-pci, whose host address is the source's."""
    source = element.first("source")
    if source is None:
        raise refused(element, "an SR-IOV function without its place on the host", path="source/address/@slot")
    return Backend(properties={"host": pci_name(source)})


#: libvirt's interface types; internal and direct need libvirt, udp is socket's point to point
KINDS: dict[str, Callable[[Element, str, Host], Backend]] = {
    "user": _user,
    "ethernet": _tap,
    "bridge": _bridge,
    "network": _network,
    "vhostuser": _vhostuser,
    "vdpa": _vdpa,
    "server": _socket("listen"),
    "client": _socket("connect"),
    "mcast": _socket("mcast"),
    "udp": _socket("udp"),
    "null": lambda _element, id, _host: Backend(option("-netdev", type="hubport", id=id, hubid=_number(id))),
}


def _number(id: str) -> int:
    """A hub of its own for each unconnected interface.

    >>> _number("hostnet12")
    12
    """
    digits = decimal("".join(filter(DIGITS.__contains__, id)))
    return sum(id.encode()) if digits is None else digits % 2**31
