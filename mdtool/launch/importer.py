"""``mdtool import``: an existing QEMU command line becomes a guest XML and a description.

The machine is not guessed from the options: QEMU itself is started with them, paused, with null backends, and dumped.  So
every default and every address is there that the script's guest has today.  The XML then gets an element for each device
that it has words for, with the host side that the options name; the rest stays in the description as a hand's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError

from mdtool.cache import parser_from_grammar
from mdtool.document import tree_with
from mdtool.errors import InputError, Position, QemuError, Report, Warn
from mdtool.guest.allocation.controllers import MODELS
from mdtool.guest.model import Guest, Wanted
from mdtool.launch.device import handover
from mdtool.launch.rehearse import rehearsal
from mdtool.launch.run import Prepared
from mdtool.launch.words import NO_ARGUMENT, Option, bag_from_text, text_from_bag
from mdtool.qemu.dump import tree_from_raw
from mdtool.qemu.raw import FOLDED, Raw, RawBus, RawDevice, placed
from mdtool.qemu.read import read
from mdtool.qemu.session import Session
from mdtool.reconcile import linked
from mdtool.tree import HAND, Node, Tree
from mdtool.values import nested, same

_QEMU = re.compile(r"(.*/)?(qemu-system-[\w-]+|qemu-kvm|kvm|qemu)")
_ARCH = {"arm": "armv7l", "i386": "i686"}
DISK_SIZE = 16 << 30


# --- the script ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a script, unquoted, with its place."""

    text: str
    position: Position


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    options = {"start": ["script", "value"], "propagate_positions": True, "maybe_placeholders": False}
    return parser_from_grammar("options.lark", **options)


