"""Disks: -blockdev, the throttle groups and secrets around them, and the host-side properties of the drive.

A disk is a stack of nodes, named after its target (``vda``), the lowest first:

    vda-file        where the bytes are: a file, a block device, a server
    vda             what they mean: raw, qcow2, luks
    vda-copy        what was read behind it is kept, where <driver copy_on_read='on'> wants it
    vda-throttle, vda-transient    limits, and an overlay: see ``layers``

The images behind it (<backingStore>) are ``vda-1-file`` and ``vda-1``, and so on down.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mdtool.commandline.companion import Process
from mdtool.errors import InputError
from mdtool.guest.platform.units import bytes_of, names
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
    threads,
    whole,
)
from mdtool.launch.backends.layers import is_transient, layers_over, top_layer
from mdtool.machine.buses.providers import provider_of
from mdtool.machine.tree import Node

Facts = dict[str, Any]

#: cache mode -> (direct, no-flush, the drive's write-cache)
_CACHES = {
    "none": (True, False, True),
    "writeback": (False, False, True),
    "writethrough": (False, False, False),
    "directsync": (True, False, False),
    "unsafe": (False, True, True),
}
_FORMATS = names("raw qcow2 qcow qed vmdk vdi vhdx vpc bochs cloop dmg parallels luks fat")
#: QEMU's names of formats that libvirt calls otherwise
_RENAMED = {"vhd": "vpc"}


_STATISTICS = (10, 1)  # the QEMU whose disks count by intervals


def disk(element: Element, node: Node | None, host: Host) -> Backend:
    """The stack of a <disk>, and ``drive`` with what belongs to it; no drive for an empty tray."""
    kind = element.get("@type") or "file"
    if node is not None and provider_of(node.driver).whole:
        return NOTHING  # the drive on it has the medium
    if kind == "vhostuser":
        return _vhost_user(element, node, host)
    name = node_name(element)
    host_only = policies(element, node, host)
    if is_empty(element):
        return Backend(properties=host_only)
    if element.get("target/@bus") == "sd":
        return _sd(element)
    stack = _reservations(element, host) + _stack(element, name, host)
    return stack + Backend(properties={"drive": top_node(element), **host_only})


def node_name(element: Element) -> str:
    """What a disk's nodes are named after: its target, cut to leave room in the 31 characters of a node name."""
    return given(element, "target/@dev")[:20]


def top_node(element: Element) -> str:
    name = node_name(element)
    if over := top_layer(element, name):
        return over
    return f"{name}-copy" if element.get("driver/@copy_on_read") == "on" else name


def is_empty(element: Element) -> bool:
    """Whether a <disk> has no medium, as a CD drive or a floppy drive may."""
    source = element.first("source")
    if source is None:
        return True
    return not source.children and not any(
        source.get(f"@{name}") for name in ("file", "dev", "dir", "name", "protocol", "volume", "type")
    )


def is_readonly(element: Element) -> bool:
    """Whether nothing may be written into the image: that of a <transient/> disk keeps what it has."""
    return element.first("readonly") is not None or element.get("@device") == "cdrom" or is_transient(element)


def policies(element: Element, node: Node | None, host: Host) -> Facts:
    """Properties of the drive that only the host has a say in."""
    found: Facts = {}
    report = element.get("driver/@error_policy")
    if report:
        found["werror"] = "enospc" if report == "enospace" else report
        if report != "enospace":
            found["rerror"] = report  # reading never fails for want of space
    read = element.get("driver/@rerror_policy")
    if read:
        found["rerror"] = read
    if element.first("shareable") is not None:
        found["share-rw"] = True
    intervals = [whole(one, "@interval") for one in element.all("driver/statistics/statistic")]
    if intervals:
        if host.version < _STATISTICS:
            what = f"<statistic> needs QEMU {'.'.join(map(str, _STATISTICS))}"
            raise InputError(what, at=element.at("driver/statistics"), remedy="remove it", rule="host-side")
        found["stats-intervals"] = intervals
    cache = element.get("driver/@cache")
    if cache in _CACHES and element.get("@device") != "lun":
        found["write-cache"] = "on" if _CACHES[cache][2] else "off"
    if node is not None and node.driver == "usb-storage":
        return {name: value for name, value in found.items() if name not in ("werror", "rerror")}
    return found | threads(element, host)


# --- the stack -----------------------------------------------------------------------------------------------------


