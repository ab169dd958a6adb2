"""<os> and <sysinfo>: the firmware and its settings.

The sections:

    firmware: {kind: pflash, secure: true}          # absent for the machine type's own BIOS
    boot: {strict: true, menu: true, splash-time: 3000, kernel: true, append: console=ttyS0}
    smbios: {type1: {manufacturer: Acme}, type11: [first, second]}    # or {mode: host}: whatever host it runs on
    features: {fw_cfg: {opt/org.example/key: value}}

A direct kernel boot names its kernel, initrd and dtb in the XML; the description says that there is one and its command
line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from mdtool.errors import InputError, Report, choices
from mdtool.guest.model import Guest
from mdtool.guest.platform.units import escaped, number, on, switch
from mdtool.guest.xml import Element
from mdtool.machine.values import uuid_from_text
from mdtool.records import NamedTuple, dataclass, field
from mdtool.text import quoted

Section = dict[str, Any]

DESCRIPTORS = ("/etc/qemu/firmware", "/usr/share/qemu/firmware")

#: entries of <sysinfo> -> SMBIOS structures
_BLOCKS = {"bios": "type0", "system": "type1", "baseBoard": "type2", "chassis": "type3"}
#: those of which libvirt always says who made them, and QEMU would call itself the maker
_MADE = ("baseBoard", "chassis")


class Loader(NamedTuple):
    """The firmware files on this host.

    ``kind`` is bios or pflash; ``code`` its file; ``vars`` the guest's own variables and ``template`` what they are
    copied from at the first start, each None if there is none.
    """

    kind: str
    code: str
    vars: str | None = None
    template: str | None = None
    formats: tuple[str, str] = ("raw", "raw")
    secure: bool = False


class Copy(NamedTuple):
    """A file that a launch makes where it is not there yet: a guest's UEFI variables from their template."""

    source: str
    target: str


def firmware_sections(guest: Guest, report: Report) -> dict[str, Section]:
    """The sections ``firmware``, ``boot``, ``smbios`` and the ``fw_cfg`` of ``features``."""
    sections: dict[str, Section] = {}
    domain = guest.domain
    with report.step():
        firmware = _firmware(guest)
        if firmware:
            sections["firmware"] = firmware
    with report.step():
        sections["boot"] = _boot(domain)
    with report.step():
        smbios = _smbios(domain)
        if smbios:
            sections["smbios"] = smbios
    values = {
        entry.get("@name") or "": entry.text
        for info in domain.all("sysinfo")
        if info.get("@type") == "fwcfg"
        for entry in info.all("entry")
        if entry.get("@file") is None
    }
    if values:
        sections["features"] = {"fw_cfg": values}
    return sections


def boot_options(guest: Guest, sections: Mapping[str, Mapping[str, Any]], *, rehearse: bool) -> list[str]:
    """``-boot``, ``-kernel``, ``-smbios``, ``-fw_cfg``, ``-acpitable``."""
    domain, boot = guest.domain, sections.get("boot", {})
    names = ("menu", "splash-time", "reboot-timeout", "strict", "order", "once")
    said = [f"{key}={on(value) if isinstance(value, bool) else value}" for key, value in boot.items() if key in names]
    words = ["-boot", ",".join(said)] if said else []
    kernel = domain.get("os/kernel")
    if rehearse and kernel and os.path.isfile(kernel):
        from mdtool.commandline.placeholder.flash import takes_kernel

        words += ["-kernel", kernel] if takes_kernel(guest.arch) else []
    if not rehearse:
        for tag in ("kernel", "initrd", "dtb", "shim"):
            path = domain.get(f"os/{tag}")
            if path:
                words += [f"-{tag}", path]
        if boot.get("append"):
            words += ["-append", boot["append"]]
        for table in domain.all("os/acpi/table"):
            words += ["-acpitable", f"{_signature(table)}file={escaped(table.text)}"]
    tables = sections.get("smbios", {})
    if tables.get("mode") == "host":  # and what <qemu:commandline> says over it
        from mdtool.commandline.sections import joined

        tables = tables if rehearse else joined(host_smbios(), tables)
    words += list(_smbios_options(tables))
    for name, value in sections.get("features", {}).get("fw_cfg", {}).items():
        words += ["-fw_cfg", f"name={escaped(name)},string={escaped(value)}"]
    for info in domain.all("sysinfo"):
        for entry in info.all("entry") if info.get("@type") == "fwcfg" else ():
            if entry.get("@file") is not None and not rehearse:
                words += [
                    "-fw_cfg",
                    f"name={escaped(entry.get('@name') or '')},file={escaped(entry.get('@file') or '')}",
                ]
    return words