class _Script(Transformer[Token, list[list[Word]]]):
    """Commands as words; ``NAME=value`` before the command line sets a variable of it."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file
        self.variables: dict[str, str] = {}

    def script(self, commands: list[list[list[Token]]]) -> list[list[Word]]:
        return [self._expanded(command) for command in commands]

    def command(self, words: list[list[Token]]) -> list[list[Token]]:
        return words

    def double(self, parts: list[Token]) -> list[Token]:
        return parts

    def word(self, parts: list[Any]) -> list[Token]:
        return [token for part in parts for token in (part if isinstance(part, list) else [part])]

    def _expanded(self, words: list[list[Token]]) -> list[Word]:
        found = []
        for parts in words:
            first = parts[0] if parts else Token("PLAIN", "", line=2, column=1)
            at = Position(self.file, (first.line or 2) - 1, first.column or 1)
            found.append(Word("".join(self._text(part, at) for part in parts), at))
        for word in found:
            name, equals, value = word.text.partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
                break
            self.variables[name] = value
        return found

    def _text(self, part: Token, at: Position) -> str:
        if part.type == "SINGLE":
            return str(part)[1:-1]
        if part.type == "ESCAPED":
            return str(part)[1:]
        if part.type == "ESCAPED_IN_TEXT":
            kept = "" if part[1] == "\n" else part[1]
            return kept if part[1] in '"\\$`\n' else str(part)
        if part.type == "VARIABLE":
            name = str(part).strip("${}")
            if name not in self.variables:
                remedy = "write its value into the script, or import the running QEMU with pid:N"
                raise InputError(f"${name} is set outside of the script", at=at, remedy=remedy, rule="script-variable")
            return self.variables[name]
        return str(part)


def words_from_script(text: str, file: str) -> list[Word]:
    """The words of the QEMU command line in a script, the binary first; raises InputError with line and column."""
    transformer = _Script(file)
    try:
        commands = transformer.transform(_grammar().parse("\n" + text.rstrip() + "\n", start="script"))
    except UnexpectedInput as error:
        at = Position(file, max(int(error.line) - 1, 1), int(error.column))
        what = "not a command line that can be read without running it"
        remedy = "give the plain command, or import the running QEMU with pid:N"
        raise InputError(what, at=at, remedy=remedy, rule="script-syntax") from None
    except VisitError as error:
        raise error.orig_exc from None
    for command in commands:
        for number, word in enumerate(command):
            if _QEMU.fullmatch(word.text):
                return command[number:]
    raise InputError("no QEMU command line in it", at=Position(file, 1), expected="qemu-system-...", rule="script-qemu")


def words_from_source(source: str) -> list[Word]:
    """The command line of ``pid:N``, of a file (a script, or /proc/N/cmdline), or ``source`` itself as a command line."""
    path = Path(f"/proc/{source[4:]}/cmdline") if re.fullmatch(r"pid:\d+", source) else Path(source)
    try:
        data = path.read_bytes() if len(source) < 4096 else source.encode()
    except OSError as error:
        if " " not in source:
            raise InputError(f"cannot read {source}: {error.strerror}") from None
        return words_from_script(source, "command line")
    if b"\0" in data:
        words = data.decode(errors="replace").rstrip("\0").split("\0")
        return [Word(text, Position(str(path), 1, number)) for number, text in enumerate(words, 1)]
    return words_from_script(data.decode(errors="replace"), str(path))


def options_from_source(words: Sequence[Word]) -> list[Option]:
    """The options with their places; every value that is not JSON is held against the grammar."""
    found: list[Option] = []
    rest = iter(words[1:])
    for word in rest:
        name = word.text.removeprefix("-").removeprefix("-")
        if not word.text.startswith("-") or word.text == "-":
            found.append(Option("hda", word.text, word.position))
        elif name in NO_ARGUMENT:
            found.append(Option(name, None, word.position))
        elif (value := next(rest, None)) is None:
            raise InputError(f"-{name} lacks its argument", at=word.position, rule="options-syntax")
        else:
            found.append(Option({"M": "machine"}.get(name, name), value.text, value.position))
    return found


def bag_by_grammar(text: str) -> dict[str, Any]:
    """``key=value,...`` read by grammar/options.lark: the reference for ``words.bag_from_text``."""
    tree = _grammar().parse(text, start="value")
    bag: dict[str, Any] = {}
    for pair in tree.children:
        parts = [str(token).replace(",,", ",") for token in getattr(pair, "children", [])]
        if pair.data == "keyed":  # type: ignore[union-attr]
            bag[parts[0]] = parts[1] if len(parts) > 1 else ""
        elif parts:
            bag[""] = parts[0]
    return bag


# --- the same machine without its host -----------------------------------------------------------------------------

#: options that say nothing to a guest's hardware, or that a rehearsal must not have
_DROPPED = frozenset({
    "D", "S", "accel", "append", "audio-help", "chroot", "d", "daemonize", "debugcon", "display", "dtb",
    "enable-kvm", "full-screen", "gdb", "incoming", "initrd", "kernel", "loadvm", "mon", "monitor", "name",
    "nographic", "only-migratable", "overcommit", "pidfile", "qmp", "qmp-pretty", "runas", "run-with", "s",
    "sandbox", "sdl", "snapshot", "spice", "trace", "vnc", "msg", "action", "no-reboot", "no-shutdown",
    "watchdog-action", "k",
})  # fmt: skip
_SHORT_DRIVES = {
    **{f"hd{letter}": {"if": "ide", "index": str(n), "media": "disk"} for n, letter in enumerate("abcd")},
    "cdrom": {"if": "ide", "index": "2", "media": "cdrom"},
    "fda": {"if": "floppy", "index": "0"},
    "fdb": {"if": "floppy", "index": "1"},
    "sd": {"if": "sd"},
    "pflash": {"if": "pflash"},
    "mtdblock": {"if": "mtd"},
}
_KEPT_OF_DRIVE = ("if", "index", "bus", "unit", "media", "id", "readonly", "snapshot")


@dataclass
class Host:
    """The host side by the name that a device's property gives it."""

    drives: dict[str, dict[str, Any]] = field(default_factory=dict)
    nets: dict[str, dict[str, Any]] = field(default_factory=dict)
    chars: dict[str, dict[str, Any]] = field(default_factory=dict)
    rngs: dict[str, dict[str, Any]] = field(default_factory=dict)


