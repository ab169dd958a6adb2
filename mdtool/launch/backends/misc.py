"""The host side of everything that is neither a disk, a NIC, a chardev nor a display."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mdtool.commandline.companion import Process
from mdtool.errors import InputError, choices
from mdtool.guest.model import Guest
from mdtool.guest.platform.memory import Piece, memory_object
from mdtool.guest.platform.units import MIB, bytes_of, rounded
from mdtool.guest.xml import Element
from mdtool.launch.backends.base import (
    NOTHING,
    Backend,
    Host,
    given,
    listed,
    option,
    refused,
    switch,
    threads,
    whole,
)
from mdtool.launch.backends.char import chardev
from mdtool.machine.tree import Node
from mdtool.machine.values import decimal, numbers_of, uuid_from_text


def _id(node: Node | None) -> str:
    if node is None or node.id is None:
        raise ValueError("a device with a host side has an id")
    return node.id


def rng(element: Element, node: Node | None, host: Host) -> Backend:
    """Where the entropy comes from."""
    backend = element.first("backend")
    if backend is None:
        raise InputError("<rng> without <backend>", at=element.position, expected="<backend>", rule="missing")
    id, kind = f"obj{_id(node)}", backend.get("@model")
    made = NOTHING
    if kind == "random":
        words = option("-object", qom_type="rng-random", id=id, filename=backend.text or "/dev/random")
    elif kind == "builtin":
        words = option("-object", qom_type="rng-builtin", id=id)
    elif kind == "egd":
        made = chardev(backend, f"char{_id(node)}", host)
        words = option("-object", qom_type="rng-egd", id=id, chardev=f"char{_id(node)}")
    else:
        raise refused(element, f"an rng backend of model {kind!r}", path="backend/@model")
    return made + Backend(words, {"rng": id})


def _state_name(guest: Guest) -> str:
    """libvirt's name of a guest's folder, its uuid; without one the name, unless that is another guest's uuid."""
    with suppress(ValueError):
        return guest.uuid or f"name-{uuid_from_text(guest.name)}"
    return guest.name


def tpm(element: Element, node: Node | None, host: Host) -> Backend:
    """The TPM's other half: swtpm of our own, one that runs already, or the host's."""
    id, kind = f"tpm-{_id(node)}", element.get("backend/@type")
    if kind == "passthrough":
        path = element.get("backend/device/@path") or "/dev/tpm0"
        if element.get("@model") == "spapr-tpm-proxy":  # it opens the host's by itself
            return Backend((), {"host-path": path})
        return Backend(listed("-tpmdev", "passthrough", id=id, path=path), {"tpmdev": id})
    socket = host.runtime / "swtpm.sock"
    if kind == "external":
        backend = element.first("backend")
        assert backend is not None
        made = chardev(backend, f"chr{id}", host, kind=backend.get("source/@type") or "unix")
        return made + Backend(listed("-tpmdev", "emulator", id=id, chardev=f"chr{id}"), {"tpmdev": id})
    if kind != "emulator":
        raise refused(element, f"a TPM of type {kind!r}", path="backend/@type")
    if element.first("backend/encryption") is not None:
        raise refused(element, "an encrypted TPM", path="backend/encryption/@secret")
    version = element.get("backend/@version") or "2.0"
    state = element.get("backend/source/@path") or f"/var/lib/libvirt/swtpm/{_state_name(host.guest)}/tpm{version[0]}"
    words = ["swtpm", "socket", *(["--tpm2"] if version == "2.0" else []), "--tpmstate", f"dir={state}"]
    words += ["--ctrl", f"type=unixio,path={socket}", "--terminate"]
    return Backend(
        (
            *listed("-chardev", "socket", id=f"chr{id}", path=str(socket)),
            *listed("-tpmdev", "emulator", id=id, chardev=f"chr{id}"),
        ),
        {"tpmdev": id},
        processes=(Process(tuple(words), socket, Path(state)),),
    )


