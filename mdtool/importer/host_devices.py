"""Devices behind which is something of the host's own: its folders, memory, random numbers, TPM, PCI and USB devices."""

from __future__ import annotations

import re

from mdtool.importer import char
from mdtool.importer.markup import Keys, NoWords, on, tag, text
from mdtool.importer.row import DeviceView, Writer, Written, boot_of, rom_of, transport, virtio_model
from mdtool.machine.sizes import bytes_of
from mdtool.machine.values import number


def rng(writer: Writer, one: DeviceView) -> Written:
    name = one.behind("rng")
    given = writer.host.objects.get(name)
    keys = Keys(given.bag if given is not None else {"qom-type": "rng-builtin"})
    kind = str(keys.take("qom-type"))
    keys.take("id")
    if kind == "rng-random":
        backend = text("backend", keys.take("filename", "/dev/urandom"), model="random")
    elif kind == "rng-builtin":
        backend = tag("backend", model="builtin")
    elif kind == "rng-egd" and (bag := writer.host.chars.get(str(keys.take("chardev")))) is not None:
        type_, inner = char.character(bag.bag)
        backend = tag("backend", inner, model="egd", type_=type_)
    else:
        raise NoWords(kind)
    keys.done()
    rate, period = number(one.keys.take("max-bytes")), one.keys.take("period")
    limit = tag("rate", bytes=rate, period=period) if rate else ""
    xml = tag("rng", limit, backend, transport(one), model=virtio_model(one.driver))
    return Written(xml, f"rng{writer.count('rng')}", (name,))


def tpm(writer: Writer, one: DeviceView) -> Written:
    name = one.behind("tpmdev")
    given = writer.host.tpms.get(name)
    keys = Keys(given.bag if given is not None else {})
    kind = keys.take("type")
    keys.take("id")
    used: tuple[str, ...] = (name,)
    if kind == "passthrough":
        inner = tag("backend", tag("device", path=keys.take("path", "/dev/tpm0")), type_="passthrough")
    elif kind == "emulator" and (bag := writer.host.chars.get(chardev := str(keys.take("chardev")))) is not None:
        type_, source = char.character(bag.bag)
        if type_ != "unix":
            raise NoWords("a TPM that is not behind a unix socket")
        used += (chardev,)
        inner = tag("backend", source.replace("<source ", "<source type='unix' ", 1), type_="external")
    else:
        raise NoWords(f"tpmdev {kind}")
    keys.done()
    return Written(tag("tpm", inner, model=one.driver.removesuffix("-device")), f"tpm{writer.count('tpm')}", used)


_ACCESS = {"passthrough": "passthrough", "mapped": "mapped", "mapped-xattr": "mapped", "none": "squash"}


def filesystem(writer: Writer, one: DeviceView) -> Written:
    number_of, tag_of = writer.count("fs"), str(one.properties.get("mount_tag") or one.properties.get("tag") or "")
    if one.driver.startswith("vhost-user-fs"):
        name = one.behind("chardev").removeprefix("import-")
        given = writer.host.chars.get(name)
        keys = Keys(given.bag if given is not None else {})
        path = keys.take("path")
        for key in ("backend", "id"):
            keys.take(key)
        keys.done()
        queue = one.properties.get("queue-size")
        driver = tag("driver", type_="virtiofs", queue=queue if queue != 128 else None)
        inner = (driver, tag("source", socket=path), tag("target", dir=tag_of), boot_of(one))
        return Written(tag("filesystem", *inner, type_="mount"), f"fs{number_of}", (name,))
    name = one.behind("fsdev")
    given = writer.host.folders.get(name) or writer.host.folders.get(tag_of)
    keys = Keys(given.bag if given is not None else {})
    if keys.take("fsdriver") != "local":
        raise NoWords("an fsdev that is not a directory")
    keys.take("id")
    mode = keys.one_of(_ACCESS, "security_model") or keys.one_of(_ACCESS, "security-model")
    path = writer.absolute(str(keys.take("path")))
    policy = keys.one_of({"immediate": "immediate"}, "writeout")
    xml = tag(
        "filesystem",
        tag("driver", type_="path", wrpolicy=policy),
        tag("source", dir=path),
        tag("target", dir=tag_of),
        tag("readonly") if _take_switch(keys, "readonly") else "",
        type_="mount",
        accessmode=mode,
        multidevs=keys.take("multidevs"),
        fmode=keys.take("fmode"),
        dmode=keys.take("dmode"),
        model=virtio_model(one.driver, "") or None,
    )
    keys.done()
    return Written(xml, f"fs{number_of}", (name,))