def without_host(options: Sequence[Option]) -> tuple[list[Option], Host]:
    """The options with a null backend wherever there was one, and what there was."""
    host = Host()
    found: list[Option] = [Option("accel", "tcg"), Option("display", "none"), Option("monitor", "none")]
    if not {"net", "nic", "netdev", "nodefaults"} & {option.name for option in options}:
        found.append(Option("net", "nic"))  # the NIC that QEMU gives by default, without the network behind it
    serials = parallels = nics = 0
    for option in options:
        name = option.name
        if name == "nographic" and not any(other.name == "serial" for other in options):
            host.chars[f"serial{serials}"] = {"backend": "stdio"}
            serials += 1
            found.append(Option("serial", "null"))
        if name in _DROPPED:
            continue
        if name in _SHORT_DRIVES or name == "drive":
            drive: dict[str, Any] = {**_SHORT_DRIVES.get(name, {})}
            drive |= {"file": option.value} if name in _SHORT_DRIVES else option.bag
            if drive.get("if") == "pflash":
                raise InputError(
                    "pflash drives are firmware", at=option.position, remedy="import with -bios, and set <loader>"
                )
            drive.setdefault("id", f"import-drive{len(host.drives)}")
            host.drives[drive["id"]] = drive
            kept = {key: drive[key] for key in _KEPT_OF_DRIVE if key in drive and key != "snapshot"}
            empty = not drive.get("file")
            null = {} if empty else {"driver": "null-co", "size": str(DISK_SIZE), "read-zeroes": "on"}
            found.append(Option("drive", text_from_bag({**kept, **null})))
        elif name == "blockdev":
            bag = option.bag if option.is_json else nested(option.bag, ".")
            host.drives[bag["node-name"]] = bag
            bare = {"driver": "null-co", "node-name": bag["node-name"], "size": DISK_SIZE, "read-zeroes": True}
            found.append(Option("blockdev", json.dumps(bare | ({"read-only": True} if _on(bag.get("read-only")) else {}))))
        elif name == "netdev":
            host.nets[str(option.id)] = option.bag
            found.append(Option("netdev", f"hubport,id={option.id},hubid={100 + len(host.nets)}"))
        elif name == "nic":
            bag = option.bag
            if bag.get("type") == "none":
                found.append(option)
                continue
            id = bag.get("id", f"import-net{nics}")
            nics += 1
            host.nets[id] = bag
            kept = {key: bag[key] for key in ("model", "mac") if key in bag}
            found.append(
                Option("nic", text_from_bag({"type": "hubport", "hubid": str(200 + nics), "id": id, **kept}, "type"))
            )
        elif name == "net":
            bag = option.bag
            if bag.get("type") == "nic":
                found.append(option)
            elif bag.get("type") != "none":
                host.nets.setdefault("hub0port0", bag)
        elif name == "chardev":
            host.chars[str(option.id)] = option.bag
            found.append(Option("chardev", f"null,id={option.id}"))
        elif name == "serial":
            host.chars[f"serial{serials}"] = _char(option)
            serials += 1
            found.append(Option("serial", "none" if option.value == "none" else "null"))
        elif name == "parallel":
            host.chars[f"parallel{parallels}"] = _char(option)
            parallels += 1
            found.append(Option("parallel", "none" if option.value == "none" else "null"))
        elif name == "object":
            found += _object(option, host)
        elif name == "audiodev":
            found.append(Option("audiodev", f"none,id={option.id}"))
        elif name == "cpu":
            found.append(replace(option, value=re.sub(r"^host\b", "max", option.value or "")))
        elif name == "machine":
            bag = {key: value for key, value in option.bag.items() if key != "accel"}
            found.append(option.with_bag(bag))
        else:
            found.append(option)
    return found, host


def _on(value: Any) -> bool:
    return value in (True, "on", "true", "yes")


def _char(option: Option) -> dict[str, Any]:
    """The chardev behind ``-serial``: ``pty``, ``mon:stdio``, ``file:x``, ``unix:x,server``, ``chardev:c0``."""
    text = (option.value or "").removeprefix("mon:")
    kind, _, rest = text.partition(":")
    if kind == "chardev":
        return {"backend": "chardev", "name": rest}
    if kind in ("unix", "tcp", "telnet", "udp"):
        bag = bag_from_text(rest, "path")
        address = (
            {"path": bag["path"]}
            if kind == "unix"
            else dict(zip(("host", "port"), bag["path"].rsplit(":", 1), strict=False))
        )
        return {"backend": "socket", **address, "server": "on" if "server" in bag else "off"}
    return {"backend": kind, "path": rest} if rest else {"backend": kind}


def _object(option: Option, host: Host) -> Iterator[Option]:
    bag = option.bag
    kind = str(bag.get("qom-type", ""))
    if kind.startswith("rng-"):
        host.rngs[str(option.id)] = bag
        yield Option("object", f"rng-builtin,id={option.id}")
    elif kind.startswith("memory-backend-") and kind != "memory-backend-ram":
        ram: dict[str, Any] = {"qom-type": "memory-backend-ram"}
        ram |= {key: bag[key] for key in ("id", "size", "share") if key in bag}
        yield Option("object", text_from_bag(ram, "qom-type"))
    elif not kind.startswith(("secret", "tls-creds", "throttle", "can-")):
        yield option


# --- what the guest has --------------------------------------------------------------------------------------------


@dataclass
class Made:
    """One element of the XML; ``id`` is what its device is called from now on, ``parts`` the ids of what is inside."""

    id: str
    xml: str
    parts: list[str] = field(default_factory=list)


def _properties(device: RawDevice) -> dict[str, Any]:
    """With those of the device behind a virtio proxy."""
    inner = next((bus.devices[0] for bus in device.buses if bus.type.startswith("virtio-") and bus.devices), None)
    return {**(inner.properties if inner is not None else {}), **device.properties}