def filesystem(element: Element, node: Node | None, host: Host) -> Backend:
    """9p shares a folder itself; virtiofs has a process for it."""
    kind = element.get("driver/@type") or "path"
    if kind == "virtiofs":
        return _virtiofs(element, node, host)
    if kind == "mtp":
        return Backend(properties={"rootdir": given(element, "source/@dir")})
    if kind not in ("path", "handle") or element.get("@type") not in (None, "mount"):
        raise refused(element, f"a filesystem of type {element.get('@type')!r} by {kind!r}")
    id = f"fsdev-{_id(node)}"
    modes = {"passthrough": "passthrough", "mapped": "mapped", "squash": "none"}
    words = listed(
        "-fsdev",
        "local",
        security_model=modes.get(element.get("@accessmode") or "passthrough", "passthrough"),
        multidevs=element.get("@multidevs"),
        fmode=element.get("@fmode"),
        dmode=element.get("@dmode"),
        writeout="immediate" if element.get("driver/@wrpolicy") == "immediate" else None,
        id=id,
        path=given(element, "source/@dir"),
        readonly=True if element.first("readonly") is not None else None,
    )
    return Backend(words, {"fsdev": id})


def _virtiofs(element: Element, node: Node | None, host: Host) -> Backend:
    id = f"chr-vu-{_id(node)}"
    ready = element.get("source/@socket")
    socket = ready or str(host.file(f"{_id(node)}.virtiofs"))
    processes: tuple[Process, ...] = ()
    if ready is None:
        words = [element.get("binary/@path") or "/usr/lib/qemu/virtiofsd", f"--socket-path={socket}"]
        words += ["-o", ",".join(_virtiofs_options(element))]
        if switch(element, "binary/@xattr"):
            words[-1] += ",xattr"
        processes = (Process(tuple(words), host.file(f"{_id(node)}.virtiofs")),)
    return Backend(listed("-chardev", "socket", id=id, path=socket), {"chardev": id}, processes=processes)


def _virtiofs_options(element: Element) -> list[str]:
    found = [f"source={given(element, 'source/@dir')}"]
    cache = element.get("binary/cache/@mode")
    if cache:
        found.append(f"cache={cache}")
    mode = element.get("binary/sandbox/@mode")
    if mode:
        found.append(f"sandbox={mode}")
    for name, word in (("posix", "posix_lock"), ("flock", "flock")):
        wish = switch(element, f"binary/lock/@{name}")
        if wish is not None:
            found.append(word if wish else f"no_{word}")
    return found


def input_(element: Element, node: Node | None, host: Host) -> Backend:
    """Events of a device of the host: as an object for evdev, as a device for passthrough."""
    if element.get("@type") == "passthrough":
        return Backend(properties={"evdev": given(element, "source/@evdev")})
    if element.get("@type") != "evdev":
        return NOTHING
    index = [d for d in host.guest.devices if d.tag == "input"].index(element)
    toggle = element.get("source/@grabToggle")
    words = option(
        "-object",
        qom_type="input-linux",
        id=element.get("alias/@name") or f"input{index}",
        evdev=given(element, "source/@dev"),
        repeat=switch(element, "source/@repeat"),
        grab_all=True if element.get("source/@grab") == "all" else None,
        grab_toggle=toggle,
    )
    # This object spells its property with an underscore, alone among all
    return Backend((words[0], words[1].replace('"grab-all"', '"grab_all"')))


def shmem(element: Element, node: Node | None, host: Host) -> Backend:
    """Shared memory: a file of the host for ivshmem-plain, a server for ivshmem-doorbell."""
    id, name = _id(node), given(element, "@name")
    server = element.first("server")
    if server is not None:
        path = server.get("@path") or f"/var/lib/libvirt/shmem-{name}-sock"
        return Backend(listed("-chardev", "socket", id=f"char{id}", path=path), {"chardev": f"char{id}"})
    holder = element.first("size")
    size = bytes_of(holder.text, holder.get("@unit") or "MiB", holder) if holder is not None else 4 * 1024**2
    words = option(
        "-object", qom_type="memory-backend-file", id=f"shmmem-{id}", mem_path=f"/dev/shm/{name}", size=size, share=True
    )
    return Backend(words, {"memdev": f"shmmem-{id}"})


