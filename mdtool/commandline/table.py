"""What becomes of each of QEMU's options: one row an option.

guest    the machine shows it: the description has it
host     what stands behind a device, or a file of the host's: an element of the XML, or <qemu:commandline>
kept     <qemu:commandline>, as it stands
ours     a launch does the same anyhow
lost     not carried over, and said with what to do instead
gone     an option of older QEMUs that no QEMU takes any more: an error
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

GUEST, HOST, KEPT, OURS, LOST, GONE = "guest", "host", "kept", "ours", "lost", "gone"


class Row(NamedTuple):
    """``fate`` is one of the above; ``says`` where it is from now on, or what to do instead."""

    fate: str
    says: str = ""


def _rows(fate: str, names: str, says: str = "") -> dict[str, Row]:
    return {name: Row(fate, says) for name in names.split()}


_LAUNCH = "mdtool launch"
OPTIONS: Mapping[str, Row] = {
    **_rows(GUEST, "device global m no-acpi no-hpet no-fd-bootchk nodefaults no-user-config numa smp usb usbdevice vga"),
    **_rows(GUEST, "boot cpu machine rtc smbios uuid", "the description and the XML"),
    **_rows(GUEST, "readconfig set", "read, and each of its options goes its own way"),
    **_rows(HOST, "hda hdb hdc hdd cdrom fda fdb sd mtdblock drive blockdev snapshot", "<disk>"),
    **_rows(HOST, "pflash bios", "<os><loader>, <os><nvram>"),
    **_rows(HOST, "kernel initrd append dtb", "<os>"),
    **_rows(HOST, "net nic netdev", "<interface>"),
    **_rows(HOST, "serial parallel chardev debugcon nographic", "<serial>, <parallel>, <console>, <channel>"),
    **_rows(HOST, "display vnc spice sdl full-screen k", "<graphics>"),
    **_rows(HOST, "audiodev audio", "<audio>"),
    **_rows(HOST, "fsdev virtfs", "<filesystem>"),
    **_rows(HOST, "tpmdev", "<tpm>"),
    **_rows(HOST, "object", "<rng>, <memoryBacking>, <iothreads>, ..."),
    **_rows(HOST, "mem-path mem-prealloc", "<memoryBacking>"),
    **_rows(HOST, "fw_cfg", "<sysinfo type='fwcfg'>"),
    **_rows(HOST, "name accel enable-kvm no-kvm", "<name>, <domain type>"),
    **_rows(HOST, "action no-reboot no-shutdown watchdog-action", "<on_reboot>, <on_poweroff>, <watchdog action>"),
    **_rows(KEPT, "acpitable option-rom prom-env g icount plugin semihosting semihosting-config seed L compat"),
    **_rows(
        KEPT, "tb-size rotate portrait alt-grab ctrl-grab win2k-hack xen-domid xen-attach xen-domid-restrict shim iscsi"
    ),
    **_rows(KEPT, "old-param enable-fips async-teardown overcommit jitdump perfmap"),
    **_rows(OURS, "msg nodefconfig only-migratable"),
    **_rows(LOST, "monitor mon", f"{_LAUNCH} --qmp PATH gives a monitor; virsh qemu-monitor-command another"),
    **_rows(LOST, "qmp qmp-pretty", f"{_LAUNCH} --qmp PATH"),
    **_rows(LOST, "daemonize", f"{_LAUNCH} --daemonize"),
    **_rows(LOST, "pidfile", f"{_LAUNCH} --pidfile FILE"),
    **_rows(LOST, "D d trace dfilter enable-sync-profile", f"{_LAUNCH} --log FILE keeps what QEMU prints"),
    **_rows(LOST, "S preconfig", f"{_LAUNCH} --paused"),
    **_rows(LOST, "incoming", f"{_LAUNCH} --incoming URI"),
    **_rows(LOST, "runas", f"{_LAUNCH} --user NAME"),
    **_rows(LOST, "chroot run-with", "a service manager's affair"),
    **_rows(LOST, "sandbox", f"{_LAUNCH} has its own, and --no-sandbox"),
    **_rows(LOST, "gdb s singlestep", "start it on the monitor: gdbserver"),
    **_rows(LOST, "loadvm", "load it on the monitor: loadvm"),
    **_rows(LOST, "add-fd", "a descriptor of whoever starts QEMU; name a file instead"),
    **_rows(LOST, "echr writeconfig dump-vmstate audio-help realtime", "it says nothing of the guest"),
    **_rows(GONE, "soundhw", "-device AC97 or -device intel-hda -device hda-duplex, with -audiodev"),
    **_rows(GONE, "watchdog", "-device i6300esb"),
    **_rows(GONE, "no-frame no-quit win2k-install", "drop it"),
    **_rows(GONE, "help h version", "no guest is started with it"),
}