class _Xml:
    """Makes the elements; remembers the counters that libvirt's names need."""

    def __init__(self, host: Host, arch: str, machine: str, report: Report) -> None:
        self.host, self.arch, self.machine, self.report = host, arch, machine, report
        self.counts: dict[str, int] = {}
        self.indexes: dict[str, int] = {}

    def count(self, name: str) -> int:
        self.counts[name] = self.counts.get(name, -1) + 1
        return self.counts[name]

    def element(self, bus: RawBus, device: RawDevice) -> tuple[str, str] | None:
        """(element, id that libvirt would give); None for what the XML has no words for."""
        driver, properties = device.driver, _properties(device)
        for pattern, make in _MAKERS:
            if re.fullmatch(pattern, driver):
                return make(self, bus, driver, properties)
        return None

    def nic(self, _bus: RawBus, driver: str, properties: dict[str, Any]) -> tuple[str, str]:
        name = str(properties.get("netdev") or "")
        net = self.host.nets.get(name, {"type": "user"})
        model = re.sub(r"^virtio-net-(pci|device|ccw)", "virtio", driver)
        kind, inner = "user", ""
        if net.get("type") == "tap":
            target = f"<target dev={quoteattr(str(net.get('ifname', 'tap0')))} managed='no'/>"
            kind, inner = "ethernet", target
        elif net.get("type") == "bridge":
            kind, inner = "bridge", f"<source bridge={quoteattr(str(net.get('br', 'br0')))}/>"
        elif net.get("type") != "user":
            self.report.warn(f"-netdev {net.get('type')}: <interface type='user'> in its place")
        for lost in ("hostfwd", "guestfwd", "smb", "tftp"):
            if lost in net:
                self.report.warn(f"-netdev {name}: {lost} is not in the XML", remedy="libvirt has no words for it")
        boot = _boot(properties)
        text = (
            f"<interface type='{kind}'><mac address='{properties['mac']}'/>{inner}<model type='{model}'/>{boot}</interface>"
        )
        return text, f"net{self.count('net')}"

    def disk(self, bus: RawBus, driver: str, properties: dict[str, Any]) -> tuple[str, str]:
        drive = self.host.drives.get(str(properties.get("drive") or "").removeprefix("#"), {})
        kind = "cdrom" if driver.endswith("-cd") else "floppy" if driver == "floppy" else "disk"
        where = _BUS[driver.partition("-")[0]]
        if where == "ide" and "q35" in self.machine:
            where = "sata"
        prefix = {"virtio": "vd", "ide": "hd", "fdc": "fd"}.get(where, "sd")
        number = self.count(prefix)
        if where == "ide":
            number = int(bus.name.rpartition(".")[2]) * 2 + int(properties.get("unit", 0) or 0)
        target = prefix + "abcdefghijklmnopqrstuvwxyz"[number]
        file, format = _image(drive, self.host.drives)
        attribute = ("block", "dev") if file and file.startswith("/dev/") else ("file", "file")
        source = f"<source {attribute[1]}={quoteattr(file)}/>" if file else ""
        more = f"<serial>{escape(str(properties['serial']))}</serial>" if properties.get("serial") else ""
        more += "<readonly/>" if kind == "cdrom" or _on(drive.get("readonly")) or _on(drive.get("read-only")) else ""
        host = "".join(f" {xml}={quoteattr(str(drive[key]))}" for key, xml in _DRIVER if isinstance(drive.get(key), str))
        text = (
            f"<disk type='{attribute[0]}' device='{kind}'><driver name='qemu' type='{format}'{host}/>{source}"
            f"<target dev='{target}' bus='{where}'/>{more}{_boot(properties)}</disk>"
        )
        ids = {"virtio": f"virtio-disk{number}", "fdc": f"fdc0-0-{number}"}
        return text, ids.get(where, f"{where}0-{number // 2}-{number % 2}" if where == "ide" else f"{where}0-0-{number}")

    def serial(self, _bus: RawBus, driver: str, properties: dict[str, Any]) -> tuple[str, str]:
        tag = "parallel" if driver == "isa-parallel" else "serial"
        number = self.count(tag)
        return self._char(tag, properties, f"<target port='{number}'/>"), f"{tag}{number}"

    def channel(self, _bus: RawBus, driver: str, properties: dict[str, Any]) -> tuple[str, str]:
        if driver == "virtconsole":
            return self._char("console", properties, "<target type='virtio'/>"), f"console{self.count('console')}"
        target = f"<target type='virtio' name={quoteattr(str(properties.get('name', '')))}/>"
        return self._char("channel", properties, target), f"channel{self.count('channel')}"

    def _char(self, tag: str, properties: dict[str, Any], target: str) -> str:
        bag = self.host.chars.get(str(properties.get("chardev") or ""), {"backend": "null"})
        if bag.get("backend") == "chardev":
            bag = self.host.chars.get(bag["name"], {"backend": "null"})
        kind, path = str(bag.get("backend")), quoteattr(str(bag.get("path", "")))
        if kind == "socket" and "path" in bag:
            mode = "bind" if _on(bag.get("server")) else "connect"
            return f"<{tag} type='unix'><source mode='{mode}' path={path}/>{target}</{tag}>"
        if kind == "socket":
            mode = "bind" if _on(bag.get("server")) else "connect"
            source = (
                f"<source mode='{mode}' host={quoteattr(str(bag.get('host') or '127.0.0.1'))} service='{bag.get('port')}'/>"
            )
            return f"<{tag} type='tcp'>{source}{target}</{tag}>"
        if kind == "file":
            return f"<{tag} type='file'><source path={path}/>{target}</{tag}>"
        if kind not in ("pty", "stdio", "null", "vc", "spicevmc"):
            self.report.warn(f"-chardev {kind}: <{tag} type='null'> in its place")
            kind = "null"
        return f"<{tag} type='{kind}'>{target}</{tag}>"

    def controller(self, _bus: RawBus, driver: str, _properties: dict[str, Any]) -> tuple[str, str]:
        kind, model = _CONTROLLERS.get(driver) or MODELS[driver]
        index = self.indexes[kind] = (
            self.indexes.get(kind, 0 if kind in ("pci",) or _has_first(kind, self.machine) else -1) + 1
        )
        ids = {"pci": f"pci.{index}", "usb": "usb" if index == 0 else f"usb{index}"}
        model_ = "" if kind in ("virtio-serial", "sata") else f" model='{model}'"
        return f"<controller type='{kind}' index='{index}'{model_}/>", ids.get(kind, f"{kind}{index}")

    def simple(self, tag: str, form: str, id: str) -> tuple[str, str]:
        return form, f"{id}{self.count(id)}"

    def video(self, _bus: RawBus, driver: str, properties: dict[str, Any]) -> tuple[str, str]:
        vram = properties.get("vgamem_mb")
        size = f" vram='{int(vram) * 1024}'" if driver in ("VGA", "vmware-svga") and vram else ""
        return f"<video><model type='{_VIDEO[driver]}'{size}/></video>", f"video{self.count('video')}"

    def input(self, _bus: RawBus, driver: str, _properties: dict[str, Any]) -> tuple[str, str]:
        bus, _, kind = driver.removesuffix("-pci").removesuffix("-device").partition("-")
        return f"<input type='{'keyboard' if kind == 'kbd' else kind}' bus='{bus}'/>", f"input{self.count('input')}"

    def sound(self, _bus: RawBus, driver: str, _properties: dict[str, Any]) -> tuple[str, str]:
        return f"<sound model='{_SOUND[driver]}'/>", f"sound{self.count('sound')}"

    def rng(self, _bus: RawBus, _driver: str, properties: dict[str, Any]) -> tuple[str, str]:
        name = str(properties.get("rng", "")).rpartition("/")[2]
        bag = self.host.rngs.get(name, {"qom-type": "rng-builtin"})
        backend = "<backend model='builtin'/>"
        if bag["qom-type"] == "rng-random":
            backend = f"<backend model='random'>{escape(str(bag.get('filename', '/dev/urandom')))}</backend>"
        return f"<rng model='virtio'>{backend}</rng>", f"rng{self.count('rng')}"

    def watchdog(self, _bus: RawBus, driver: str, _properties: dict[str, Any]) -> tuple[str, str]:
        return f"<watchdog model='{driver}' action='reset'/>", f"watchdog{self.count('watchdog')}"

    def balloon(self, _bus: RawBus, _driver: str, _properties: dict[str, Any]) -> tuple[str, str]:
        return "<memballoon model='virtio'/>", f"balloon{self.count('balloon')}"


