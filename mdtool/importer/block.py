"""Disks: what a -drive or a chain of -blockdev has behind it, as the children of <disk>."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from mdtool.commandline.option import block_keys, json_from_text
from mdtool.importer.markup import SWITCH, Keys, NoWords, on, tag
from mdtool.launch.backends.block import PROTOCOLS
from mdtool.records import NamedTuple

Bag = Mapping[str, Any]

#: (direct, no-flush, whether the drive says that it caches) -> cache mode
_CACHES = {
    (False, False, True): None,
    (True, False, True): "none",
    (False, True, True): "unsafe",
    (False, False, False): "writethrough",
    (True, False, False): "directsync",
}
_DISCARD = {"unmap": "unmap", "on": "unmap", "ignore": "ignore", "off": "ignore"}
_AIO = {"native": "native", "threads": "threads", "io_uring": "io_uring"}
_ZEROES = {"on": "on", "off": "off", "unmap": "unmap"}
_MODES = dict.fromkeys(("none", "writeback", "writethrough", "directsync", "unsafe"))
#: how QEMU reads a path without a format
FORMATS = ("raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "luks")
_GUESS = {"qcow2": "qcow2", "qcow": "qcow", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vhd": "vpc"}


class DiskSource(NamedTuple):
    """A disk's host side: its type, the attributes of <driver>, its <source>, and whether it may be written."""

    kind: str = "file"
    driver: Mapping[str, Any] = {}
    source: str = ""
    readonly: bool = False
    used: tuple[str, ...] = ()


def image(bag: Bag, named: Mapping[str, Bag], absolute: Callable[[str], str], *, write_cache: bool = True) -> DiskSource:
    """The image of a drive; ``named`` holds the others, by node name.  Raises NoWords for what <disk> cannot say."""
    if "node-name" in bag and "file" not in bag and "if" not in bag and "driver" in bag:
        bag = {"driver": "raw", "file": bag}
    return _format(bag, named, absolute, write_cache)


def _format(bag: Bag, named: Mapping[str, Bag], absolute: Callable[[str], str], write_cache: bool) -> DiskSource:
    keys = Keys(block_keys(bag))
    for key in ("id", "if", "index", "bus", "unit", "node-name"):
        keys.take(key)
    is_cd = keys.take("media") == "cdrom"  # whatever the device is: QEMU does not write to it
    below: Any = keys.take("file")
    used: tuple[str, ...] = ()
    if below is None and "filename" in keys.left:
        below = {"driver": "file", "filename": keys.take("filename")}
    if isinstance(below, str) and below in named and named[below] is not bag:
        used, below = (below,), dict(named[below])
        if below.get("driver") in FORMATS:
            raise NoWords("a format in a format")
    if isinstance(below, str) and below.startswith("json:"):
        try:
            below = json_from_text(below[5:])
        except (ValueError, RecursionError):
            raise NoWords("json:") from None
    if isinstance(below, dict) and "driver" not in below:
        below = {"driver": "file", **below}
    source = _where(below, absolute, keys)
    form = keys.take("format") or keys.take("driver")
    kind, inner, storage = source
    if form is None:
        guess = _GUESS.get(str(below).rpartition(".")[2].lower(), "raw") if isinstance(below, str) else "raw"
        form = guess if kind != "dir" else "fat"
    if form not in (*FORMATS, "fat"):
        raise NoWords(f"driver={form}")
    readonly = _either(keys, "readonly", "read-only") or is_cd
    keys.switch("auto-read-only")
    attributes = {
        "name": "qemu",
        "type": "raw" if form == "luks" else form,
        "cache": _cache(keys, storage, write_cache),
        "error_policy": keys.one_of(
            {"stop": "stop", "report": "report", "ignore": "ignore", "enospc": "enospace"}, "werror"
        ),
        "rerror_policy": keys.one_of({"stop": "stop", "report": "report", "ignore": "ignore"}, "rerror"),
        "io": keys.one_of(_AIO, "aio") or storage.one_of(_AIO, "aio"),
        "copy_on_read": on(keys.switch("copy-on-read") or None),
        "discard": keys.one_of(_DISCARD, "discard"),
        "detect_zeroes": keys.one_of(_ZEROES, "detect-zeroes"),
    }
    for key in ("discard", "node-name", "auto-read-only", "read-only"):
        storage.take(key)
    if keys.switch("snapshot", False):
        raise NoWords("snapshot=on")
    for rest in (keys, storage):
        rest.done()
    if form == "luks":
        raise NoWords("key-secret")  # libvirt's secrets are known by uuid, and only it knows their values
    if kind == "dir" and not readonly:
        readonly = True
    return DiskSource(
        kind, {key: value for key, value in attributes.items() if value is not None}, inner, bool(readonly), used
    )


def _either(keys: Keys, *names: str) -> bool:
    found = [keys.switch(name, False) for name in names]  # each of them is taken
    return any(found)


def _cache(keys: Keys, storage: Keys, write_cache: bool) -> str | None:
    mode = keys.take("cache")
    if isinstance(mode, str):
        if mode not in _MODES:
            raise NoWords(f"cache={mode}")
        return mode
    modes = {**(storage.take("cache") or {}), **(mode or {})}
    facts = (SWITCH[modes.pop("direct", False)], SWITCH[modes.pop("no-flush", False)], write_cache)
    if modes or facts not in _CACHES:
        raise NoWords("cache")
    return _CACHES[facts]


# --- where the bytes are -------------------------------------------------------------------------------------------

