"""The text of the guest XML: the elements of the devices, what is around them, and the options that have no words there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdtool.commandline.option import Option, text_from_bag
from mdtool.commandline.placeholder.hostside import HostSide, OptionBag
from mdtool.commandline.script import Command
from mdtool.errors import Report
from mdtool.guest.machines import version_of
from mdtool.importer import domain
from mdtool.importer.board import Board
from mdtool.importer.devices import (
    ImportedDevice,
)
from mdtool.importer.display import audio, graphics
from mdtool.importer.features import features
from mdtool.importer.flash import flash_options
from mdtool.importer.markup import Keys, NoWords, tag
from mdtool.importer.option_list import OptionList
from mdtool.machine.sizes import bytes_of
from mdtool.machine.tree import Tree
from mdtool.qemu.commandline import arch_of, binary_of
from mdtool.records import replace

_ARCH = {"arm": "armv7l", "i386": "i686"}


class GuestText:
    """The XML of one command line.

    ``scripted`` are its options by name, ``host`` its back ends, ``left`` what neither XML nor description covers.
    """

    def __init__(self, command: Command, given: Sequence[Option], host: HostSide, report: Report) -> None:
        self.command, self.given, self.host, self.report = command, given, host, report
        self.scripted = OptionList(given)
        self.binary = binary_of(command, report)
        host.arch, host.version = arch_of(self.binary), lambda: version_of(self.binary)
        _, host.watchdog, self.left = domain.event_actions(self.scripted)
        self.relative: set[str] = set()
        self.board = Board()

    def absolute(self, path: str) -> str:
        """A path from the script's folder."""
        if path.startswith("/") or not path:
            return path
        if self.command.folder is None:
            if path not in self.relative:
                self.relative.add(path)
                option = next((o for o in self.given if o.value and path in o.value), None)
                what = f"{path!r} is in a folder that only a run can tell"
                remedy = "write the whole path into the XML"
                self.report.warn(what, at=option.position if option else None, remedy=remedy, rule="relative-path")
            return path
        return os.path.normpath(os.path.join(self.command.folder, path))

    def _domain(self, tree: Tree, entries: Sequence[ImportedDevice], backends: Sequence[Option], report: Report) -> str:
        scripted, host = self.scripted, self.host
        arch, machine = str(tree.machine["arch"]), str(tree.machine["type"])
        kind = domain.hypervisor(scripted, report)
        reboots, _, _ = domain.event_actions(scripted)
        has_serial = any(entry.made is not None and entry.made.xml.startswith("<serial ") for entry in entries)
        boot, is_efi = domain.booting(scripted, tree, host, self.absolute, report, has_serial=has_serial)
        info, left = domain.sysinfo(scripted, self.absolute)
        plugged = [bytes_of(re.findall(r"<size unit='b'>(\d+)", t.made.xml)[0]) or 0
                   for t in entries if t.made is not None and t.made.xml.startswith("<memory ")]  # fmt: skip
        screens, more = self._displays(report)
        threads = sum(given.bag.get("qom-type") == "iothread" for given in host.objects.values())
        elements = [entry.made.xml for entry in entries if entry.made is not None]
        elements += self._ports(entries, arch, report)
        elements += _implied(elements, screens) + screens + self._audio(elements, report) + self._events(report)
        emulator = self.binary if self.binary.startswith("/") else shutil.which(self.binary) or f"/usr/bin/{self.binary}"
        body = "".join(f"    {element}\n" for element in elements)
        said_at = {id(given): number for number, given in enumerate(host.devices)}  # one may name an earlier one
        devices = sorted((t for t in entries if t.verbatim is not None), key=lambda t: said_at.get(id(t.given), -1))
        kept = [*backends, *(t.verbatim for t in devices if t.verbatim is not None), *host.kept, *self.left, *left, *more]
        kept += [
            *flash_options(scripted, host, self.absolute),
            *domain.named_firmware(scripted, host),
            *self._chips(),
            *self.board.shorts,
        ]
        uuid = f"  <uuid>{_escaped(str(scripted.value('uuid')))}</uuid>\n" if "uuid" in scripted else ""
        os_type = tag("type", "hvm", arch=_ARCH.get(arch, arch), machine=machine)
        parts = [features(scripted, tree, arch, is_efi), domain.cpu(scripted, tree), domain.clock(scripted, tree)]
        return (
            f"<domain type='{kind}'{_NAMESPACE if kept or self.command.environment else ''}>\n"
            f"  {tag('name', _escaped(tree.guest.get('name', 'guest')))}\n{uuid}"
            f"{domain.memory(scripted, tree, host, sum(plugged), report)}"
            f"  {_vcpu(tree)}\n"
            + (f"  <iothreads>{threads}</iothreads>\n" if threads else "")
            + (f"  {info}\n" if info else "")
            + f"  {tag('os', os_type, boot)}\n"
            + "".join(f"  {part}\n" for part in parts if part)
            + reboots
            + f"  <devices>\n    <emulator>{_escaped(emulator)}</emulator>\n{body}  </devices>\n"
            + self._commandline(kept, report)
            + "</domain>\n"
        )

    def _displays(self, report: Report) -> tuple[list[str], list[Option]]:
        """(<graphics>, what stays an option)."""
        found, kept = [], []
        keymap = self.scripted.value("k")
        shown = self.scripted.all("display", "vnc", "spice", "sdl")
        for option in shown:
            asked = replace(option, name="display", value="sdl") if option.name == "sdl" else option
            try:
                made = graphics(asked, keymap)
            except NoWords as error:
                what = f"-{option.name}: the XML has no words for {error}; it stays an option, in <qemu:commandline>"
                report.warn(what, at=option.position, rule="import")
                kept.append(_without_password(asked))
                continue
            if "type='none'" in made and "<listen" in made:
                what = f"-{option.name}: no client can connect before a password is set, so it does not listen"
                remedy = "set <graphics passwd='...'> and a <listen type='address'/>"
                report.warn(what, at=option.position, remedy=remedy, rule="display")
            found += [made] if made else []
        if not shown and "nographic" not in self.scripted:
            what = "QEMU opens a window where nobody says otherwise, and the XML has none"
            remedy = "a <graphics type='sdl'/>, type='vnc' or type='spice' shows the screen"
            report.warn(what, at=self.command.words[0].position, remedy=remedy, rule="display")
        if "full-screen" in self.scripted:
            report.warn(
                "-full-screen: not carried over", at=self.scripted.all("full-screen")[0].position, rule="option-lost"
            )
        if keymap and not found:
            kept += self.scripted.all("k")
        return found, kept

    def _ports(self, entries: Sequence[ImportedDevice], arch: str, report: Report) -> list[str]:
        """The serial ports that are the board's own: only what is behind them is written."""
        used = {name for entry in entries if entry.made is not None for name in entry.made.used}
        used |= {str(entry.device.properties.get("chardev")) for entry in entries}
        found = []
        from mdtool.importer.char import character

        for name, given in self.host.chars.items():
            bag = given.bag
            if name in used or not re.fullmatch(r"serial\d+", name) or bag.get("backend") in ("none", "vc", "null"):
                continue
            if bag.get("backend") == "chardev":
                bag = self.host.chars[str(bag["name"])].bag if str(bag["name"]) in self.host.chars else {"backend": "null"}
            try:
                kind, inner = character(bag)
            except NoWords as error:
                what = f"-{given.option.name}: the XML has no words for {error}"
                report.warn(what, at=given.option.position, remedy="give the port another back end", rule="option-lost")
                continue
            found.append(tag("serial", inner, tag("target", port=name.removeprefix("serial")), type_=kind))
        return found

    def _audio(self, elements: Sequence[str], report: Report) -> list[str]:
        found = []
        for number, given in enumerate(self.host.audios.values(), 1):
            element, left = audio(given.bag, number)
            found.append(element)
            if left:
                what = f"-{given.option.name}: {', '.join(left)}: not carried over"
                report.warn(what, at=given.option.position, rule="option-lost")
        speaker = [bag.get("pcspk-audiodev") for option in self.scripted.all("machine") if (bag := option.bag)]
        numbers = {name: number for number, name in enumerate(self.host.audios, 1)}
        found += [tag("sound", tag("audio", id=numbers[one]), model="pcspk") for one in speaker[-1:] if one in numbers]
        return found

    def _chips(self) -> Iterator[Option]:
        """What is in a board's serial flash, for which the XML has no words."""
        for name, given in self.host.drives.items():
            if given.bag.get("if") == "mtd":
                bag = {key: value for key, value in given.bag.items() if (key, value) != ("id", name)}
                yield self._with_paths(Option("drive", text_from_bag(bag), given.option.position))

    def _events(self, report: Report) -> list[str]:
        """<input type='evdev'> of each input-linux object."""
        found = []
        for given in self.host.objects.values():
            keys = Keys(given.bag)
            if keys.take("qom-type") != "input-linux":
                continue
            facts = {"dev": keys.take("evdev"), "grabToggle": keys.take("grab-toggle")}
            grab = "all" if keys.take("grab_all") in ("on", True) else None
            repeat = {"on": "on", "off": "off"}.get(str(keys.take("repeat")))
            found.append(tag("input", tag("source", grab=grab, repeat=repeat, **facts), type_="evdev"))
        return found

    # --- <qemu:commandline> ---

    def _backends(self, entries: Sequence[ImportedDevice], report: Report) -> list[Option]:
        """What is behind the devices that stay options, and what is behind that, in the script's order."""
        table = self._named_backends()
        wanted: set[str] = set()
        spoken = {name for entry in entries if entry.made is not None for name in entry.made.used}

        def want(name: str) -> None:
            if name in table and name not in wanted:
                wanted.add(name)
                for other in _mentioned(table[name][1].bag):
                    want(other)

        for entry in entries:
            if entry.verbatim is not None:
                for value in _mentioned(entry.verbatim.bag):
                    want(value)
        for name, given in self.host.objects.items():
            kind = str(given.bag.get("qom-type", ""))
            if name in wanted | spoken or kind.startswith(_ELSEWHERE):
                continue
            if kind.startswith(("filter-", "colo-")):
                remedy = "add it on the monitor: object_add"
                report.warn(
                    f"-object {kind}: not carried over", at=given.option.position, remedy=remedy, rule="option-lost"
                )
            else:
                want(name)
        for kind, names in (("netdev", self.host.nets), ("blockdev", self.host.drives)):
            for name, given in names.items():
                if given.option.name == kind and name not in wanted | spoken and not self._is_below(name):
                    what = f"-{kind} {name}: no device uses it, and it is not carried over"
                    report.warn(what, at=given.option.position, rule="option-lost")
        return [option for name, (option, _) in table.items() if name in wanted]

    def _is_below(self, name: str) -> bool:
        """Whether a node is what another one, or flash memory, is made of."""
        return f"node:{name}" in self.host.flash or any(
            name in _mentioned({k: v for k, v in given.bag.items() if k != "node-name"})
            for given in self.host.drives.values()
        )

    def _named_backends(self) -> dict[str, tuple[Option, OptionBag]]:
        """Each back end, by name, as an option of its own."""
        found: dict[str, tuple[Option, OptionBag]] = {}
        places = ((self.host.objects, "object", "qom-type"), (self.host.chars, "chardev", "backend"),
                  (self.host.drives, "drive", ""), (self.host.nets, "netdev", "type"),
                  (self.host.folders, "fsdev", "fsdriver"),
                  (self.host.tpms, "tpmdev", "type"), (self.host.audios, "audiodev", "driver"))  # fmt: skip
        for table, flag, first in places:
            for name, given in table.items():
                is_whole = given.option.name == flag and (flag != "drive" or given.bag.get("if") == "none")
                if (is_whole and given.bag == given.option.bag) or given.option.name == "blockdev":
                    found[name] = (self._with_paths(given.option), given)
                    continue
                bag = {k: v for k, v in given.bag.items() if k not in ("id", "if", "index", "bus", "unit", "media", "mux")}
                if flag == "drive":
                    bag = {"if": "none", **bag}
                if first:
                    bag = {first: bag.pop(first, None), "id": name, **bag}
                else:
                    bag |= {"id": name}
                found[name] = (self._with_paths(Option(flag, text_from_bag(bag, first))), given)
        return found

    def _with_paths(self, option: Option) -> Option:
        """The option with whole paths: who starts QEMU from now on stands somewhere else."""
        bag = option.bag
        names = {"drive": ("file",), "chardev": ("path", "logfile"), "fsdev": ("path",), "object": ("file",)}.get(
            option.name, ()
        )
        changed = {
            name: self.absolute(bag[name]) for name in names if isinstance(bag.get(name), str) and _is_path(bag[name])
        }
        return option.with_bag({**bag, **changed}) if changed else option

    def _commandline(self, kept: Sequence[Option], report: Report) -> str:
        lines = []
        for name, value in self.command.environment.items():
            if re.search(r"PASS|SECRET|TOKEN|KEY", name, re.I):
                what = f"{name}: it may be a secret, and is not carried over"
                report.warn(what, remedy="set it where mdtool launch is started", rule="secret")
            else:
                lines.append(tag("qemu:env", name=name, value=value))
        lines += [tag("qemu:arg", value=word) for option in kept for word in option.words]
        body = "".join(f"    {line}\n" for line in lines)
        return f"  <qemu:commandline>\n{body}  </qemu:commandline>\n" if lines else ""


