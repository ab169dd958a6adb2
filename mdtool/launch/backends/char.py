"""Character devices: serial, parallel, console, channel, smartcard, redirdev, and all others with a chardev."""

from __future__ import annotations

from collections.abc import Callable

from mdtool.guest.xml import Element
from mdtool.launch.backends.base import (
    NOTHING,
    Backend,
    Host,
    Secret,
    given,
    listed,
    option,
    reconnecting,
    refused,
    secret_object,
    switch,
)
from mdtool.machine.tree import Node
from mdtool.records import replace

Words = tuple[str, ...]


def chardev(element: Element, id: str, host: Host, *, kind: str | None = None) -> Backend:
    """``-chardev`` for an element with libvirt's <source>; ``kind`` where it is not the element's own type.

    Raises InputError for a type that QEMU has not or that needs libvirt.
    """
    kind = kind or element.get("@type") or "pty"
    make = KINDS.get(kind)
    if make is None:
        raise refused(element, f"a chardev of type {kind!r}")
    log = element.first("log")
    made = make(element, id, host)
    if log is None:
        return made
    flag, value = made.options[-2:]
    value += "".join(f",{word}" for word in listed("", logfile=log.get("@file"), logappend=log.get("@append"))[1:])
    return replace(made, options=(*made.options[:-2], flag, value))


def _simple(backend: str) -> Callable[[Element, str, Host], Backend]:
    return lambda _element, id, _host: Backend(listed("-chardev", backend, id=id))


def _path(backend: str) -> Callable[[Element, str, Host], Backend]:
    return lambda element, id, _host: Backend(
        listed("-chardev", backend, id=id, path=given(element, "source/@path"), append=element.get("source/@append"))
    )


def _device(element: Element, id: str, _host: Host) -> Backend:
    backend = "parallel" if element.tag == "parallel" else "serial"
    return Backend(listed("-chardev", backend, id=id, path=given(element, "source/@path")))


def _unix(element: Element, id: str, host: Host) -> Backend:
    path = element.get("source/@path") or str(host.file(element.get("target/@name") or f"{id}.sock"))
    server = element.get("source/@mode") != "connect"
    if element.get("source/@path") is None and element.get("source/@mode") is None:
        server = True  # libvirt's own choice for a channel that says nothing
    listens = {"server": True, "wait": False} if server else reconnecting(_reconnect(element), host)
    return Backend(listed("-chardev", "socket", id=id, path=path, **listens))


def _reconnect(element: Element) -> str | None:
    """Seconds between attempts; 0 where reconnecting is switched off, None if unset."""
    wish = element.first("source/reconnect")
    if wish is None:
        return None
    return wish.get("@timeout") if switch(wish, "@enabled") else "0"


def _tcp(element: Element, id: str, host: Host) -> Backend:
    # A TCP chardev may have two <source>, one to listen and one to connect; libvirt's -chardev takes the last
    source = list(element.all("source"))[-1] if element.first("source") is not None else element
    server = source.get("@mode") == "bind"
    protocol = element.get("protocol/@type") or "raw"
    tls = switch(source, "@tls")
    secrets: tuple[Secret, ...] = ()
    before: Words = ()
    if tls:
        before = option(
            "-object",
            qom_type="tls-creds-x509",
            id=f"obj{id}_tls0",
            dir="/etc/pki/libvirt-chardev" if _is_dir("/etc/pki/libvirt-chardev") else "/etc/pki/qemu",
            endpoint="server" if server else "client",
            verify_peer=True,
        )
    listens = {"server": True, "wait": False} if server else reconnecting(_reconnect(element), host)
    made = listed(
        "-chardev",
        "socket",
        id=id,
        host=source.get("@host") or "",
        port=given(source, "@service"),
        telnet=True if protocol in ("telnet", "telnets") else None,
        tls_creds=f"obj{id}_tls0" if tls else None,
        **listens,
    )
    return Backend((*before, *made), secrets=secrets)


def _is_dir(path: str) -> bool:
    from os.path import isdir

    return isdir(path)