#: libvirt's types of ACPI tables -> the signature that QEMU puts before a table's contents; "" for a file that has its own
_SIGNATURES = {"slic": "SLIC", "msdm": "MSDM", "raw": ""}


def _signature(table: Element) -> str:
    kind = table.get("@type") or "slic"
    if kind not in _SIGNATURES:
        what, known = f"<table>: unknown type {kind!r}", choices(_SIGNATURES)
        raise InputError(what, at=table.position, expected=known, rule="acpi-table")
    return f"sig={_SIGNATURES[kind]}," if _SIGNATURES[kind] else ""


@dataclass(frozen=True, slots=True)
class Loading:
    """The firmware's options, the machine properties they need, and the files to make first."""

    words: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    copies: tuple[Copy, ...] = ()


def loader_options(guest: Guest, firmware: Mapping[str, Any], *, rehearse: bool) -> Loading:
    """How the guest gets its firmware; empty for the machine type's own."""
    loader = loader_of(guest, secure=bool(firmware.get("secure")), rehearse=rehearse)
    if loader is None:
        return Loading()
    if loader.kind == "bios":
        from mdtool.commandline.placeholder.flash import may_be_empty

        is_here = not rehearse or os.path.exists(loader.code)
        code = loader.code if is_here else os.devnull if may_be_empty(guest.arch) else None
        return Loading(("-bios", code) if code else ())
    words: list[str] = []
    properties: dict[str, str] = {}
    banks = (("pflash0", "code", loader.code, True), ("pflash1", "vars", loader.vars, False))
    for (bank, part, path, readonly), form in zip(banks, loader.formats, strict=True):
        if path is None:
            continue
        properties[bank] = bank
        if rehearse:
            words += ["-blockdev", json.dumps(_null_flash(guest, bank, part, path))]
            continue
        file = {
            "driver": "file",
            "node-name": f"{bank}-file",
            "filename": path,
            "auto-read-only": True,
            "discard": "unmap",
        }
        words += ["-blockdev", json.dumps(file)]
        whole = {"driver": form, "node-name": bank, "read-only": readonly, "file": f"{bank}-file"}
        words += ["-blockdev", json.dumps(whole)]
    if loader.secure:
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    copies = (Copy(loader.template, loader.vars),) if loader.template and loader.vars else ()
    return Loading(tuple(words), properties, copies)


def variable_store(guest: Guest) -> Iterator[Copy]:
    """The file of <varstore>, where it has a template."""
    store = guest.domain.first("os/varstore")
    if store is not None and (template := store.get("@template")) and (path := store.get("@path")):
        yield Copy(template, path)


def loader_of(guest: Guest, *, secure: bool = False, rehearse: bool = False) -> Loader | None:
    """Which firmware files the guest starts with; None for the machine type's own.

    <os firmware='efi'> is chosen as libvirt does: the first descriptor of QEMU's firmware folders that fits, with secure
    boot where ``secure`` and without where not, since which of them comes first differs from host to host.  Raises
    InputError where none does; with ``rehearse`` there is always one.
    """
    domain = guest.domain
    loader, nvram = domain.first("os/loader"), domain.first("os/nvram")
    form = (domain.get("os/loader/@format") or "raw", domain.get("os/nvram/@format") or "raw")
    if loader is not None and loader.text:
        if loader.get("@type") != "pflash":
            return Loader("bios", loader.text)
        own = (nvram.text or nvram.get("source/@file")) if nvram is not None else None
        template = nvram.get("@template") if nvram is not None else None
        stateless = loader.get("@stateless") == "yes"
        if own is None and not stateless and (template or nvram is not None):
            own = _own_vars(guest)
        return Loader("pflash", loader.text, own, template, form, loader.get("@secure") == "yes")
    kind = domain.get("os/@firmware")
    if kind is None or kind == "bios":
        return None
    found = _described(guest, secure) or (Loader("pflash", "", "", secure=secure) if rehearse else None)
    if found is None:
        raise InputError(
            f"no firmware on this host fits <os firmware='{kind}'>",
            at=domain.at("os"),
            expected=f"a descriptor in {' or '.join(map(str, DESCRIPTORS))}",
            remedy="install the firmware (Debian: ovmf), or name its files in <loader> and <nvram>",
            rule="firmware",
        )
    return found


