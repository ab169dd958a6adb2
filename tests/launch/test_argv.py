"""The command line as a whole: what goes with what, in which order, and where it goes wrong."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from support_backends import guest_of, line_of, pairs, tree_of, wanted_of

from mdtool.errors import Errors, InputError, MdtoolError
from mdtool.launch.argv import argv_from_tree, ordered
from mdtool.launch.backends.base import Host, threads
from mdtool.machine.tree import Bus, Node, Tree

NICS = "".join(
    f"<interface type='user'><mac address='52:54:00:00:00:{i:02x}'/><model type='virtio'/></interface>"
    for i in range(1, 13)
)
SERIALS = "<serial type='null'><target port='0'/></serial><serial type='null'><target port='1'/></serial>"


def names(*made: Node) -> list[str]:
    return [place.name for place in ordered(Tree(buses=(Bus("pcie.0", "PCIE", made),)))]


def test_the_order_is_libvirt_s_and_not_the_address_s() -> None:
    """Two ISA ports have no path in the migration stream: which one came first tells them apart."""
    made = [
        Node("isa-serial", "serial1", "2f8", "serial/1"),
        Node("isa-serial", "serial0", "3f8", "serial/0"),
        Node("virtio-net-pci", "net10", "01.0", "interface/b"),
        Node("virtio-net-pci", "net9", "02.0", "interface/a"),
        Node("virtio-balloon-pci", "balloon0", "00.0", "memballoon"),
        Node("qemu-xhci", "usb", "05.0", "controller/usb/0"),
        Node("pcie-root-port", "pci.1", "06.0", "controller/pci/1"),
    ]
    expected = ["pci.1", "usb", "net9", "net10", "serial0", "serial1", "balloon0"]
    assert names(*made) == expected
    random.Random(1).shuffle(made)
    assert names(*made) == expected


def test_a_bus_is_there_before_what_sits_on_it() -> None:
    companions = [
        Node("ich9-usb-uhci1", None, "1d.0", "controller/usb/0/uhci1", {"masterbus": "usb.0", "multifunction": True}),
        Node("ich9-usb-ehci1", "usb", "1d.7", "controller/usb/0", buses=(Bus("usb.0", "usb-bus"),)),
    ]
    assert names(*companions)[0] == "usb"
    inner = Node("e1000", "net0", "01.0", "interface/x")
    port = Node("pcie-root-port", "ua-port", "02.0", "controller/pci/1", buses=(Bus("ua-port", "PCIE", (inner,)),))
    assert names(port) == ["ua-port", "net0"]
    bridge = Node("spapr-pci-host-bridge", "pci.9", None, "controller/pci/9")
    tree = Tree(buses=(Bus("a.0", "PCI", (inner,), host="pci.9"), Bus("main-system-bus", "System", (bridge,))))
    assert [place.name for place in ordered(tree)] == ["pci.9", "net0"]


def test_built_ins_are_not_created() -> None:
    assert names(Node("mch", None, "00.0", "builtin"), Node("e1000", "n", "01.0", "hand")) == ["n"]


def test_every_device_carries_its_line_of_xml() -> None:
    line = line_of(guest_of(NICS))
    assert [device.position is not None for device in line.devices if device.name.startswith("net")] == [True] * 12
    assert {"net0", "hostnet0"} <= line.positions.keys()


def test_host_side_and_guest_side_meet_in_one_device() -> None:
    net = next(device.arguments for device in line_of(guest_of(NICS)).devices if device.name == "net0")
    assert net["netdev"] == "hostnet0"
    assert net["mac"] == "52:54:00:00:00:01"
    assert net["bus"] == "pci.1"


def test_what_no_guest_sees_reaches_qemu_and_never_the_description() -> None:
    guest = guest_of(
        "<rng model='virtio'><rate bytes='4096'/><backend model='random'>/dev/urandom</backend></rng>"
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>"
        "<driver txmode='timer' ioeventfd='off' event_idx='off'/></interface>"
    )
    tree = tree_of(guest, wanted_of(guest))
    told = {device.name: device.arguments for device in line_of(guest).devices}
    described = {place.name: place.node.properties for place in tree.places}
    assert told["rng0"]["max-bytes"] == 4096 and told["rng0"]["period"] == 1000 and described["rng0"] == {}
    assert told["net0"]["tx"] == "timer" and told["net0"]["ioeventfd"] is False
    assert described["net0"] == {"mac": "52:54:00:00:00:01", "event_idx": False}  # a bit that its driver reads


def test_an_element_without_a_node_is_an_error_at_its_line() -> None:
    guest = guest_of(NICS)
    wanted = wanted_of(guest)
    tree = tree_of(guest, [want for want in wanted if want.origin != "interface/52:54:00:00:00:03"])
    with pytest.raises(MdtoolError, match="the description does not have it") as caught:
        argv_from_tree(guest, tree, wanted)
    assert caught.value.at is not None
    assert "reconcile" in (caught.value.remedy or "")


def test_a_node_without_an_element_is_an_error() -> None:
    guest = guest_of(NICS)
    wanted = wanted_of(guest)
    with pytest.raises(MdtoolError, match="no longer asks for that"):
        argv_from_tree(guest, tree_of(guest, wanted), [w for w in wanted if w.origin != "interface/52:54:00:00:00:03"])


def test_a_node_written_by_hand_goes_along() -> None:
    guest = guest_of("")
    wanted = wanted_of(guest)
    tree = tree_of(guest, wanted)
    hand = Node("edu", "mine", "1f.0", "hand")
    buses = tuple(replace(bus, devices=(*bus.devices, hand)) if bus.name == "pcie.0" else bus for bus in tree.buses)
    line = argv_from_tree(guest, replace(tree, buses=buses), wanted)
    assert {"driver": "edu", "id": "mine", "bus": "pcie.0", "addr": "0x1f"} in [device.arguments for device in line.devices]


def test_disks_of_one_throttle_group_share_it() -> None:
    disk = (
        "<disk type='file'><driver type='raw'/><source file='/{0}'/><target dev='{0}' bus='virtio'/>"
        "<iotune><total_iops_sec>5</total_iops_sec><group_name>both</group_name></iotune></disk>"
    )
    line = line_of(guest_of(disk.format("vda") + disk.format("vdb")))
    assert [
        value["id"]
        for _, value in pairs(line.backends)
        if isinstance(value, dict) and value.get("qom-type") == "throttle-group"
    ] == ["both"]


def test_iothreads_are_numbered_as_libvirt_numbers_them() -> None:
    outside = "<iothreads>3</iothreads><iothreadids><iothread id='2'/></iothreadids>"
    line = line_of(guest_of("", outside))
    assert [value["id"] for _, value in pairs(line.backends) if value.get("qom-type") == "iothread"] == [
        "iothread2",
        "iothread1",
        "iothread3",
    ]


MAPPED = "<iothreads><iothread id='2'><queue id='0'/><queue id='1'/></iothread><iothread id='1'/></iothreads>"


def test_several_iothreads_share_the_queues_of_a_disk() -> None:
    disk = f"<disk type='file'><driver>{MAPPED}</driver><target dev='vda' bus='virtio'/></disk>"
    guest = guest_of(disk)
    (element,) = guest.domain.all("devices/disk")
    host = Host(guest, Path("/run"), version=(9, 0))
    rows = [{"iothread": "iothread2", "vqs": [0, 1]}, {"iothread": "iothread1"}]
    assert threads(element, host) == {"iothread-vq-mapping": rows}
    with pytest.raises(InputError, match=r"several I/O threads need QEMU 9"):
        threads(element, replace(host, version=(8, 2)))


def test_a_codec_plays_where_its_card_is_told_to() -> None:
    line = line_of(guest_of("<sound model='ich9'/><audio id='3' type='none'/>"))
    audio = {device.name: device.arguments.get("audiodev") for device in line.devices}
    assert audio["sound0-codec0"] == "audio3"
    assert audio["sound0"] is None


def test_the_speaker_is_the_machine_s() -> None:
    line = line_of(guest_of("<sound model='pcspk'/><audio id='1' type='none'/>", machine="pc-i440fx-7.2"))
    assert any("pcspk-audiodev=audio1" in word for word in line.platform)


def test_displays_get_ports_of_their_own() -> None:
    devices = (
        "<graphics type='vnc' port='-1' autoport='yes'/><graphics type='spice' autoport='yes'/>"
        "<graphics type='vnc' port='5901' autoport='no'/>"
    )
    words = " ".join(line_of(guest_of(devices), port=lambda start: max(start, 5900)).backends)
    assert "-vnc 127.0.0.1:0 " in words
    assert "port=5902" in words
    assert "-vnc 127.0.0.1:1" in words


def test_options_of_qemu_commandline_come_last_and_once() -> None:
    outside = (
        "<qemu:commandline><qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/a,string=b'/><qemu:arg value='-foo'/>"
        "<qemu:arg value='-global'/>"
        "<qemu:arg value='e1000.autonegotiation=off'/><qemu:env name='A' value='b'/></qemu:commandline>"
    )
    line = line_of(guest_of("", outside))
    assert line.argv[-1] == "-foo"
    assert line.argv.count("name=opt/a,string=b") == line.argv.count("e1000.autonegotiation=off") == 1
    assert line.environment == {"A": "b"}
    rehearsed = line_of(guest_of("", outside), rehearse=True)
    assert rehearsed.extra == ()
    assert rehearsed.argv.count("name=opt/a,string=b") == rehearsed.argv.count("e1000.autonegotiation=off") == 1
    assert not rehearsed.environment


def test_a_stand_in_keeps_the_place_and_is_named() -> None:
    devices = (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        "<address domain='0' bus='6' slot='0' function='0'/></source>"
        "</hostdev><vsock model='virtio'><cid auto='no' address='3'/></vsock>"
    )
    line = line_of(guest_of(devices), rehearse=True)
    assert line.substitutes == {"hostdev0": "pci-testdev", "vsock0": "virtio-rng-pci"}
    real = {device.name: device.arguments for device in line_of(guest_of(devices)).devices}
    for device in line.devices:
        assert device.arguments.get("addr") == real[device.name].get("addr")
        assert device.arguments.get("bus") == real[device.name].get("bus")


def test_errors_are_all_said_at_once() -> None:
    rbd = (
        "<disk type='network'><driver type='raw'/><source protocol='rbd' name='a/b'/><target dev='{}' bus='virtio'/></disk>"
    )
    with pytest.raises(Errors) as caught:
        line_of(guest_of(rbd.format("vda") + rbd.format("vdb")))
    assert len(caught.value.errors) == 2


def test_nobody_looks_at_the_host_for_showing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdtool.guest.platform._need_kvm", lambda _: pytest.fail("looked at the host"))
    guest = guest_of(NICS, machine="pc-q35-7.2", type="kvm")
    wanted = wanted_of(guest)
    line = argv_from_tree(guest, tree_of(guest, wanted), wanted)
    assert "kvm" in line.argv


def test_a_rehearsal_puts_nothing_behind_options_of_qemu_commandline() -> None:
    given = {
        "-netdev": "tap,id=n,ifname=tap0",
        "-chardev": '{"backend": "socket", "id": "c", "path": "/s"}',
        "-object": "rng-random,id=r,filename=/dev/hwrng",
        "-drive": "file=/d.img,if=none,id=d,format=qcow2",
        "-blockdev": '{"driver": "file", "node-name": "b", "filename": "/b"}',
        "-audiodev": "pa,id=a",
        "-fw_cfg": "name=opt/a,file=/f",
        "-display": "gtk",
    }
    args = "".join(f"<qemu:arg value='{flag}'/><qemu:arg value='{value}'/>" for flag, value in given.items())
    line = line_of(guest_of("", f"<qemu:commandline><qemu:arg value='stray'/>{args}</qemu:commandline>"), rehearse=True)
    extra = dict(zip(line.extra[::2], line.extra[1::2], strict=True))
    assert json.loads(extra["-netdev"])["type"] == "hubport"
    assert extra["-chardev"] == "null,id=c"
    assert json.loads(extra["-object"]) == {"qom-type": "rng-builtin", "id": "r"}
    assert extra["-drive"] == "if=none,id=d,driver=null-co,size=17179869184,read-zeroes=on"
    assert json.loads(extra["-blockdev"])["node-name"] == "b"
    assert json.loads(extra["-audiodev"]) == {"driver": "none", "id": "a"}
    assert set(extra) == {"-netdev", "-chardev", "-object", "-drive", "-blockdev", "-audiodev"}