_BUS = {"ide": "ide", "scsi": "scsi", "usb": "usb", "floppy": "fdc", "virtio": "virtio"}
_DRIVER = (("cache", "cache"), ("aio", "io"), ("discard", "discard"))
_VIDEO = {
    "VGA": "vga", "cirrus-vga": "cirrus", "qxl-vga": "qxl", "qxl": "qxl", "virtio-vga": "virtio", "ramfb": "ramfb",
    "virtio-gpu-pci": "virtio", "bochs-display": "bochs", "vmware-svga": "vmvga",
}  # fmt: skip
_SOUND = {
    "AC97": "ac97",
    "ES1370": "es1370",
    "sb16": "sb16",
    "intel-hda": "ich6",
    "ich9-intel-hda": "ich9",
    "usb-audio": "usb",
}
_CODECS = {"hda-duplex": "duplex", "hda-micro": "micro", "hda-output": "output"}
_CONTROLLERS = {"virtio-scsi-pci": ("scsi", "virtio-scsi"), "virtio-serial-pci": ("virtio-serial", "virtio")}
_NICS = (
    r"virtio-net-(pci|device|ccw)|e1000.*|rtl8139|ne2k_pci|ne2k_isa|pcnet|i825\w+|i82801|vmxnet3|tulip|igb|sungem|usb-net"
)
_Maker = Callable[[_Xml, RawBus, str, dict[str, Any]], tuple[str, str]]
_MAKERS: tuple[tuple[str, _Maker], ...] = (
    (_NICS, _Xml.nic),
    (r"ide-(hd|cd)|scsi-(hd|cd)|virtio-blk-pci|usb-storage|floppy", _Xml.disk),
    (r"isa-serial|isa-parallel", _Xml.serial),
    (r"virtconsole|virtserialport", _Xml.channel),
    ("|".join([*map(re.escape, _CONTROLLERS), *map(re.escape, MODELS)]), _Xml.controller),
    ("|".join(map(re.escape, _VIDEO)), _Xml.video),
    (r"usb-(tablet|mouse|kbd)|virtio-(tablet|mouse|keyboard)-pci", _Xml.input),
    ("|".join(map(re.escape, _SOUND)), _Xml.sound),
    (r"virtio-rng-pci", _Xml.rng),
    (r"i6300esb|ib700", _Xml.watchdog),
    (r"virtio-balloon-pci", _Xml.balloon),
)