def _firmware(guest: Guest) -> Section:
    domain = guest.domain
    kind = domain.get("os/@firmware")
    loader, nvram = domain.first("os/loader"), domain.first("os/nvram")
    if nvram is not None and kind != "efi" and (kind == "bios" or loader is None or not loader.text):
        what, remedy = "<nvram> without firmware that keeps its variables there", "add <loader>, or <os firmware='efi'>"
        raise InputError(what, at=nvram.position, remedy=remedy, rule="firmware")
    if kind == "efi" or (loader is not None and loader.get("@type") == "pflash"):
        return {"kind": "pflash", **({"secure": True} if wants_secure(guest) else {})}
    if loader is not None and loader.text:
        return {"kind": "bios"}
    return {}


def _features(domain: Element) -> dict[str, bool]:
    return {f.get("@name") or "": f.get("@enabled") == "yes" for f in domain.all("os/firmware/feature")}


def wants_secure(guest: Guest) -> bool:
    """Whether the XML asks for secure boot; where it does not say, what is described, and mdtool's own answer is no."""
    said = guest.domain.get("os/loader/@secure")
    asked = _features(guest.domain).get("secure-boot", said == "yes" if said else None)
    if asked is None and guest.domain.get("os/@firmware") == "efi":
        return guest.known.get(("firmware", 0)) == "secure"
    return bool(asked)


def _described(guest: Guest, secure: bool) -> Loader | None:
    """The first of QEMU's firmware descriptors, by file name, that fits machine type, architecture and wishes."""
    from fnmatch import fnmatchcase

    from mdtool.guest.machines import machine_of

    machine, wishes = machine_of(guest).name, _features(guest.domain)
    for path in _descriptor_files():
        try:
            with open(path, "rb") as stream:
                row = json.load(stream)
            mapping = row["mapping"]
            if mapping["device"] != "flash" or "uefi" not in row["interface-types"]:
                continue
            fits = any(
                target["architecture"] == guest.arch and any(fnmatchcase(machine, glob) for glob in target["machines"])
                for target in row["targets"]
            )
            able = set(row["features"])
            if not fits or ("requires-smm" in able and not secure) or (secure and "secure-boot" not in able):
                continue
            if wishes.get("secure-boot") is False and "secure-boot" in able:
                continue
            if wishes.get("enrolled-keys", "enrolled-keys" in able) != ("enrolled-keys" in able):
                continue
            formats = (mapping["executable"]["format"], mapping["nvram-template"]["format"])
            code, template = mapping["executable"]["filename"], mapping["nvram-template"]["filename"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # a malformed descriptor is not this guest's fault, and libvirt skips it, too
        own = guest.domain.get("os/nvram") or _own_vars(guest)
        return Loader("pflash", code, own, template, formats, "requires-smm" in able)
    return None


def _descriptor_files() -> list[str]:
    named: dict[str, str] = {}
    for folder in filter(os.path.isdir, reversed(DESCRIPTORS)):
        named |= {name: os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".json")}
    return [named[name] for name in sorted(named)]


def _own_vars(guest: Guest) -> str:
    return f"/var/lib/libvirt/qemu/nvram/{guest.name}_VARS.fd"


def _null_flash(guest: Guest, bank: str, part: str, path: str) -> Section:
    """Empty flash of the right size: the guest sees its size, and a rehearsal runs no firmware."""
    from pathlib import Path  # slow to import: a command that starts nothing needs none

    from mdtool.commandline.placeholder.flash import flash_size
    from mdtool.commandline.placeholder.hostside import HostSide

    size = flash_size({"filename": path}, 0 if part == "code" else 1, HostSide(Path(), guest.arch))
    return {"driver": "null-co", "node-name": bank, "size": size, "read-zeroes": True, "read-only": part == "code"}