def memory(element: Element, node: Node | None, host: Host) -> Backend:
    """What is behind a DIMM, an NVDIMM, virtio-mem, virtio-pmem; its id names a RAM block of the migration stream."""
    if element.get("@model") == "sgx-epc":
        raise refused(element, "SGX memory", path="@model")
    id = f"mem{_id(node)}"
    holder = element.first("target/size")
    if holder is None:
        raise InputError("<memory> without <size>", at=element.position, expected="<target><size>", rule="missing")
    size = rounded(bytes_of(holder.text, holder.get("@unit"), holder), host.guest.arch, usual=2 * MIB)
    label = element.first("target/label/size")
    if label is not None and element.get("@model") == "nvdimm" and host.guest.arch.startswith("ppc64"):
        more = bytes_of(label.text, label.get("@unit"), label)  # what is left of the file has whole blocks
        size = (size - more) // (256 * MIB) * (256 * MIB) + more
    path = element.get("source/path")
    made = memory_object(host.guest, Piece(id, size, whole_text(element, "target/node"), path=path, element=element))
    if path is not None:
        if element.get("@model") == "virtio-pmem":
            made.setdefault("share", True)
        if element.first("source/pmem") is not None:
            made["pmem"] = True
        elif element.get("@model") == "nvdimm":
            made["prealloc"] = True
        align = element.first("source/alignsize")
        if align is not None:
            made["align"] = bytes_of(align.text, align.get("@unit"), align)
    if nodes := element.get("source/nodemask"):
        made |= {"host-nodes": numbers_of(nodes), "policy": "bind"}
    if element.get("@model") == "virtio-mem":
        made.pop("prealloc", None)
        made["reserve"] = False
    if element.get("@model") in ("virtio-pmem", "nvdimm") and element.first("readonly") is not None:
        made["readonly"] = True
    return Backend(option("-object", **{k.replace("-", "_"): v for k, v in made.items()}), {"memdev": id})


def whole_text(element: Element, path: str) -> int | None:
    holder = element.first(path)
    return decimal(holder.text) if holder is not None else None


def crypto(element: Element, node: Node | None, host: Host) -> Backend:
    """The cryptodev behind virtio-crypto."""
    id = f"obj{_id(node)}"
    kinds = {"builtin": "cryptodev-backend-builtin", "lkcf": "cryptodev-backend-lkcf"}
    kind = element.get("backend/@model") or "builtin"
    if kind not in kinds:
        raise refused(element, f"a crypto backend {kind!r}", path="backend/@model")
    return Backend(
        option("-object", qom_type=kinds[kind], id=id, queues=whole(element, "backend/@queues")), {"cryptodev": id}
    )


def pstore(element: Element, node: Node | None, host: Host) -> Backend:
    """The file that keeps what a crashing guest wrote."""
    id = f"mem{_id(node)}"
    holder = element.first("size")
    if holder is None or not element.get("path"):
        raise InputError("<pstore> without <path> or <size>", at=element.position, expected="both", rule="missing")
    size = bytes_of(holder.text, holder.get("@unit"), holder)
    words = option("-object", qom_type="memory-backend-file", id=id, mem_path=element.get("path"), size=size, share=True)
    return Backend(words, {"memdev": id})


def video(element: Element, node: Node | None, host: Host) -> Backend:
    """Only a vhost-user GPU has a host side of its own, and it needs libvirt."""
    if element.get("driver/@name") == "vhostuser":
        raise refused(element, "a GPU of a vhost-user process", path="driver/@name")
    return NOTHING


def controller(element: Element, node: Node | None, host: Host) -> Backend:
    """A virtio-scsi controller may have I/O threads."""
    return Backend(properties=threads(element, host, mapped_since=(10, 0))) if node is not None else NOTHING


def vsock(element: Element, _node: Node | None, _host: Host) -> Backend:
    """QEMU opens /dev/vhost-vsock itself; which number is free on a host only libvirt keeps count of."""
    if element.get("cid/@address") is None:
        raise refused(element, "a vsock without a CID (<cid auto='no' address='3'/> has one)", path="cid/@auto")
    return NOTHING


def watchdog(element: Element, node: Node | None, host: Host) -> Backend:
    """What QEMU does when the watchdog barks; resetting the guest is what it does unasked."""
    action = element.get("@action") or "reset"
    known = {"none", "reset", "shutdown", "poweroff", "pause", "debug", "inject-nmi", "dump"}
    if action not in known:
        raise InputError(f"unknown action {action!r}", at=element.position, expected=choices(known), rule="missing")
    action = "pause" if action == "dump" else action  # the dump is libvirt's to take, of a guest that stands still
    return NOTHING if action == "reset" else Backend(("-action", f"watchdog={action}"))
