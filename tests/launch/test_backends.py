"""The host side of each element: what the XML says and what QEMU is told, and that a rehearsal needs none of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support_backends import UUID, guest_of, line_of, pairs

from mdtool.commandline.placeholder import server
from mdtool.errors import Errors, MdtoolError
from mdtool.guest.platform.firmware import Copy
from mdtool.launch.backends import BACKENDS, block, char, display, net
from mdtool.launch.backends.base import Host, reconnecting
from mdtool.launch.backends.hostdev import KINDS as HOST_DEVICES

VDA = "<target dev='vda' bus='virtio'/>"
NIC = "<mac address='52:54:00:00:00:01'/><model type='e1000'/>"
VIRTIO = NIC.replace("e1000", "virtio")
CHANNEL = "<target type='virtio' name='org.example'/>"

#: what of the table a case is for, the device elements, and what QEMU must be told: (flag, part of its value)
CASES: list[tuple[str, str, tuple[str, Any]]] = [
    (
        "disk file",
        f"<disk type='file'><driver type='qcow2' cache='none' io='native'/><source file='/d/a,b.img'/>{VDA}</disk>",
        (
            "-blockdev",
            {"driver": "file", "filename": "/d/a,b.img", "aio": "native", "cache": {"direct": True, "no-flush": False}},
        ),
    ),
    (
        "disk file",
        f"<disk type='file'><driver type='qcow2'/><source file='/d/a'/><backingStore/>{VDA}</disk>",
        ("-blockdev", {"driver": "qcow2", "node-name": "vda", "backing": None}),
    ),
    (
        "disk file",
        "<disk type='file'><driver type='qcow2'/><source file='/d/a'/><backingStore type='block'><format type='raw'/>"
        f"<source dev='/d/b'/></backingStore>{VDA}</disk>",
        ("-blockdev", {"driver": "qcow2", "node-name": "vda", "backing": "vda-1"}),
    ),
    (
        "disk file",
        "<disk type='file'><source file='/d/a'><slices>"
        f"<slice type='storage' offset='512' size='1024'/></slices></source>{VDA}</disk>",
        ("-blockdev", {"driver": "raw", "offset": 512, "size": 1024}),
    ),
    (
        "disk file",
        f"<disk type='file'><driver detect_zeroes='unmap'/><source file='/d/a'/>{VDA}</disk>",
        ("-blockdev", {"driver": "raw", "detect-zeroes": "on"}),
    ),
    (
        "disk file",
        f"<disk type='file'><source file='/d/a'/><iotune><read_iops_sec>7</read_iops_sec></iotune>{VDA}</disk>",
        ("-object", {"qom-type": "throttle-group", "limits": {"iops-read": 7}}),
    ),
    (
        "disk file",
        f"<disk type='file'><driver type='qcow2' copy_on_read='on'/><source file='/d/a'/>{VDA}</disk>",
        ("-blockdev", {"driver": "copy-on-read", "node-name": "vda-copy", "file": "vda"}),
    ),
    (
        "disk block",
        "<disk type='block' device='lun'><source dev='/dev/x'><reservations managed='no'><source type='unix' path='/pr' "
        "mode='client'/></reservations></source><target dev='sda' bus='scsi'/></disk>",
        ("-object", {"qom-type": "pr-manager-helper", "path": "/pr", "id": "pr-sda"}),
    ),
    ("disk block", f"<disk type='block'><source dev='/dev/x'/>{VDA}</disk>", ("-blockdev", {"driver": "host_device"})),
    (
        "disk dir",
        f"<disk type='dir'><driver type='fat'/><source dir='/d'/>{VDA}<readonly/></disk>",
        ("-blockdev", {"driver": "vvfat", "dir": "/d", "rw": False}),
    ),
    (
        "disk nvme",
        "<disk type='nvme'><driver type='raw'/>"
        "<source type='pci' namespace='2'><address domain='0' bus='0x1' slot='0x2' "
        f"function='0x3'/></source>{VDA}</disk>",
        ("-blockdev", {"driver": "nvme", "device": "0000:01:02.3", "namespace": 2}),
    ),
    (
        "disk vhostvdpa",
        f"<disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-0'/>{VDA}</disk>",
        ("-blockdev", {"driver": "virtio-blk-vhost-vdpa", "path": "/dev/vhost-vdpa-0"}),
    ),
    (
        "disk nbd",
        f"<disk type='network'><source protocol='nbd' name='e'><host name='::1' port='6000'/></source>{VDA}</disk>",
        ("-blockdev", {"driver": "nbd", "export": "e", "server": {"type": "inet", "host": "::1", "port": "6000"}}),
    ),
    (
        "disk iscsi",
        "<disk type='network'><source protocol='iscsi' name='iqn.x:y/3'><host name='h'/><auth username='u'>"
        f"<secret type='iscsi' usage='pw'/></auth></source>{VDA}</disk>",
        (
            "-blockdev",
            {"driver": "iscsi", "portal": "h:3260", "target": "iqn.x:y", "lun": 3, "password-secret": "vda-secret"},
        ),
    ),
    *(
        (
            f"disk {protocol}",
            "<disk type='network'>"
            f"<source protocol='{protocol}' name='a/b' query='q=1'><host name='h' port='{port}'/></source>{VDA}"
            "<readonly/></disk>",
            ("-blockdev", {"driver": protocol, "url": f"{protocol}://h:{port}/a/b?q=1"}),
        )
        for protocol, port in (("http", 80), ("https", 443), ("ftp", 21), ("ftps", 990))
    ),
    (
        "disk ssh",
        "<disk type='network'><source protocol='ssh' name='p/q'>"
        f"<host name='h' port='22'/><identity username='u'/></source>{VDA}</disk>",
        ("-blockdev", {"driver": "ssh", "path": "/p/q", "user": "u", "server": {"host": "h", "port": "22"}}),
    ),
    (
        "disk vhostuser",
        "<disk type='vhostuser'><source type='unix' path='/s'><reconnect enabled='yes' timeout='9'/></source>"
        f"<driver name='qemu' type='raw'/>{VDA}</disk>",
        ("-chardev", re.compile("^socket,id=chr-vda,path=/s,reconnect(=9|-ms=9000)$")),
    ),
    ("interface user", f"<interface type='user'>{NIC}</interface>", ("-netdev", {"type": "user", "id": "hostnet0"})),
    (
        "interface user",
        f"<interface type='user'>{NIC}<ip family='ipv4' address='172.17.2.0' prefix='24'/></interface>",
        ("-netdev", {"type": "user", "net": "172.17.2.0/24"}),
    ),
    (
        "interface ethernet",
        f"<interface type='ethernet'>{NIC}<target dev='tap7' managed='no'/></interface>",
        ("-netdev", {"type": "tap", "ifname": "tap7", "script": "no", "downscript": "no"}),
    ),
    (
        "interface bridge",
        f"<interface type='bridge'>{NIC}<source bridge='br1'/></interface>",
        ("-netdev", {"type": "tap", "br": "br1", "helper": "/usr/lib/qemu/qemu-bridge-helper"}),
    ),
    (
        "interface network",
        f"<interface type='network'>{NIC}<source network='default'/></interface>",
        ("-netdev", {"type": "tap", "br": "virbr0"}),
    ),
    (
        "interface vhostuser",
        f"<interface type='vhostuser'>{VIRTIO}<source type='unix' path='/v' mode='client'/></interface>",
        ("-netdev", {"type": "vhost-user", "chardev": "charnet0"}),
    ),
    (
        "interface vdpa",
        f"<interface type='vdpa'>{VIRTIO}<source dev='/dev/vhost-vdpa-0'/></interface>",
        ("-netdev", {"type": "vhost-vdpa", "vhostdev": "/dev/vhost-vdpa-0"}),
    ),
    *(
        (
            f"interface {kind}",
            f"<interface type='{kind}'>{NIC}<source address='127.0.0.1' port='5'>"
            "<local address='127.0.0.1' port='6'/></source></interface>",
            ("-netdev", {"type": "socket", key: "127.0.0.1:5"}),
        )
        for kind, key in (("server", "listen"), ("client", "connect"), ("mcast", "mcast"), ("udp", "udp"))
    ),
    ("interface null", f"<interface type='null'>{NIC}</interface>", ("-netdev", {"type": "hubport"})),
    *(
        (f"chardev {kind}", f"<channel type='{kind}'>{source}{CHANNEL}</channel>", ("-chardev", text))
        for kind, source, text in (
            ("null", "", "null,id=charchannel0"),
            ("vc", "", "vc,id=charchannel0"),
            ("pty", "", "pty,id=charchannel0"),
            ("stdio", "", "stdio,id=charchannel0"),
            ("file", "<source path='/a,b' append='on'/>", "file,id=charchannel0,path=/a,,b,append=on"),
            ("pipe", "<source path='/p'/>", "pipe,id=charchannel0,path=/p"),
            ("dev", "<source path='/dev/ttyS1'/>", "serial,id=charchannel0,path=/dev/ttyS1"),
            ("unix", "", "socket,id=charchannel0,path=/run/g/org.example,server=on,wait=off"),
            ("unix", "<source mode='connect' path='/s'/>", "socket,id=charchannel0,path=/s"),
            (
                "tcp",
                "<source mode='bind' host='h' service='1'/>",
                "socket,id=charchannel0,host=h,port=1,server=on,wait=off",
            ),
            (
                "tcp",
                "<source mode='connect' host='h' service='1'>"
                "<reconnect enabled='yes' timeout='3'/></source><protocol type='telnet'/>",
                re.compile("^socket,id=charchannel0,host=h,port=1,telnet=on,reconnect(=3|-ms=3000)$"),
            ),
            (
                "udp",
                "<source mode='bind' host='a' service='1'/><source mode='connect' host='b' service='2'/>",
                "udp,id=charchannel0,host=b,port=2,localaddr=a,localport=1",
            ),
            ("spicevmc", "", "spicevmc,id=charchannel0,name=vdagent"),
            ("spiceport", "<source channel='c'/>", "spiceport,id=charchannel0,name=c"),
            (
                "qemu-vdagent",
                "<source><clipboard copypaste='yes'/><mouse mode='client'/></source>",
                "qemu-vdagent,id=charchannel0,name=vdagent,clipboard=on,mouse=on",
            ),
            ("dbus", "<source channel='c'/>", "dbus,id=charchannel0,name=c"),
        )
    ),
    (
        "channel",
        "<channel type='unix'><source mode='bind' path='/g'/>"
        "<target type='guestfwd' address='10.0.2.1' port='46'/></channel>",
        ("-netdev", "user,id=channel0,guestfwd=tcp:10.0.2.1:46-chardev:charchannel0"),
    ),
    (
        "serial",
        "<serial type='pty'><log file='/l' append='off'/><target port='0'/></serial>",
        ("-chardev", "pty,id=charserial0,logfile=/l,logappend=off"),
    ),
    ("parallel", "<parallel type='dev'><source path='/dev/parport0'/></parallel>", ("-chardev", re.compile("^parallel,"))),
    ("console", "<console type='pty'><target type='virtio'/></console>", ("-chardev", "pty,id=charconsole0")),
    ("redirdev", "<redirdev bus='usb' type='spicevmc'/>", ("-chardev", "spicevmc,id=charredir0,name=usbredir")),
    (
        "smartcard",
        "<smartcard mode='passthrough' type='spicevmc'/>",
        ("-chardev", "spicevmc,id=charsmartcard0,name=smartcard"),
    ),
    (
        "graphics vnc",
        "<graphics type='vnc' port='5903' sharePolicy='ignore' websocket='5700'>"
        "<listen type='address' address='::1'/></graphics>",
        ("-vnc", "[::1]:3,websocket=5700,share=ignore"),
    ),
    ("graphics vnc", "<graphics type='vnc'><listen type='socket' socket='/v'/></graphics>", ("-vnc", "unix:/v")),
    (
        "graphics spice",
        "<graphics type='spice' autoport='yes'>"
        "<listen type='address' address='127.0.0.1'/><mouse mode='client'/></graphics>",
        ("-spice", "port=5900,addr=127.0.0.1,disable-ticketing=on,agent-mouse=on,seamless-migration=on"),
    ),
    ("graphics sdl", "<graphics type='sdl' display=':0'/>", ("-display", "sdl")),
    ("graphics egl-headless", "<graphics type='egl-headless'/>", ("-display", "egl-headless")),
    ("graphics dbus", "<graphics type='dbus' p2p='yes'/>", ("-display", "dbus,p2p=on")),
    (
        "audio",
        "<sound model='ac97'/><audio id='1' type='pulseaudio' serverName='s'><output latency='10' streamName='x'/></audio>",
        ("-audiodev", {"id": "audio1", "driver": "pa", "server": "s", "out": {"stream-name": "x", "latency": 10}}),
    ),
    (
        "sound",
        "<sound model='ac97'/><graphics type='spice'/>",
        ("-audiodev", {"id": "audio1", "driver": "spice"}),
    ),
    (
        "rng",
        "<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>",
        ("-object", {"filename": "/dev/hwrng"}),
    ),
    (
        "rng",
        "<rng model='virtio'><backend model='builtin'/></rng>",
        ("-object", {"qom-type": "rng-builtin", "id": "objrng0"}),
    ),
    (
        "rng",
        "<rng model='virtio'><backend model='egd' type='unix'><source mode='connect' path='/e'/></backend></rng>",
        ("-chardev", "socket,id=charrng0,path=/e"),
    ),
    (
        "tpm",
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
        ("-tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm-tpm0"),
    ),
    (
        "tpm",
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm9'/></backend></tpm>",
        ("-tpmdev", "passthrough,id=tpm-tpm0,path=/dev/tpm9"),
    ),
    (
        "filesystem",
        "<filesystem type='mount' accessmode='squash'><source dir='/a,b'/><target dir='t'/><readonly/></filesystem>",
        ("-fsdev", "local,security_model=none,id=fsdev-fs0,path=/a,,b,readonly=on"),
    ),
    (
        "filesystem",
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/a'/><target dir='t'/></filesystem>",
        ("-chardev", "socket,id=chr-vu-fs0,path=/run/g/fs0.virtiofs"),
    ),
    (
        "input",
        "<input type='evdev'><source dev='/dev/input/event1' grab='all' grabToggle='ctrl-ctrl' repeat='on'/></input>",
        (
            "-object",
            {"qom-type": "input-linux", "evdev": "/dev/input/event1", "grab_all": True, "grab-toggle": "ctrl-ctrl"},
        ),
    ),
    (
        "shmem",
        "<shmem name='s'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
        ("-object", {"qom-type": "memory-backend-file", "mem-path": "/dev/shm/s", "size": 4194304, "share": True}),
    ),
    (
        "shmem",
        "<shmem name='s'><model type='ivshmem-doorbell'/><server path='/srv'/></shmem>",
        ("-chardev", "socket,id=charshmem0,path=/srv"),
    ),
    (
        "crypto",
        "<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>",
        ("-object", {"qom-type": "cryptodev-backend-builtin", "id": "objcrypto0"}),
    ),
]
USED = {case[0] for case in CASES}


@pytest.mark.parametrize(("row", "devices", "expected"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_an_element_s_host_side(row: str, devices: str, expected: tuple[str, Any]) -> None:
    flag, part = expected
    told = [value for name, value in pairs(line_of(guest_of(devices)).backends) if name == flag]
    assert any(_has(value, part) for value in told), told


def _has(value: Any, part: Any) -> bool:
    if isinstance(part, re.Pattern):
        return bool(part.search(value))
    if isinstance(part, dict):
        return isinstance(value, dict) and all(key in value and value[key] == wish for key, wish in part.items())
    return bool(value == part)


@pytest.mark.parametrize("devices", [case[1] for case in CASES], ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_a_rehearsal_names_nothing_of_the_host(devices: str) -> None:
    line = line_of(guest_of(devices), rehearse=True)
    paths = re.findall(r"(?:file|path|dev|dir|socket|bridge|network)='(/[^']*|br1)'", devices)
    for path in paths:
        assert path not in " ".join(line.argv).replace(",,", ",")
    assert all(process.argv[:2] == (sys.executable, server.__file__) for process in line.processes)
    assert not line.secrets
    assert not line.copies


#: rows that this table's cases need not show, since they are devices without a host side
WITHOUT = {"vsock", "watchdog", "video", "controller", "memory", "pstore"}


def test_every_row_is_in_use() -> None:
    assert {name for kind in USED for name in kind.split()[:1]} | {"channel", "hostdev"} | WITHOUT >= set(BACKENDS)
    for prefix, table in (
        ("disk", {**block.SOURCES, **block.PROTOCOLS}),
        ("interface", net.KINDS),
        ("chardev", char.KINDS),
        ("graphics", display.KINDS),
    ):
        assert {f"{prefix} {name}" for name in table} - USED <= {"disk network"}


@pytest.mark.parametrize(
    ("devices", "properties"),
    [
        (
            "<hostdev mode='subsystem' type='pci'><source>"
            "<address domain='0' bus='6' slot='0x12' function='5'/></source></hostdev>",
            {"host": "0000:06:12.5"},
        ),
        (
            "<hostdev mode='subsystem' type='usb'><source><address bus='14' device='6'/></source></hostdev>",
            {"hostdevice": "/dev/bus/usb/014/006"},
        ),
        (
            "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>",
            {"vendorid": 0x1234, "productid": 0xBEEF},
        ),
        (
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
            "<address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/>"
            "</source></hostdev>",
            {"sysfsdev": "/sys/bus/mdev/devices/53764d0e-85a0-42b4-af5c-2046b460b1dc"},
        ),
        (
            "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789abcde0'/></hostdev>",
            {"wwpn": "naa.5123456789abcde0"},
        ),
    ],
)
def test_a_device_of_the_host(devices: str, properties: dict[str, Any]) -> None:
    line = line_of(guest_of(devices))
    made = next(device.arguments for device in line.devices if device.name.startswith("hostdev"))
    assert properties.items() <= made.items()
    again = line_of(guest_of(devices), rehearse=True)
    other = next(device.arguments for device in again.devices if device.name.startswith("hostdev"))
    assert not properties.keys() & other.keys()
    assert [other.get(name) for name in ("bus", "addr")] == [made.get(name) for name in ("bus", "addr")]


def test_the_store_of_uefi_variables_is_a_file_of_the_host() -> None:
    """Made from its template where it is not there yet; a rehearsal has none."""
    firmware = "<loader type='rom'>/f.fd</loader><varstore template='/t.json' path='/v.json'/>"
    guest = guest_of(os=firmware, machine="pc-q35-11.1")
    line, rehearsal = line_of(guest), line_of(guest, rehearse=True)
    assert line.copies == (Copy("/t.json", "/v.json"),) and not rehearsal.copies
    made, other = ([one.arguments for one in each.devices if "uefi" in one.name] for each in (line, rehearsal))
    assert made == [{"driver": "uefi-vars-x64", "jsonfile": "/v.json"}] and other == [{"driver": "uefi-vars-x64"}]


def test_what_kvm_alone_has_of_an_iommu_is_not_rehearsed() -> None:
    iommu = "<iommu model='intel'><driver intremap='on' eim='{}'/></iommu>"
    for eim, named in (("on", {"iommu0": "intel-iommu"}), ("off", {})):
        line = line_of(guest_of(iommu.format(eim)), rehearse=True)
        assert line.substitutes == named
        made = next(device.arguments for device in line.devices if device.name == "iommu0")
        assert made["driver"] == "intel-iommu" and made.get("eim") != "on" and ("intremap" in made) is not bool(named)


def test_a_tpm_proxy_opens_the_host_s_by_itself() -> None:
    tpm = "<tpm model='spapr-tpm-proxy'><backend type='passthrough'><device path='/dev/tpmrm9'/></backend></tpm>"
    given = guest_of(tpm, arch="ppc64", machine="pseries-7.2")
    made = next(device.arguments for device in line_of(given).devices if device.name == "tpm0")
    assert made == {"driver": "spapr-tpm-proxy", "id": "tpm0", "host-path": "/dev/tpmrm9"}


def test_every_kind_of_host_device_is_known() -> None:
    assert set(HOST_DEVICES) == {"pci", "usb", "scsi", "scsi_host", "mdev"}


@pytest.mark.parametrize(
    ("devices", "what"),
    [
        (f"<disk type='network'><driver type='raw'/><source protocol='rbd' name='p/i'/>{VDA}</disk>", "behind 'rbd'"),
        (f"<disk type='volume'><driver type='raw'/><source pool='p' volume='v'/>{VDA}</disk>", "type 'volume'"),
        ("<vsock model='virtio'><cid auto='yes'/></vsock>", "a vsock without a CID"),
        (f"<interface type='direct'>{NIC}<source dev='eth0'/></interface>", "type 'direct'"),
        (f"<interface type='network'>{NIC}<source network='lan'/></interface>", "network 'lan'"),
        (f"<interface type='bridge'>{NIC}<source bridge='b'/><virtualport type='openvswitch'/></interface>", "openvswitch"),
    ],
)
def test_what_direct_launch_does_not_know_is_named_with_its_place(devices: str, what: str) -> None:
    with pytest.raises(MdtoolError, match=re.escape(what)) as caught:
        line_of(guest_of(devices))
    errors = caught.value.errors if isinstance(caught.value, Errors) else [caught.value]
    assert errors[0].at is not None
    assert "--via libvirt" in (errors[0].remedy or "")
    shown = line_of(guest_of(devices), runtime=None)
    assert any(what in error.what for error in shown.refused)
    assert not line_of(guest_of(devices), rehearse=True).refused


def test_no_secret_is_on_the_command_line() -> None:
    devices = (
        "<graphics type='vnc' port='5900' passwd='geheim'/><graphics type='spice' port='5901' passwd='geheim'/>"
        f"<disk type='file'><driver type='qcow2'/><source file='/a'><encryption format='luks'>"
        f"<secret type='passphrase' uuid='u1'/></encryption></source>{VDA}</disk>"
    )
    line = line_of(guest_of(devices))
    assert "geheim" not in " ".join(line.argv)
    assert "geheim" not in repr(line)
    assert {(secret.name, secret.value, secret.key) for secret in line.descriptors.values()} == {
        ("vnc-password", "geheim", None),
        ("spice-password", "geheim", None),
        ("vda-key", None, "u1"),
    }
    for number, secret in line.descriptors.items():
        assert f'"id": "{secret.name}", "file": "/dev/fd/{number}"' in " ".join(line.argv)


def test_what_runs_beside_qemu() -> None:
    devices = (
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
        "<filesystem type='mount'><driver type='virtiofs'/><binary path='/bin/vfsd' xattr='on'><cache mode='always'/>"
        "<lock posix='on' flock='off'/></binary><source dir='/a'/><target dir='t'/></filesystem>"
        f"<interface type='user'>{NIC}<backend type='passt'/>"
        "<portForward proto='tcp'><range start='80' to='8080'/></portForward>"
        "</interface>"
    )
    line = line_of(guest_of(devices))
    assert {process.argv[0]: process.ready for process in line.processes} == {
        "swtpm": Path("/run/g/swtpm.sock"),
        "/bin/vfsd": Path("/run/g/fs0.virtiofs"),
        "passt": Path("/run/g/hostnet0.passt"),
    }
    vfsd = next(process.argv for process in line.processes if process.argv[0] == "/bin/vfsd")
    assert vfsd[-1] == "source=/a,cache=always,posix_lock,no_flock,xattr"


def test_memory_devices_have_their_memory_behind_them() -> None:
    devices = (
        "<memory model='dimm'><source><pagesize unit='KiB'>4</pagesize></source>"
        "<target><size unit='MiB'>64</size><node>0</node></target></memory>"
        "<memory model='dimm' access='shared' discard='yes'>"
        "<target><size unit='KiB'>63489</size><node>0</node></target></memory>"
        "<memory model='nvdimm'><source><path>/nv</path></source><target><size unit='MiB'>64</size><node>0</node>"
        "</target></memory>"
    )
    cells = (
        "<maxMemory slots='4' unit='GiB'>2</maxMemory><cpu><numa>"
        "<cell id='0' cpus='0' memory='128' unit='MiB'/></numa></cpu>"
    )
    told = {
        v["id"]: v for _, v in pairs(line_of(guest_of(devices, cells)).backends) if isinstance(v, dict) and "qom-type" in v
    }
    assert told["memdimm0"]["qom-type"] == "memory-backend-ram"
    shared = {"qom-type": "memory-backend-file", "share": True, "discard-data": True}
    assert shared.items() <= told["memdimm1"].items()
    assert told["memdimm1"]["size"] == 64 << 20, "a memory device has whole 2 MiB, as libvirt rounds it"
    assert told["memnvdimm2"]["mem-path"] == "/nv"
    assert {"prealloc": True}.items() <= told["memnvdimm2"].items() and "share" not in told["memnvdimm2"]


def test_the_cache_mode_decides_the_drive_s_write_cache() -> None:
    for cache, expected in (("none", "on"), ("writethrough", "off"), ("directsync", "off")):
        devices = f"<disk type='file'><driver type='raw' cache='{cache}'/><source file='/a'/>{VDA}</disk>"
        drive = next(d.arguments for d in line_of(guest_of(devices)).devices if d.name == "virtio-disk0")
        assert drive["write-cache"] == expected
        assert drive["drive"] == "vda"


def test_what_a_watchdog_does() -> None:
    for action, words in (
        ("poweroff", ("-action", "watchdog=poweroff")),
        ("dump", ("-action", "watchdog=pause")),
        ("reset", ()),
    ):
        backends = line_of(guest_of(f"<watchdog model='i6300esb' action='{action}'/>")).backends
        assert backends == words


def test_swtpm_keeps_its_state_where_libvirt_does() -> None:
    line = line_of(guest_of("<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"))
    assert [process.folder for process in line.processes] == [Path(f"/var/lib/libvirt/swtpm/{UUID}/tpm2")]


def test_a_newer_qemu_counts_milliseconds() -> None:
    guest = guest_of()
    assert reconnecting("3", Host(guest, Path("/run"), version=(9, 1))) == {"reconnect": 3}
    assert reconnecting("3", Host(guest, Path("/run"), version=(11, 1))) == {"reconnect-ms": 3000}
    assert reconnecting(None, Host(guest, Path("/run"))) == {}


def mutants(devices: str) -> Iterator[str]:
    """The same elements with one element or attribute gone, or one value that is none."""
    root = ElementTree.fromstring(f"<devices>{devices}</devices>")

    def text() -> str:
        return "".join(ElementTree.tostring(child, encoding="unicode") for child in root)

    for parent, child in [(holder, held) for holder in root.iter() for held in holder]:
        index = list(parent).index(child)
        parent.remove(child)
        yield text()
        parent.insert(index, child)
        for name, value in list(child.attrib.items()):
            del child.attrib[name]
            yield text()
            child.attrib[name] = "99999999999999999999x"
            yield text()
            child.attrib[name] = value
        if child.text:
            kept, child.text = child.text, "zz"
            yield text()
            child.text = kept


def test_damaged_elements_end_in_errors_and_not_in_tracebacks() -> None:
    damaged = [found for _row, devices, _expected in CASES for found in mutants(devices)]
    for index, devices in enumerate(damaged):
        with suppress(MdtoolError):
            line_of(guest_of(devices), rehearse=bool(index % 2))