def _udp(element: Element, id: str, _host: Host) -> Backend:
    connect = next((s for s in element.all("source") if s.get("@mode") == "connect"), None)
    bind = next((s for s in element.all("source") if s.get("@mode") == "bind"), None)
    if connect is None:
        raise refused(element, "a udp chardev without a place to send to", path="source/@mode")
    return Backend(
        listed(
            "-chardev",
            "udp",
            id=id,
            host=connect.get("@host") or "",
            port=given(connect, "@service"),
            localaddr=(bind.get("@host") or "") if bind is not None else None,
            localport=(bind.get("@service") or "0") if bind is not None else None,
        )
    )


def _spicevmc(element: Element, id: str, _host: Host) -> Backend:
    name = {"redirdev": "usbredir", "smartcard": "smartcard"}.get(element.tag, "vdagent")
    return Backend(listed("-chardev", "spicevmc", id=id, name=name))


def _spiceport(element: Element, id: str, _host: Host) -> Backend:
    return Backend(listed("-chardev", "spiceport", id=id, name=given(element, "source/@channel")))


def _vdagent(element: Element, id: str, _host: Host) -> Backend:
    return Backend(
        listed(
            "-chardev",
            "qemu-vdagent",
            id=id,
            name="vdagent",
            clipboard=switch(element, "source/clipboard/@copypaste"),
            mouse={"client": True, "server": False}.get(element.get("source/mouse/@mode") or ""),
        )
    )


def _dbus(element: Element, id: str, _host: Host) -> Backend:
    return Backend(listed("-chardev", "dbus", id=id, name=given(element, "source/@channel")))


#: libvirt's chardev types; nmdm is bhyve's
KINDS: dict[str, Callable[[Element, str, Host], Backend]] = {
    "null": _simple("null"),
    "vc": _simple("vc"),
    "pty": _simple("pty"),
    "stdio": _simple("stdio"),
    "file": _path("file"),
    "pipe": _path("pipe"),
    "dev": _device,
    "unix": _unix,
    "tcp": _tcp,
    "udp": _udp,
    "spicevmc": _spicevmc,
    "spiceport": _spiceport,
    "qemu-vdagent": _vdagent,
    "dbus": _dbus,
}


def character(element: Element, node: Node | None, host: Host) -> Backend:
    """serial, parallel, console, channel: a chardev, and ``-serial`` where the port is the machine's own."""
    if element.get("target/@type") == "guestfwd":
        return _guestfwd(element, host)
    id = node.id if node is not None and node.id is not None else builtin_id(element, host)
    made = chardev(element, f"char{id}", host)
    if node is not None:
        return replace(made, properties={"chardev": f"char{id}"})
    if element.tag in ("serial", "console"):
        return replace(made, options=(*made.options, "-serial", f"chardev:char{id}"))
    return made


def builtin_id(element: Element, host: Host) -> str:
    """What libvirt calls a port that the machine brings along: ``serial0``."""
    same = [device for device in host.guest.devices if device.tag == element.tag]
    index = next((i for i, device in enumerate(same) if device is element), 0)
    return f"{element.tag}{element.get('target/@port') or index}"


def _guestfwd(element: Element, host: Host) -> Backend:
    id = f"channel{[d for d in host.guest.devices if d.tag == 'channel'].index(element)}"
    made = chardev(element, f"char{id}", host)
    where = f"tcp:{given(element, 'target/@address')}:{given(element, 'target/@port')}"
    words = ("-netdev", f"user,id={id},guestfwd={where}-chardev:char{id}")
    return replace(made, options=(*made.options, *words))


def smartcard(element: Element, node: Node | None, host: Host) -> Backend:
    """Only a passed-through card has a host side; the emulated ones' certificates are properties."""
    if node is None or element.get("@mode") != "passthrough":
        return NOTHING
    made = chardev(element, f"char{node.id}", host)
    return replace(made, properties={"chardev": f"char{node.id}"})


def redirdev(element: Element, node: Node | None, host: Host) -> Backend:
    """USB redirection: the chardev that the redirected device comes through."""
    if node is None:
        return NOTHING
    made = chardev(element, f"char{node.id}", host)
    return replace(made, properties={"chardev": f"char{node.id}"})


__all__ = ["character", "chardev", "redirdev", "secret_object", "smartcard"]