def _has_first(kind: str, machine: str) -> bool:
    """Whether index 0 is the machine's own."""
    return kind == "sata" and "q35" in machine


def _boot(properties: Mapping[str, Any]) -> str:
    index = properties.get("bootindex")
    return f"<boot order='{int(index)}'/>" if index not in (None, -1) and int(index) > 0 else ""


def _image(drive: Mapping[str, Any], drives: Mapping[str, Any]) -> tuple[str | None, str]:
    """(path, format) of a -drive or of a chain of -blockdev."""
    if "file" not in drive or isinstance(drive.get("file"), dict) or drive.get("driver") is not None:
        below = drive.get("file")
        if isinstance(below, str) and below in drives:
            return _image(drives[below], drives)[0], str(drive.get("driver", "raw"))
        if isinstance(below, dict):
            return below.get("filename"), str(drive.get("driver", "raw"))
        if "filename" in drive:
            return str(drive["filename"]), "raw"
    file = drive.get("file")
    guess = "qcow2" if str(file).endswith((".qcow2", ".qcow")) else "raw"
    return (str(file) if file else None), str(drive.get("format") or drive.get("driver") or guess)


# --- the whole -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Imported:
    """What an import makes: the text of a guest XML, the description, and what was left out."""

    xml: str
    tree: Tree
    warnings: tuple[Warn, ...] = ()


