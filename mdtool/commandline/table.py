"""QEMU's options: one row an option, of QEMU 2.x to 11.1.

A row says how its argument is written, what it creates, its group in a file for ``-readconfig``, and what becomes of it
where a command line is imported:

    guest    the machine shows it: the description has it
    host     what stands behind a device, or a file of the host's: an element of the XML, or <qemu:commandline>
    kept     <qemu:commandline>, as it stands
    ours     a launch does the same anyhow
    lost     not carried over, and reported with what to do instead
    gone     an option of older QEMUs that no QEMU takes any more: an error

``commandline.placeholder`` has the other half: what takes its place where nothing of the host may be touched.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.records import NamedTuple
from mdtool.text import pattern

GUEST, HOST, KEPT, OURS, LOST, GONE = "guest", "host", "kept", "ours", "lost", "gone"


class OptionRow(NamedTuple):
    """One option.

    ``fate``        one of the above
    ``says``        where it is from now on, or what to do instead
    ``argument``    whether it takes one
    ``keyed``       whether its argument is ``key=value,...`` (or JSON, where QEMU takes that)
    ``implied``     the key of a first word without ``=``
    ``creates``     what it creates under an id that other options name: a device, a netdev, ...
    ``group``       its group in a file for -readconfig
    """

    fate: str
    says: str = ""
    argument: bool = True
    keyed: bool = False
    implied: str | None = None
    creates: str | None = None
    group: str | None = None


#: NAME! takes no argument, NAME: takes key=value, NAME:KEY has an implied first key, and >KIND is what it creates
_NOTATION = pattern(r"(?P<name>[\w-]+)(?P<flag>!)?(?P<keyed>:(?P<implied>[\w-]*))?(?:>(?P<creates>\w+))?")


def _rows(fate: str, notation: str, says: str = "") -> dict[str, OptionRow]:
    """
    >>> _rows(GUEST, "usb! device:driver>device")["device"][2:6]
    (True, True, 'driver', 'device')
    """
    found = {}
    for word in notation.split():
        match = _NOTATION.fullmatch(word)
        assert match is not None, word
        has_argument, keyed = match["flag"] is None, match["keyed"] is not None
        group = _GROUPS.get(match["name"])
        found[match["name"]] = OptionRow(fate, says, has_argument, keyed, match["implied"] or None, match["creates"], group)
    return found


#: option -> its group in a file for -readconfig, in the order in which mdtool writes the groups
_GROUPS = {
    "name": "name",
    "machine": "machine",
    "m": "memory",
    "smp": "smp-opts",
    "object": "object",
    "numa": "numa",
    "boot": "boot-opts",
    "rtc": "rtc",
    "global": "global",
    "chardev": "chardev",
    "mon": "mon",
    "netdev": "netdev",
    "drive": "drive",
    "fsdev": "fsdev",
    "tpmdev": "tpmdev",
    "device": "device",
}
_LAUNCH = "mdtool launch"
OPTIONS: Mapping[str, OptionRow] = {
    **_rows(GUEST, "device:driver>device global: m:size numa:type smp:cpus usbdevice vga"),
    **_rows(GUEST, "no-acpi! no-hpet! nodefaults! no-user-config! usb!"),
    **_rows(GUEST, "boot:order cpu:model machine:type rtc: smbios: uuid", "the description and the XML"),
    **_rows(GUEST, "readconfig set", "read, and each of its options goes its own way"),
    **_rows(HOST, "hda hdb hdc hdd cdrom fda fdb sd mtdblock drive:>drive blockdev:driver>blockdev snapshot!", "<disk>"),
    **_rows(HOST, "pflash bios", "<os><loader>, <os><nvram>"),
    **_rows(HOST, "kernel initrd append dtb", "<os>"),
    **_rows(HOST, "net:type nic:type netdev:type>netdev", "<interface>"),
    **_rows(
        HOST, "serial parallel chardev:backend>chardev debugcon nographic!", "<serial>, <parallel>, <console>, <channel>"
    ),
    **_rows(HOST, "display:type vnc:vnc spice: sdl! full-screen! curses! k", "<graphics>"),
    **_rows(HOST, "audiodev:driver>audiodev audio:driver", "<audio>"),
    **_rows(HOST, "fsdev:fsdriver>fsdev virtfs:fsdriver", "<filesystem>"),
    **_rows(HOST, "tpmdev:type>tpmdev", "<tpm>"),
    **_rows(HOST, "object:qom-type>object", "<rng>, <memoryBacking>, <iothreads>, ..."),
    **_rows(HOST, "mem-path mem-prealloc!", "<memoryBacking>"),
    **_rows(HOST, "fw_cfg:name", "<sysinfo type='fwcfg'>"),
    **_rows(HOST, "name:guest accel:accel enable-kvm! no-kvm!", "<name>, <domain type>"),
    **_rows(HOST, "action: no-reboot! no-shutdown! watchdog-action", "<on_reboot>, <on_poweroff>, <watchdog action>"),
    **_rows(KEPT, "acpitable: option-rom prom-env g icount:shift no-fd-bootchk!"),
    **_rows(KEPT, "plugin semihosting! semihosting-config: seed L compat:"),
    **_rows(KEPT, "tb-size rotate portrait! alt-grab! ctrl-grab! win2k-hack! xen-domid xen-attach! xen-domid-restrict!"),
    **_rows(KEPT, "shim iscsi: old-param! enable-fips! async-teardown! overcommit: jitdump! perfmap!"),
    **_rows(OURS, "msg: nodefconfig! only-migratable!"),
    **_rows(LOST, "monitor mon:chardev", f"{_LAUNCH} --qmp PATH gives a monitor; virsh qemu-monitor-command another"),
    **_rows(LOST, "qmp qmp-pretty", f"{_LAUNCH} --qmp PATH"),
    **_rows(LOST, "daemonize!", f"{_LAUNCH} --daemonize"),
    **_rows(LOST, "pidfile", f"{_LAUNCH} --pidfile FILE"),
    **_rows(LOST, "D d trace dfilter enable-sync-profile!", f"{_LAUNCH} --log FILE keeps what QEMU prints"),
    **_rows(LOST, "S! preconfig!", f"{_LAUNCH} --paused"),
    **_rows(LOST, "incoming", f"{_LAUNCH} --incoming URI"),
    **_rows(LOST, "runas", f"{_LAUNCH} --user NAME"),
    **_rows(LOST, "chroot run-with:", "a service manager's affair"),
    **_rows(LOST, "sandbox:enable", f"{_LAUNCH} has its own, and --no-sandbox"),
    **_rows(LOST, "gdb s! singlestep!", "start it on the monitor: gdbserver"),
    **_rows(LOST, "loadvm", "load it on the monitor: loadvm"),
    **_rows(LOST, "add-fd:", "a descriptor of the process that starts QEMU; name a file instead"),
    **_rows(LOST, "echr writeconfig dump-vmstate audio-help! realtime:", "it says nothing of the guest"),
    **_rows(GONE, "soundhw", "-device AC97 or -device intel-hda -device hda-duplex, with -audiodev"),
    **_rows(GONE, "watchdog", "-device i6300esb"),
    **_rows(GONE, "no-frame! no-quit! win2k-install!", "drop it"),
    **_rows(GONE, "help! h! version!", "no guest is started with it"),
}
#: option -> its group in a file for -readconfig, in the order in which they are written
GROUPS: Mapping[str, str] = {name: group for name, group in _GROUPS.items() if OPTIONS[name].group}
#: option -> the key of a first word without ``=``
IMPLIED: Mapping[str, str] = {name: row.implied for name, row in OPTIONS.items() if row.implied}


def creates(name: str) -> str | None:
    """What an option creates under an id: ``creates("netdev")`` is "netdev"; None for one that creates nothing so."""
    row = OPTIONS.get(name)
    return row.creates if row is not None else None


def is_keyed(name: str) -> bool:
    """Whether an option's argument is ``key=value,...``."""
    row = OPTIONS.get(name)
    return row is not None and row.keyed