def _boot(domain: Element) -> Section:
    found: Section = {"strict": True}
    menu = switch(domain, "os/bootmenu/@enable")
    if menu is None:
        menu = switch(domain, "os/bootmenu/@enabled")
    if menu is not None:
        found["menu"] = menu
        timeout = number(domain, "os/bootmenu/@timeout")
        if menu and timeout is not None:
            found["splash-time"] = timeout
    reboot = number(domain, "os/bios/@rebootTimeout")
    if reboot is not None:
        found["reboot-timeout"] = reboot
    if domain.get("os/kernel"):
        found["kernel"] = True
    if domain.get("os/cmdline"):
        found["append"] = domain.get("os/cmdline")
    return found


def _smbios(domain: Element) -> Section:
    mode = domain.get("os/smbios/@mode")
    if mode in (None, "emulate"):
        return {}
    if mode == "host":
        return {"mode": "host"}
    found: Section = {}
    for info in domain.all("sysinfo"):
        if info.get("@type") != "smbios":
            continue
        for block in info:
            if block.tag == "oemStrings":
                if texts := [entry.text for entry in block.all("entry")]:
                    found["type11"] = texts
            elif block.tag in _BLOCKS:
                values = {entry.get("@name") or "": entry.text for entry in block.all("entry") if entry.text}
                if not values:
                    continue  # says nothing
                if block.tag in _MADE:
                    values = {"manufacturer": "", **values}
                if block.tag == "baseBoard":
                    found.setdefault("type2", []).append(values)
                else:
                    found[_BLOCKS[block.tag]] = _system(domain, block, values) if block.tag == "system" else values
            else:
                raise InputError(
                    f"<sysinfo> has no <{block.tag}>",
                    at=block.position,
                    expected="one of baseBoard, bios, chassis, oemStrings, system",
                    rule="sysinfo",
                )
    return found


def _system(domain: Element, block: Element, values: dict[str, str]) -> dict[str, str]:
    """The entries of <system>, its uuid in the canonical form; libvirt refuses another one than the guest's."""
    if "uuid" not in values:
        return values
    at = next(entry.position for entry in block.all("entry") if entry.get("@name") == "uuid")
    try:
        uuid, own = uuid_from_text(values["uuid"]), domain.get("uuid")
        same = not own or uuid_from_text(own) == uuid
    except ValueError as expected:
        what = f"<system>: {quoted(values['uuid'])} is not a UUID"
        raise InputError(what, at=at, expected=str(expected), rule="uuid") from None
    if not same:
        raise InputError("<system>: another uuid than the guest's", at=at, expected=own, rule="uuid")
    return {**values, "uuid": uuid}


#: SMBIOS structure -> QEMU's key -> the file that holds it in the host's own tables
_HOST_TABLES = {
    "type0": {"vendor": "bios_vendor", "version": "bios_version", "date": "bios_date", "release": "bios_release"},
    "type1": {
        "manufacturer": "sys_vendor",
        "product": "product_name",
        "version": "product_version",
        "serial": "product_serial",
        "sku": "product_sku",
        "family": "product_family",
    },
    "type2": {
        "manufacturer": "board_vendor",
        "product": "board_name",
        "version": "board_version",
        "serial": "board_serial",
        "asset": "board_asset_tag",
    },
}
HOST_TABLES = "/sys/class/dmi/id"


def host_smbios() -> Section:
    """The host's own SMBIOS, for <smbios mode='host'>; what this user may not read is left out."""
    found: Section = {}
    for block, keys in _HOST_TABLES.items():
        for key, file in keys.items():
            with suppress(OSError), open(os.path.join(HOST_TABLES, file)) as stream:
                if text := stream.read().strip():
                    found.setdefault(block, {})[key] = text
    return found


def _smbios_options(smbios: Mapping[str, Any]) -> Iterator[str]:
    kinds = {key.removeprefix("type"): value for key, value in smbios.items() if key.startswith("type")}
    for kind, value in sorted(kinds.items(), key=lambda item: int(item[0])):
        if kind == "11":
            yield from ("-smbios", ",".join([f"type={kind}", *(f"value={escaped(text)}" for text in value)]))
            continue
        for block in value if isinstance(value, list) else [value]:
            yield from ("-smbios", ",".join([f"type={kind}", *(f"{k}={escaped(v)}" for k, v in block.items())]))