def imported(words: Sequence[Word], name: str) -> Imported:
    """The guest of a command line; raises InputError, and QemuError where QEMU itself refuses the options."""
    from mdtool.guest.defaults import with_defaults
    from mdtool.guest.devices import guest_from_bytes, wanted_from_guest

    report = Report()
    binary = words[0].text
    given = options_from_source(words)
    options, host = without_host(given)
    raw = _raw(binary, options)
    bare = _raw(
        binary, [o for o in options if o.name in ("accel", "display", "machine", "M", "m", "cpu", "smp")], bare=True
    )
    own = {(device.driver, bus.name, device.properties.get("addr")) for bus, device in placed(bare.buses)}
    arch = raw.answers["target"]["arch"]
    machine = str(raw.answers["type"]).removesuffix("-machine")
    writer = _Xml(host, arch, machine, report)
    made: list[Made] = []
    hand: set[str] = set()
    users = dict(raw.users)
    taken = {device.id for _, device in placed(raw.buses)}

    def call(device: RawDevice, id: str) -> str:
        """Give an anonymous device an id, as if the user had; what has one keeps it."""
        if not device.id:
            while id in taken:
                id += "x"
            taken.add(id)
            _name(device, id)
        device.path = device.path or f"/machine/peripheral/{device.id}"
        users[device.path] = device.driver
        return device.id

    for bus, device in _in_order(raw.buses):
        inherent = (device.driver, bus.name, device.properties.get("addr")) in own
        if bus.type in FOLDED or (device.path not in users and inherent):
            continue
        if device.driver in _CODECS and made:
            card = made[-1]
            card.parts.append(call(device, f"{card.id}-codec{len(card.parts)}"))
            card.xml = card.xml.replace("/>", "></sound>", 1)
            card.xml = card.xml.replace("</sound>", f"<codec type='{_CODECS[device.driver]}'/></sound>")
        elif (element := writer.element(bus, device)) is not None:
            made.append(Made(call(device, element[1]), element[0]))
        elif device.path in users:
            id = call(device, f"import{len(hand)}")
            hand.add(id)
            what = f"{id} ({device.driver}): the XML has no words for it; it stays in the description"
            report.warn(what, rule="import")
    tree = tree_from_raw(replace(raw, users=users))
    xml = _domain(tree, name, binary, arch, machine, given, [one.xml for one in made], report)
    guest = guest_from_bytes(xml.encode(), f"{name}.xml")
    wanted = with_defaults(guest, wanted_from_guest(guest, report))
    return Imported(xml, _linked(tree, guest, wanted, made, hand), tuple(report.warnings))


def _name(device: RawDevice, id: str) -> None:
    """Give a device an id, and its buses the names that QEMU makes of it."""
    device.id = id
    inner = [d for bus in device.buses if bus.type in FOLDED for d in bus.devices]
    for provider in (device, *inner):
        for number, bus in enumerate(provider.buses):
            if bus.type in ("PCI", "PCIE"):
                bus.name = id
            elif bus.type not in FOLDED:
                bus.name = f"{id}.{number}"


#: back ends that are links, which `info qtree` leaves out: driver -> property
_LINKS = {"isa-serial": "chardev", "isa-parallel": "chardev", "virtio-rng-pci": "rng"}


def _add_links(session: Session, device: RawDevice) -> None:
    name = _LINKS.get(device.driver)
    if name is None or name in device.properties:
        return
    if device.path is None:  # the board's own, which -serial and -parallel made
        device.properties[name] = f"{device.driver.removeprefix('isa-')}{device.properties.get('index', 0)}"
        return
    with suppress(QemuError):
        device.properties[name] = session.execute("qom-get", {"path": device.path, "property": name})


def _raw(binary: str, options: Sequence[Option], *, bare: bool = False) -> Raw:
    more = [Option("nodefaults"), Option("no-user-config")] if bare else []
    every = (*more, *options)
    try:
        with rehearsal(Prepared(Tree(), binary, every, handover(every))) as qemu:
            raw = read(qemu.session)
            for _, device in placed(raw.buses):
                _add_links(qemu.session, device)
            return raw
    except QemuError as error:
        spoken = next((o for o in options if o.position and o.value and o.value in error.what), None)
        raise QemuError(error.what, at=spoken.position if spoken else None, rule=error.rule) from None


def _in_order(buses: Sequence[RawBus]) -> Iterator[tuple[RawBus, RawDevice]]:
    """As made: QEMU lists the youngest first, and a carrier before what it carries."""
    for bus in buses:
        for device in reversed(bus.devices):
            yield bus, device
            yield from _in_order(device.buses)


def _linked(tree: Tree, guest: Guest, wanted: Sequence[Wanted], made: Sequence[Made], hand: set[str]) -> Tree:
    """The tree with each node's element as its origin."""
    of = {id(want.element): want for want in wanted if want.element is not None}
    chosen = [element for element in guest.devices if element.tag not in ("emulator", "graphics", "audio")]
    changes: dict[str, dict[str, Any]] = {}
    for one, element in zip(made, chosen, strict=False):
        if (want := of.get(id(element))) is not None and one.id in tree.by_name:
            changes[one.id] = {"origin": want.origin}
            changes |= {part: {"origin": f"{want.origin}/codec/{n}"} for n, part in enumerate(one.parts)}
    tree = tree_with(tree, {**changes, **{id: {"origin": HAND} for id in hand if id in tree.by_name}})
    tree = linked(guest, tree, Report())
    # What the XML implies and the guest has otherwise is the guest's: as if a hand had changed it after the XML set it.
    asked = {want.origin: want.properties for want in wanted}
    return tree_with(
        tree,
        {
            place.name: _kept(place.node, asked[place.node.origin or ""])
            for place in tree.places
            if place.node.origin in asked
        },
    )