def _stack(element: Element, name: str, host: Host) -> Backend:
    cache = element.get("driver/@cache")
    if cache is not None and cache not in (*_CACHES, "default"):
        raise refused(element, f"cache mode {cache!r}", path="driver/@cache")
    made = _layers(element, element, host)
    below = name
    if element.get("driver/@copy_on_read") == "on":
        below = f"{name}-copy"
        made += Backend(option("-blockdev", driver="copy-on-read", node_name=below, file=name))
    return made + layers_over(element, name, below, host)


#: where the host's asynchronous I/O is a choice
_AIO = ("file", "host_device", "host_cdrom")
#: formats of images that have nothing behind them
_FLAT = ("raw", "luks", "fat")


def _layers(disk: Element, holder: Element, host: Host, depth: int = 0) -> Backend:
    """The nodes of one image, those behind it first.  ``holder`` is the <disk> or a <backingStore>."""
    source, behind = holder.first("source"), holder.first("backingStore")
    if source is None:
        raise InputError("an image without <source>", at=holder.position, expected="<source>", rule="missing")
    make = SOURCES.get(holder.get("@type") or "file")
    if make is None:
        raise refused(disk, f"a disk of type {holder.get('@type')!r}")
    name, cache, kind = _layer_name(disk, depth), _cache(disk), _format(disk, holder)
    storage, secrets, processes = make(disk, source, host)
    encrypted, locks = _encryption(source, holder, kind, name)
    image: Facts = {
        "driver": "raw" if kind == "fat" else kind,
        "node-name": name,
        "read-only": depth > 0 or is_readonly(disk),
        "cache": cache,
        **(_of_top(disk, kind, host) if depth == 0 else {}),
        **(_slice(source) if kind == "raw" else {}),
        **encrypted,
        "file": f"{name}-file",
    }
    image = {key: value for key, value in image.items() if value is not None}
    made = Backend(tuple(word for secret in secrets + locks for word in secret_object(secret)))
    if behind is not None:
        is_there = behind.get("@type") is not None or behind.first("source") is not None
        if is_there:
            made += _layers(disk, behind, host, depth + 1)
        if kind not in _FLAT:  # null says that there is nothing behind, where a missing key lets QEMU look into the image
            image["backing"] = _layer_name(disk, depth + 1) if is_there else None
    aio = disk.get("driver/@io") if storage["driver"] in _AIO else None
    below = {"node-name": f"{name}-file", "cache": cache, "auto-read-only": True, "discard": "unmap", "aio": aio}
    made += Backend(option("-blockdev", **storage, **below), secrets=secrets, processes=processes)
    return made + Backend(("-blockdev", json.dumps(image)), secrets=locks)


def _layer_name(disk: Element, depth: int) -> str:
    return f"{node_name(disk)}-{depth}" if depth else node_name(disk)


def _format(disk: Element, holder: Element) -> str:
    """QEMU's name of the format of an image."""
    wish = holder.get("driver/@type" if holder is disk else "format/@type") or "raw"
    kind = _RENAMED.get(wish, wish)
    if kind not in _FORMATS:
        raise refused(disk, f"an image of format {kind!r}", path="driver/@type")
    return kind


def _slice(source: Element) -> Facts:
    part = source.first("slices/slice")
    return {} if part is None else {"offset": whole(part, "@offset"), "size": whole(part, "@size")}


def _of_top(disk: Element, kind: str, host: Host) -> Facts:
    """What is said of the image that is written to."""
    found = {"discard": disk.get("driver/@discard"), "detect-zeroes": _detect(disk)}
    return found | (_of_qcow2(disk, host) if kind == "qcow2" else {})


def _of_qcow2(disk: Element, host: Host) -> Facts:
    """How QEMU keeps the tables of a qcow2 image."""
    found: Facts = {}
    size = disk.first("driver/metadata_cache/max_size")
    if size is not None:
        found["cache-size"] = bytes_of(size.text, size.get("@unit") or "bytes", size)
    if (kept := switch(disk, "driver/@discard_no_unref")) is not None:
        if host.version < (8, 1):
            raise InputError("discard_no_unref needs QEMU 8.1", at=disk.at("driver/@discard_no_unref"), rule="host-side")
        found["discard-no-unref"] = kept
    return found


def _cache(disk: Element) -> Facts | None:
    mode = disk.get("driver/@cache")
    if mode not in _CACHES:
        return None
    direct, no_flush, _write = _CACHES[mode]
    return {"direct": direct, "no-flush": no_flush}


