"""What can be known of a launch before anything is touched: files and devices of the host, programs, images, a rehearsal.

A guest that runs is powered down for its new hardware only after all of this holds.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option, words_from_options
from mdtool.errors import InputError, MdtoolError, Position, QemuError, Report
from mdtool.files import on_path
from mdtool.launch.backends.base import Secret, numbered
from mdtool.launch.ports import faults, listeners, sockets_of
from mdtool.launch.prepare import Prepared
from mdtool.launch.start import descriptor
from mdtool.qemu.account import Account
from mdtool.qemu.process import START_SECONDS, QemuProcess
from mdtool.qemu.runtime import runtime_base
from mdtool.records import dataclass, field

# --- what the options name -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """``key`` of option ``option`` names something of the host that must be there: ``is_there(path, bag)`` says whether.

    ``where`` are the values of other keys for which it holds; ``key`` None is the option's whole value.
    """

    option: str
    key: str | None
    is_there: Callable[[str, Mapping[str, Any]], bool]
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)


def _file(path: str, _bag: Mapping[str, Any]) -> bool:
    return os.path.exists(path)


def _firmware(path: str, _bag: Mapping[str, Any]) -> bool:
    """QEMU looks for a name without a folder in its own data folders."""
    return os.path.exists(path) or "/" not in path


def _folder(path: str, _bag: Mapping[str, Any]) -> bool:
    return os.path.isdir(path)


def _folder_of(path: str, _bag: Mapping[str, Any]) -> bool:
    """Something that QEMU makes: its folder must be there."""
    return os.path.isdir(os.path.dirname(os.path.abspath(path)))


_LONGEST_SOCKET = 107  # bytes of the path of a unix socket


def _socket(path: str, bag: Mapping[str, Any]) -> bool:
    """A socket that QEMU makes, or one that must listen already; one with reconnect may come later."""
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        return False
    if str(bag.get("server", "off")) in ("on", "true", "True", "yes", "1") or bag.get("abstract") in ("on", True):
        return _folder_of(path, bag)
    return os.path.exists(path) or any(key.startswith("reconnect") for key in bag)


def _pipe(path: str, bag: Mapping[str, Any]) -> bool:
    return os.path.exists(path) or os.path.exists(f"{path}.in")


def _memory(path: str, bag: Mapping[str, Any]) -> bool:
    return os.path.exists(path) or _folder_of(path, bag)


def _image(path: str, bag: Mapping[str, Any]) -> bool:
    """A -drive may name a protocol in place of a file."""
    return os.path.exists(path) or ":" in path.partition("/")[0] or not path


def _interface(name: str, _bag: Mapping[str, Any]) -> bool:
    return os.path.exists(f"/sys/class/net/{name}")


def _pci(address: str, _bag: Mapping[str, Any]) -> bool:
    full = address if address.count(":") == 2 else f"0000:{address}"
    return os.path.exists(f"/sys/bus/pci/devices/{full}")


def _where(**values: str) -> dict[str, frozenset[str]]:
    return {key.replace("_", "-"): frozenset(text.split()) for key, text in values.items()}


_ROWS = (
    *(_Row(name, None, _file) for name in ("kernel", "initrd", "dtb", "pflash")),
    _Row("bios", None, _firmware),
    *(_Row(name, "file", _file) for name in ("smbios", "acpitable", "fw_cfg")),
    _Row("blockdev", "filename", _file, _where(driver="file host_device host_cdrom")),
    _Row("drive", "file", _image),
    *(_Row(name, "path", _folder) for name in ("fsdev", "virtfs")),
    _Row("chardev", "path", _file, _where(backend="serial parallel tty parport")),
    _Row("chardev", "path", _folder_of, _where(backend="file")),
    _Row("chardev", "path", _pipe, _where(backend="pipe")),
    _Row("chardev", "path", _socket, _where(backend="socket")),
    _Row("object", "mem-path", _memory, _where(qom_type="memory-backend-file")),
    _Row("object", "filename", _file, _where(qom_type="rng-random")),
    _Row("object", "evdev", _file, _where(qom_type="input-linux")),
    _Row("object", "dir", _folder, _where(qom_type="tls-creds-x509 tls-creds-psk tls-creds-anon")),
    _Row("object", "file", _folder_of, _where(qom_type="filter-dump")),
    _Row("tpmdev", "path", _file, _where(type="passthrough")),
    _Row("netdev", "br", _interface, _where(type="bridge tap")),
    _Row("netdev", "vhostdev", _file, _where(type="vhost-vdpa")),
    _Row("device", "host", _pci, _where(driver="vfio-pci")),
    *(_Row("device", key, _file) for key in ("sysfsdev", "hostdevice", "evdev")),
)


def missing(prepared: Prepared, among: Container[str] | None = None) -> Iterator[MdtoolError]:
    """What the command line names and this host does not have, each at its line of guest XML.

    ``among`` are the names to look at; None looks at all of them.
    """
    line = prepared.commandline
    made = {copy.target for copy in line.copies} if line else set()
    made |= {str(process.ready) for process in line.processes if process.ready} if line else set()
    for option in prepared.options:
        for row in _ROWS:
            name = _named(option, row) if option.name == row.option else None
            if name is None or name in made or (among is not None and name not in among):
                continue
            if not row.is_there(name, option.bag if row.key else {}):
                yield _absent(option, name, prepared.positions)
    for copy in line.copies if line else ():
        if not os.path.exists(copy.target) and not os.path.exists(copy.source):
            yield QemuError(f"{copy.source} is not there, of which {copy.target} is made", rule="host-side")
    for process in line.processes if line else ():
        if on_path(process.argv[0]) is None:
            yield QemuError(f"{process.argv[0]} is not there", remedy="install it, or give its full path", rule="helper")


def _named(option: Option, row: _Row) -> str | None:
    """What the option names, where the row is about it; descriptors are mdtool's own."""
    bag = option.bag if row.key is not None else {}
    name = option.value if row.key is None else bag.get(row.key)
    if any(str(bag.get(key)) not in allowed for key, allowed in row.where.items()) or not isinstance(name, str):
        return None
    return None if name.startswith(("/dev/fd/", "/dev/fdset/")) or "<fd:" in name else name