Where = tuple[str, str, Keys]


def _where(file: Any, absolute: Callable[[str], str], keys: Keys) -> Where:
    """(disk type, <source>, what the storage node says besides)."""
    if isinstance(file, Mapping):
        storage = Keys(file)
        driver = str(storage.take("driver"))
        make = _DRIVERS.get(driver)
        if make is None:
            raise NoWords(driver)
        return *make(storage, absolute), storage
    if file in (None, ""):
        return "file", "", Keys({})
    for pattern, read in _TEXTS:
        if match := re.fullmatch(pattern, str(file), re.S):
            return *read(match), Keys({})
    return *_path(str(file), absolute), Keys({})


def _path(path: str, absolute: Callable[[str], str]) -> tuple[str, str]:
    path = absolute(path)
    return ("block", tag("source", dev=path)) if path.startswith("/dev/") else ("file", tag("source", file=path))


def _of_file(keys: Keys, absolute: Callable[[str], str]) -> tuple[str, str]:
    return _path(str(keys.take("filename")), absolute)


def _of_host(keys: Keys, absolute: Callable[[str], str]) -> tuple[str, str]:
    return "block", tag("source", dev=absolute(str(keys.take("filename"))))


def _network(protocol: str, name: str | None, host: str, **more: Any) -> tuple[str, str]:
    """A <source> behind a protocol; raises NoWords for one that direct launch does not know, as the script does."""
    if protocol not in PROTOCOLS:
        raise NoWords(protocol)
    return "network", tag("source", host, protocol=protocol, name=name, **more)


def _address(keys: Keys) -> str:
    """<host> of a SocketAddress."""
    server = Keys(keys.take("server") or {"host": keys.take("host"), "port": keys.take("port"), "path": keys.take("path")})
    path, host, port = server.take("path"), server.take("host"), server.take("port")
    if server.take("type") not in (None, "inet", "unix"):
        raise NoWords("server")
    server.done()
    return tag("host", transport="unix", socket=path) if path else tag("host", name=host, port=port)


def _of_nbd(keys: Keys, _: Callable[[str], str]) -> tuple[str, str]:
    return _network("nbd", keys.take("export"), _address(keys))


def _of_iscsi(keys: Keys, _: Callable[[str], str]) -> tuple[str, str]:
    if keys.take("transport", "tcp") != "tcp":
        raise NoWords("transport")
    host, _colon, port = str(keys.take("portal")).rpartition(":")
    iqn = keys.take("initiator-name")
    inner = tag("host", name=host or port, port=port if host else "3260")
    inner += tag("initiator", tag("iqn", name=iqn)) if iqn else ""
    return _network("iscsi", f"{keys.take('target')}/{keys.take('lun', 0)}", inner)


def _of_url(keys: Keys, _: Callable[[str], str]) -> tuple[str, str]:
    return _url(str(keys.take("url")))


_PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990, "nbd": 10809, "ssh": 22, "iscsi": 3260}


def _url(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise NoWords(url.partition(":")[0]) from None
    if parts.username or parts.fragment or not parts.hostname:
        raise NoWords(f"{parts.scheme} with a user")
    host = tag("host", name=parts.hostname, port=port)
    name = parts.path if parts.scheme == "ssh" else parts.path.lstrip("/")
    return _network(parts.scheme, name or None, host, query=parts.query or None)


def _nbd_text(match: re.Match[str]) -> tuple[str, str]:
    if match["socket"]:
        return _network("nbd", match["name"], tag("host", transport="unix", socket=match["socket"]))
    return _network("nbd", match["name"], tag("host", name=match["host"], port=match["port"]))


def _nvme(match: re.Match[str]) -> tuple[str, str]:
    names = ("domain", "bus", "slot", "function")
    address = tag("address", **{name: f"0x{match[name]}" for name in names})
    return "nvme", tag("source", address, type="pci", managed="no", namespace=match["namespace"])


def _fat(match: re.Match[str]) -> tuple[str, str]:
    if match["how"]:
        raise NoWords(f"fat:{match['how']}")
    return "dir", tag("source", dir=match["dir"])


def _never(match: re.Match[str]) -> tuple[str, str]:
    raise NoWords(match["protocol"])


#: how -drive file= spells what is no file
_TEXTS: tuple[tuple[str, Callable[[re.Match[str]], tuple[str, str]]], ...] = (
    (r"nbd:(?:unix:(?P<socket>[^:]+)|(?P<host>[^:]+|\[[^]]+\]):(?P<port>\d+))(?::exportname=(?P<name>.*))?", _nbd_text),
    (r"(?:nbd|https?|ftps?|ssh|iscsi)://.*", lambda match: _url(match[0])),
    (r"nvme://(?P<domain>\w{4}):(?P<bus>\w\w):(?P<slot>\w\w)\.(?P<function>\w)/(?P<namespace>\d+)", _nvme),
    (r"fat:(?P<how>(?:rw:|floppy:|\d+:)*)(?P<dir>.*)", _fat),
    (r"(?P<protocol>[a-z][a-z0-9+]+):(?!/dev).*", _never),
)
_DRIVERS: Mapping[str, Callable[[Keys, Callable[[str], str]], tuple[str, str]]] = {
    "file": _of_file,
    "host_device": _of_host,
    "host_cdrom": _of_host,
    "nbd": _of_nbd,
    "iscsi": _of_iscsi,
    **dict.fromkeys(("http", "https", "ftp", "ftps"), _of_url),
}