def _detect(disk: Element) -> str | None:
    wish = disk.get("driver/@detect_zeroes")
    if wish == "unmap" and disk.get("driver/@discard") != "unmap":
        return "on"  # unmapping what is not discarded is refused by QEMU; libvirt degrades it the same way
    return wish


def _encryption(source: Element, holder: Element, kind: str, name: str) -> tuple[Facts, tuple[Secret, ...]]:
    encryption = source.first("encryption") or holder.first("encryption")
    if encryption is None:
        return {}, ()
    secret = encryption.first("secret")
    key = (secret.get("@uuid") or secret.get("@usage")) if secret is not None else None
    lock = Secret(f"{name}-key", key=key, kind="passphrase")
    form = encryption.get("@format") or "luks"
    if kind == "qcow2":
        return {"encrypt": {"format": "aes" if form == "qcow" else form, "key-secret": lock.name}}, (lock,)
    if kind in ("raw", "luks") and form == "luks":
        return {"driver": "luks", "key-secret": lock.name}, (lock,)
    raise InputError(
        f"{form} encryption of a {kind} image",
        at=encryption.position,
        expected="luks on raw or qcow2",
        rule="encryption",
    )


# --- where the bytes are -------------------------------------------------------------------------------------------

Storage = tuple[Facts, tuple[Secret, ...], tuple[Process, ...]]
Source = Callable[[Element, Element, Host], Storage]


def _file(_disk: Element, source: Element, _host: Host) -> Storage:
    return {"driver": "file", "filename": given(source, "@file")}, (), ()


def _block(disk: Element, source: Element, host: Host) -> Storage:
    facts: Facts = {"driver": "host_device", "filename": given(source, "@dev")}
    reservations = source.first("reservations")
    if reservations is None:
        return facts, (), ()
    facts["pr-manager"] = reservation_id(disk)
    if reservations.get("@managed") != "yes":
        return facts, (), ()
    socket = host.file(f"{reservation_id(disk)}.sock")
    return facts, (), (Process(("qemu-pr-helper", "-k", str(socket)), socket),)


def reservation_id(disk: Element) -> str:
    return f"pr-{node_name(disk)}"


def _reservations(disk: Element, host: Host) -> Backend:
    """The object through which a disk asks for persistent reservations."""
    wish = disk.first("source/reservations")
    if wish is None:
        return NOTHING
    id = reservation_id(disk)
    path = wish.get("source/@path") if wish.get("@managed") != "yes" else str(host.file(f"{id}.sock"))
    return Backend(option("-object", qom_type="pr-manager-helper", id=id, path=path))


def _dir(disk: Element, source: Element, _host: Host) -> Storage:
    floppy = True if disk.get("@device") == "floppy" else None
    return {"driver": "vvfat", "dir": given(source, "@dir"), "floppy": floppy, "rw": False}, (), ()


def _nvme(_disk: Element, source: Element, _host: Host) -> Storage:
    from mdtool.launch.backends.hostdev import pci_name

    return {"driver": "nvme", "device": pci_name(source), "namespace": whole(source, "@namespace") or 1}, (), ()


def _vdpa(_disk: Element, source: Element, _host: Host) -> Storage:
    return {"driver": "virtio-blk-vhost-vdpa", "path": given(source, "@dev")}, (), ()


def _network(disk: Element, source: Element, host: Host) -> Storage:
    protocol = source.get("@protocol") or ""
    make = PROTOCOLS.get(protocol)
    if make is None:
        raise refused(disk, f"a disk behind {protocol!r}", path="source/@protocol")
    return make(disk, source, host)


def _server(source: Element, port: int) -> Facts:
    """A <host> as QEMU's SocketAddress."""
    where = source.first("host")
    if where is not None and where.get("@transport") == "unix":
        return {"type": "unix", "path": given(where, "@socket")}
    name = where.get("@name") if where is not None else None
    return {
        "type": "inet",
        "host": name or "localhost",
        "port": (where.get("@port") if where is not None else None) or str(port),
    }


def _nbd(disk: Element, source: Element, _host: Host) -> Storage:
    if switch(source, "@tls"):
        raise refused(disk, "NBD with TLS", path="source/@tls")
    wish = source.first("reconnect")
    delay = whole(wish, "@delay") if wish is not None else None
    facts = {"driver": "nbd", "server": _server(source, 10809), "export": source.get("@name"), "reconnect-delay": delay}
    return facts, (), ()