def _take_switch(keys: Keys, name: str) -> bool:
    return bool(keys.switch(name, False))


def host_pci(writer: Writer, one: DeviceView) -> Written:
    address = str(one.keys.take("host") or "")
    match = re.fullmatch(r"(?:(\w{4}):)?(\w\w):(\w\w)\.(\w)", address)
    if match is None:
        raise NoWords("a passed-through device that is not named by its PCI address")
    names = ("domain", "bus", "slot", "function")
    where = tag("address", **{name: f"0x{part or '0000'}" for name, part in zip(names, match.groups(), strict=True)})
    display = on(one.keys.switch("display"))
    xml = tag(
        "hostdev",
        tag("source", where),
        boot_of(one),
        rom_of(writer, one),
        mode="subsystem",
        type_="pci",
        managed="no",
        display=display,
    )
    return Written(xml, f"hostdev{writer.count('hostdev')}")


def host_usb(writer: Writer, one: DeviceView) -> Written:
    keys = one.keys
    vendor, product, bus, address = (keys.take(key) for key in ("vendorid", "productid", "hostbus", "hostaddr"))
    if node := re.fullmatch(r"/dev/bus/usb/(\d+)/(\d+)", str(keys.take("hostdevice") or "")):
        bus, address = node.groups()
    if bus and address:
        source = tag("source", tag("address", bus=number(bus), device=number(address)))
    elif vendor and product:
        ids = (("vendor", vendor), ("product", product))
        source = tag("source", *(tag(name, id=f"0x{number(value):04x}") for name, value in ids))
    else:
        raise NoWords("a USB device of the host that is named by neither ids nor address")
    return Written(
        tag("hostdev", source, boot_of(one), mode="subsystem", type_="usb", managed="no"),
        f"hostdev{writer.count('hostdev')}",
    )


def vsock(writer: Writer, one: DeviceView) -> Written:
    cid = tag("cid", auto="no", address=one.properties.get("guest-cid"))
    return Written(tag("vsock", cid, model=virtio_model(one.driver)), f"vsock{writer.count('vsock')}")


def shared_memory(writer: Writer, one: DeviceView) -> Written:
    name = one.behind("memdev")
    given = writer.host.objects.get(name)
    keys = Keys(given.bag if given is not None else {})
    path, size = str(keys.take("mem-path")), bytes_of(keys.take("size"))
    kind, shared = keys.take("qom-type"), keys.switch("share", False)
    keys.take("id")
    if kind != "memory-backend-file" or not path.startswith("/dev/shm/") or not shared or size is None or size % (1 << 20):
        raise NoWords("shared memory that is no file of /dev/shm")
    keys.done()
    inner = (tag("model", type_="ivshmem-plain"), tag("size", str(size >> 20), unit="M"))
    xml = tag("shmem", *inner, name=path.removeprefix("/dev/shm/"), role=one.keys.take("role"))
    return Written(xml, f"shmem{writer.count('shmem')}", (name,))


def memory(writer: Writer, one: DeviceView) -> Written:
    name = one.behind("memdev")
    given = writer.host.objects.get(name)
    bag = given.bag if given is not None else {}
    size = bytes_of(bag.get("size"))
    if size is None or name != f"mem{one.device.id}":  # its name is in a migration's stream, and libvirt's is this one
        raise NoWords(f"memory called {name}")
    target = tag("target", tag("size", str(size), unit="b"), text("node", one.properties.get("node") or 0))
    return Written(tag("memory", target, model="dimm"), f"dimm{writer.count('dimm')}", (name,))


def crypto(writer: Writer, one: DeviceView) -> Written:
    name = one.behind("cryptodev")
    given = writer.host.objects.get(name)
    kind = str(given.bag.get("qom-type")) if given is not None else "cryptodev-backend-builtin"
    if not kind.endswith(("-builtin", "-lkcf")):
        raise NoWords(kind)
    backend = tag("backend", model=kind.rpartition("-")[2], queues=given.bag.get("queues") if given is not None else None)
    return Written(tag("crypto", backend, model="virtio", type_="qemu"), f"crypto{writer.count('crypto')}", (name,))
