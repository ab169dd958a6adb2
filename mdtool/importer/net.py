"""Networks: what a -netdev has behind it, as an <interface>'s type and children."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from mdtool.importer.markup import Keys, NoWords, tag

Bag = Mapping[str, Any]
#: (type of <interface>, its children)
Network = tuple[str, str]


def network(bag: Bag, chars: Callable[[str], Bag]) -> Network:
    """Raises NoWords for what <interface> cannot say; ``chars`` finds a chardev."""
    keys = Keys(bag)
    kind = str(keys.take("type"))
    keys.take("id")
    make = _KINDS.get(kind)
    if make is None:
        raise NoWords(kind)
    made = make(keys, chars)
    keys.done()
    return made


def _user(keys: Keys, _: Callable[[str], Bag]) -> Network:
    """libvirt has <portForward> for passt alone, which is another network to the guest: hostfwd= has no words."""
    net = keys.take("net")
    if net is None:
        return "user", ""
    try:
        found = ipaddress.ip_interface(net)
    except ValueError:
        raise NoWords(f"net={net}") from None
    return "user", tag("ip", family="ipv4", address=found.ip, prefix=found.network.prefixlen)


def _passt(keys: Keys, _: Callable[[str], Bag]) -> Network:
    forwards: dict[str, list[str]] = {"tcp": [], "udp": []}
    for key in list(keys.left):
        if match := re.fullmatch(r"(tcp|udp)-ports(?:\.\d+(?:\.str)?)?", key):
            value = keys.take(key)
            forwards[match[1]] += value if isinstance(value, list) else [value]
    inner = tag("backend", type_="passt")
    for protocol, specs in forwards.items():
        ranges = ""
        for spec in specs:
            match = re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", str(spec))
            if match is None:
                raise NoWords(f"{protocol}-ports")
            ranges += tag("range", start=match[1], end=match[2], to=match[3])
        inner += tag("portForward", ranges, proto=protocol) if ranges else ""
    source = keys.take("interface")
    return "user", (tag("source", dev=source) if source else "") + inner


def _tap(keys: Keys, _: Callable[[str], Bag]) -> Network:
    """QEMU runs /etc/qemu-ifup and /etc/qemu-ifdown unless the option says otherwise."""
    if "br" in keys.left or "helper" in keys.left:
        return _bridge(keys, _)
    name = keys.take("ifname")
    scripts = {
        word: keys.take(word, f"/etc/qemu-if{'up' if word == 'script' else 'down'}") for word in ("script", "downscript")
    }
    inner = "".join(tag(word, path=path) for word, path in scripts.items() if path not in ("no", ""))
    inner += tag("target", dev=name, managed="no" if scripts["script"] in ("no", "") else None) if name else ""
    if scripts["script"] in ("no", "") and not name:
        raise NoWords("a tap without a name")
    return "ethernet", inner + _driver(keys)


def _driver(keys: Keys) -> str:
    vhost, queues, sndbuf = keys.switch("vhost", False), keys.take("queues"), keys.take("sndbuf")
    made = tag("driver", name="vhost" if vhost else "qemu", queues=queues)
    return made + (tag("tune", tag("sndbuf", str(sndbuf))) if sndbuf else "")


def _bridge(keys: Keys, _: Callable[[str], Bag]) -> Network:
    helper = str(keys.take("helper", "qemu-bridge-helper"))
    if not helper.endswith("qemu-bridge-helper"):
        raise NoWords("helper")
    inner = tag("source", bridge=keys.take("br", "br0"))
    return "bridge", inner + _driver(keys)


def _socket(keys: Keys, _: Callable[[str], Bag]) -> Network:
    local = keys.take("localaddr")
    for word, kind in (("listen", "server"), ("connect", "client"), ("mcast", "mcast"), ("udp", "udp")):
        if word in keys.left:
            host, _colon, port = str(keys.take(word)).rpartition(":")
            inner = ""
            if local is not None:
                if kind != "udp":
                    raise NoWords("localaddr")
                here, _colon, number = str(local).rpartition(":")
                inner = tag("local", address=here, port=number)
            return kind, tag("source", inner, address=host or ("0.0.0.0" if kind == "server" else "127.0.0.1"), port=port)
    raise NoWords("socket")


def _vhost_user(keys: Keys, chars: Callable[[str], Bag]) -> Network:
    socket = Keys(chars(str(keys.take("chardev"))))
    keys.switch("vhostforce")
    path, server = socket.take("path"), socket.switch("server", False)
    for word in ("backend", "id", "wait"):
        socket.take(word)
    socket.done()
    if path is None:
        raise NoWords("a vhost-user socket that is no file")
    queues = keys.take("queues")
    inner = tag("source", type_="unix", path=path, mode="server" if server else "client")
    return "vhostuser", inner + (tag("driver", queues=queues) if queues else "")


def _vdpa(keys: Keys, _: Callable[[str], Bag]) -> Network:
    return "vdpa", tag("source", dev=keys.take("vhostdev"))


_KINDS: Mapping[str, Callable[[Keys, Callable[[str], Bag]], Network]] = {
    "user": _user,
    "passt": _passt,
    "tap": _tap,
    "bridge": _bridge,
    "socket": _socket,
    "vhost-user": _vhost_user,
    "vhost-vdpa": _vdpa,
}