def _auth(disk: Element, source: Element) -> tuple[str | None, Secret | None]:
    auth = source.first("auth") or disk.first("auth")
    if auth is None:
        return None, None
    secret = auth.first("secret")
    key = (secret.get("@usage") or secret.get("@uuid")) if secret is not None else None
    kind = secret.get("@type") if secret is not None else None
    return auth.get("@username"), Secret(f"{node_name(disk)}-secret", key=key, kind=kind)


def _iscsi(disk: Element, source: Element, _host: Host) -> Storage:
    target, _, lun = given(source, "@name").partition("/")
    server = _server(source, 3260)
    user, secret = _auth(disk, source)
    where = server["host"] if ":" not in server.get("host", "") else f"[{server['host']}]"
    facts = {
        "driver": "iscsi",
        "portal": f"{where}:{server['port']}",
        "target": target,
        "lun": int(lun or 0),
        "transport": "tcp",
        "user": user,
        "password-secret": secret.name if secret else None,
        "initiator-name": source.get("initiator/iqn/@name"),
    }
    return facts, (secret,) if secret else (), ()


_PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990}


def _url(disk: Element, source: Element, _host: Host) -> Storage:
    protocol = source.get("@protocol") or ""
    server = _server(source, _PORTS[protocol])
    where = server["host"] if ":" not in server["host"] else f"[{server['host']}]"
    query = f"?{source.get('@query')}" if source.get("@query") else ""
    if source.first("cookies") is not None:
        raise refused(disk, "cookies", path="source/cookies")
    user, secret = _auth(disk, source)
    facts = {
        "driver": protocol,
        "url": f"{protocol}://{where}:{server['port']}/{(source.get('@name') or '').lstrip('/')}{query}",
        "username": user,
        "password-secret": secret.name if secret else None,
        "sslverify": switch(source, "ssl/@verify") if protocol in ("https", "ftps") else None,
        "readahead": whole(source, "readahead/@size"),
        "timeout": whole(source, "timeout/@seconds"),
    }
    return facts, (secret,) if secret else (), ()


def _ssh(disk: Element, source: Element, _host: Host) -> Storage:
    server = _server(source, 22)
    user, _secret = _auth(disk, source)
    known = source.first("knownHosts")
    facts = {
        "driver": "ssh",
        "path": "/" + given(source, "@name").lstrip("/"),
        "server": {"host": server["host"], "port": server["port"]},
        "user": user or source.get("identity/@username"),
        "host-key-check": {"mode": "known_hosts"} if known is not None else None,
    }
    return facts, (), ()


PROTOCOLS: dict[str, Source] = {
    "nbd": _nbd,
    "iscsi": _iscsi,
    "http": _url,
    "https": _url,
    "ftp": _url,
    "ftps": _url,
    "ssh": _ssh,
}

SOURCES: dict[str, Source] = {
    "file": _file,
    "block": _block,
    "dir": _dir,
    "network": _network,
    "nvme": _nvme,
    "vhostvdpa": _vdpa,
}


def _vhost_user(element: Element, node: Node | None, host: Host) -> Backend:
    if is_transient(element):
        raise refused(element, "<transient/> of a disk that another process serves", path="transient")
    id = f"chr-{node_name(element)}"
    wish = element.first("source/reconnect")
    reconnect = wish.get("@timeout") if wish is not None and switch(wish, "@enabled") else None
    words = listed("-chardev", "socket", id=id, path=given(element, "source/@path"), **reconnecting(reconnect, host))
    return Backend(words, {"chardev": id})


def _sd(element: Element) -> Backend:
    """An SD card: the slot is the board's own and takes no -blockdev."""
    snapshot = True if is_transient(element) else None
    if (element.get("@type") or "file") not in ("file", "block"):
        raise refused(element, "an SD card that is no file or block device")
    path = element.get("source/@file") or element.get("source/@dev")
    return Backend(
        listed(
            "-drive",
            file=path,
            format=element.get("driver/@type"),
            **{"if": "sd"},
            index=sd_index(element),
            snapshot=snapshot,
        )
    )


def sd_index(element: Element) -> int:
    """``sda`` is 0, ``sdb`` 1."""
    return ord(given(element, "target/@dev")[-1]) - ord("a")