def _kept(node: Node, asked: Mapping[str, Any]) -> dict[str, Any]:
    have = {**node.pins, **node.properties}
    other = {name: have[name] for name, value in asked.items() if name in have and not same(have[name], value)}
    return {"applied": dict(asked), "properties": {**node.properties, **other}}


def _domain(
    tree: Tree,
    name: str,
    binary: str,
    arch: str,
    machine: str,
    options: Sequence[Option],
    elements: Sequence[str],
    report: Report,
) -> str:
    said: dict[str, Option] = {option.name: option for option in options}
    named = said["name"].bag.get("guest", name) if "name" in said else name
    uuid = f"  <uuid>{said['uuid'].value}</uuid>\n" if "uuid" in said else ""
    smp = tree.cpu
    kvm = "enable-kvm" in said or any("kvm" in (o.value or "") for o in options if o.name in ("accel", "machine"))
    boot = "".join(
        f"    <{tag}>{escape(str(said[key].value))}</{tag}>\n"
        for key, tag in (
            ("bios", "loader"),
            ("kernel", "kernel"),
            ("initrd", "initrd"),
            ("append", "cmdline"),
            ("dtb", "dtb"),
        )
        if key in said
    )
    x86 = arch in ("x86_64", "i386")
    acpi = "no-acpi" not in said and not ("machine" in said and said["machine"].bag.get("acpi") == "off")
    features = ("<acpi/>" if acpi else "") + ("<apic/>" if x86 else "")
    clock = "localtime" if "rtc" in said and said["rtc"].bag.get("base") == "localtime" else "utc"
    graphics = _graphics(said)
    implied = []
    if not any("<memballoon" in element for element in elements):
        implied.append("<memballoon model='none'/>")
    if not any("type='usb'" in element for element in elements):
        implied.append("<controller type='usb' model='none'/>")
    if graphics and not any("<video" in element for element in elements):
        implied.append("<video><model type='none'/></video>")
    body = "".join(f"    {element}\n" for element in [*elements, *implied, *graphics])
    emulator = binary if binary.startswith("/") else f"/usr/bin/{binary}"
    topology = smp.get("topology", {})
    shape = "".join(f" {key}='{topology.get(key, 1)}'" for key in ("sockets", "cores", "threads"))
    return (
        f"<domain type='{'kvm' if kvm else 'qemu'}'>\n  <name>{escape(str(named))}</name>\n{uuid}"
        f"  <memory unit='b'>{tree.memory.get('size', 128 << 20)}</memory>\n"
        f"  <vcpu>{smp.get('maxcpus', smp.get('vcpus', 1))}</vcpu>\n"
        f"  <os>\n    <type arch='{_ARCH.get(arch, arch)}' machine='{machine}'>hvm</type>\n{boot}  </os>\n"
        f"  <features>{features}</features>\n{_cpu(said, shape if topology else '', report)}"
        f"  <clock offset='{clock}'/>\n"
        f"  <devices>\n    <emulator>{escape(emulator)}</emulator>\n{body}  </devices>\n</domain>\n"
    )


def _cpu(said: Mapping[str, Option], shape: str, report: Report) -> str:
    topology = f"<topology{shape}/>" if shape else ""
    if "cpu" not in said:
        return f"  <cpu>{topology}</cpu>\n" if topology else ""
    model, *features = bag_words(said["cpu"].value or "")
    if model in ("host", "max"):
        mode = "host-passthrough" if model == "host" else "maximum"
        return f"  <cpu mode='{mode}'>{topology}</cpu>\n"
    inner = ""
    for feature in features:
        name, _, value = feature.partition("=")
        policy = "disable" if value == "off" or name.startswith("-") else "require"
        if value not in ("", "on", "off"):
            report.warn(f"-cpu {feature}: it stays in the description", rule="import")
            continue
        inner += f"<feature policy='{policy}' name='{name.lstrip('+-')}'/>"
    return (
        f"  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>{model}</model>{topology}{inner}</cpu>\n"
    )


def bag_words(text: str) -> list[str]:
    return text.split(",")


def _graphics(said: Mapping[str, Option]) -> list[str]:
    if "vnc" in said:
        address = bag_from_text(said["vnc"].value or "", "vnc")["vnc"]
        host, _, display = address.rpartition(":")
        port = f"port='{5900 + int(display)}'" if display.isdigit() else "autoport='yes'"
        return [f"<graphics type='vnc' {port} listen='{host or '0.0.0.0'}'/>"]
    if "spice" in said:
        bag = bag_from_text(said["spice"].value or "")
        return [f"<graphics type='spice' port='{bag.get('port', '-1')}' listen='{bag.get('addr', '127.0.0.1')}'/>"]
    return []