_NAMESPACE = " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
#: objects that an element, or the description, stands for
_ELSEWHERE = ("iothread", "memory-backend-", "rng-", "cryptodev-", "input-linux", "throttle-group", "secret", "tls-creds",
              "pr-manager")  # fmt: skip


def _is_path(text: str) -> bool:
    return not re.match(r"[a-z][a-z0-9+]+:|json:", text) and bool(text)


def _escaped(text: Any) -> str:
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _vcpu(tree: Tree) -> str:
    now, most = tree.cpu.get("vcpus", 1), tree.cpu.get("maxcpus")
    return tag("vcpu", str(most or now), current=now if most else None)


def _implied(elements: Sequence[str], screens: Sequence[str]) -> list[str]:
    """What libvirt adds unless the XML says that there is none."""
    found = []
    if not any(element.startswith("<memballoon") for element in elements):
        found.append("<memballoon model='none'/>")
    if not any(re.match(r"<controller [^>]*type='usb'", element) for element in elements):
        found.append("<controller type='usb' model='none'/>")
    if screens and not any(element.startswith("<video") for element in elements):
        found.append("<video><model type='none'/></video>")
    return found


def _without_password(option: Option) -> Option:
    bag = {key: value for key, value in option.bag.items() if not (key == "password" and value == "")}
    return option.with_bag(bag)


def _mentioned(bag: Mapping[str, Any]) -> Iterator[str]:
    """Every text in it that may be the name of a back end."""
    for value in bag.values():
        if isinstance(value, Mapping):
            yield from _mentioned(value)
        elif isinstance(value, list):
            for item in value:
                yield from _mentioned(item if isinstance(item, Mapping) else {"": item})
        elif isinstance(value, str):
            yield value