def _known(option: Option) -> str | None:
    return option.id if option.value and ("=" in option.value or option.is_json) else None


def _position(option: Option, positions: Mapping[str, Position]) -> Position | None:
    return positions.get(_known(option) or f"-{option.name}")


def _absent(option: Option, value: str, positions: Mapping[str, Position]) -> MdtoolError:
    known = _known(option)
    at = _position(option, positions)
    is_long = option.name == "chardev" and len(os.fsencode(value)) > _LONGEST_SOCKET
    fault = f"is longer than the {_LONGEST_SOCKET} bytes of a socket's path" if is_long else "is not there on this host"
    what = f"{value} {fault}, needed for -{option.name}{f' {known}' if known else ''}"
    return InputError(what, at=at, remedy="check the path, and that it is mounted", rule="host-side")


# --- images, opened by QEMU itself ---------------------------------------------------------------------------------

#: drivers that open files of this host and nothing else
_LOCAL = frozenset({
    "file", "host_device", "host_cdrom", "raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "luks", "parallels",
    "dmg", "cloop", "bochs", "throttle", "copy-on-read",
})  # fmt: skip
#: what matters to a writer alone
_WRITERS = frozenset({"auto-read-only", "discard", "detect-zeroes", "locking"})


def images_open(prepared: Prepared, *, user: Account | None = None, timeout: float = START_SECONDS) -> None:
    """Have a QEMU without a machine open the described disk images, to read and without a lock.

    So format, backing files, keys and rights are right, while the guest that has the images open is not disturbed.
    Images of the network are left out.  Raises QemuError at the XML's line of the disk.
    """
    nodes, needed = _local_nodes(prepared.options)
    if not nodes:
        return
    objects = [one for one in prepared.options if one.name == "object" and one.id in needed]
    words = [prepared.binary, "-M", "none", "-nodefaults", "-no-user-config", "-display", "none"]
    words += words_from_options([*objects, *nodes])
    secrets: Sequence[Secret] = prepared.commandline.secrets if prepared.commandline else ()
    numbers: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="preflight-", dir=runtime_base()) as folder:
        try:
            for secret in secrets:
                if f"<fd:{secret.name}>" in " ".join(words):
                    numbers[secret.name] = descriptor(secret, prepared.positions.get(secret.name))
            with QemuProcess(
                [numbered(word, numbers) for word in words],
                directory=Path(folder),
                pass_fds=tuple(numbers.values()),
                positions=prepared.positions,
                timeout=timeout,
                user=user,
            ):
                pass
        finally:
            for number in numbers.values():
                os.close(number)


def _local_nodes(options: Iterable[Option]) -> tuple[list[Option], set[str]]:
    """The -blockdev options that open files of this host alone, read-only and shared; and the objects that they name."""
    found: list[Option] = []
    known: set[str] = set()
    objects: set[str] = set()
    for option in options:
        if option.name != "blockdev":
            continue
        bag = option.bag
        children = [bag[key] for key in ("file", "backing", "data-file") if bag.get(key)]
        own = bag.get("driver") in _LOCAL and all(isinstance(child, str) and child in known for child in children)
        path = str(bag.get("filename") or "/")
        if not own or path.startswith(("/dev/fd/", "/dev/fdset/")) or not os.path.exists(path):
            continue
        known.add(str(bag.get("node-name")))
        objects |= set(_names_of_objects(bag))
        read = {key: value for key, value in bag.items() if key not in _WRITERS}
        found.append(option.with_bag({**read, "read-only": True, "force-share": True}))
    return found, objects


def _names_of_objects(bag: Mapping[str, Any]) -> Iterator[str]:
    for key, value in bag.items():
        if isinstance(value, Mapping):
            yield from _names_of_objects(value)
        elif key.endswith("-secret") or key == "throttle-group":
            yield str(value)


# --- all of it -----------------------------------------------------------------------------------------------------


def check_host(
    prepared: Prepared,
    *,
    among: Container[str] | None = None,
    runs: int | None = None,
    user: Account | None = None,
    timeout: float = START_SECONDS,
) -> None:
    """Raise everything that this host lacks for a launch, and then what QEMU says of the disk images.

    ``among`` are the names of files and ports to look for, where not all of them have to be there before; ``runs`` is the
    process of the guest, whose own ports are free by then: where it cannot be read, no ports are looked at.
    """
    report = Report()
    own = sockets_of(runs)
    there = [one for one in listeners() if one[2] not in own] if own else []
    for option in prepared.options if own else ():
        for port, fault in faults(option, there):
            if among is None or port in among:
                report.error(QemuError(fault, at=_position(option, prepared.positions), rule="host-side"))
    for error in missing(prepared, among):
        report.error(error)
    for secret in prepared.commandline.secrets if prepared.commandline else ():
        if secret.value is None:
            with report.step():
                descriptor(secret, prepared.positions.get(secret.name))
    report.done()
    images_open(prepared, user=user, timeout=timeout)
