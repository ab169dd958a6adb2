"""Dumps of real machines: complete, the same whichever way they are read, and harmless."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mdtool.cli import main
from mdtool.compare import compare
from mdtool.errors import MdtoolError
from mdtool.launch.prepare import version_of
from mdtool.machine.document import document_from_text
from mdtool.machine.pci import pci_facts
from mdtool.machine.tree import BUILTIN, Tree
from mdtool.machine.writer import pins_from_tree, yaml_from_tree
from mdtool.qemu.dump import dump
from mdtool.qemu.phases import asked
from mdtool.qemu.qom import _paths, one_by_one
from mdtool.qemu.read import QUESTIONS, Method, read
from mdtool.qemu.replies import placed
from mdtool.qemu.session import Question, Refused, Session, session_from_source
from mdtool.resources import resource
from tests.support import ran
from tests.support_dump import MACHINES, binary_of, new_qemu, recording, running, serving, session_of
from tests.support_waiting import until

HERE = Path(__file__).parent / "dumped"
X86 = [name for name, (arch, _) in MACHINES.items() if arch == "x86_64"]


def tree_text(tree: Tree) -> str:
    """The tree document without the version of the QEMU it came from."""
    machine = {key: value for key, value in tree.machine.items() if key != "qemu"}
    return yaml_from_tree(replace(tree, machine=machine)).split("\n---\n")[0] + "\n"


def in_every_way(session: Session) -> dict[Method, str]:
    ways = [way for way in Method if way is not Method.BATCH or session.version >= (10, 1)]
    return {way: yaml_from_tree(dump(session, way=way)) for way in ways}


# --- complete, and the same every way ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_dumped_whole_and_every_way_alike(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The tree is the golden one; the walk, which reads every property one by one, gives the same bytes."""
    arch, options = MACHINES[name]
    with session_of(binary_of(arch), options, tmp_path) as session:
        texts = in_every_way(session)
        tree = dump(session)
        version = session.version
    assert len(set(texts.values())) == 1
    golden = HERE / f"{name}.yaml"
    if pytestconfig.getoption("--regenerate"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(tree_text(tree))
    if name in X86 or version[:2] == (7, 2):  # other architectures' own devices come and go with the version
        assert tree_text(tree) == golden.read_text()
    again = document_from_text(yaml_from_tree(tree), name).tree
    assert yaml_from_tree(again) == yaml_from_tree(tree)  # the schema holds, and nothing is lost on the way
    assert pins_from_tree(again) == pins_from_tree(tree)
    Draft202012Validator(json.loads(resource("schemas", "pins.schema.json").read_text())).validate(pins_from_tree(tree))


@pytest.mark.parametrize("name", X86)
def test_a_newer_qemu_gives_the_same_nodes_and_all_ways_agree(name: str, tmp_path: Path) -> None:
    with session_of(new_qemu(), MACHINES[name][1], tmp_path) as session:
        texts = in_every_way(session)
        tree = dump(session)
    assert len(texts) == 3
    assert len(set(texts.values())) == 1
    golden = (HERE / f"{name}.yaml").read_text()
    assert tree_text(tree) == golden


def test_a_list_of_numbers_is_in_its_order(tmp_path: Path) -> None:
    """`info qtree` of QEMU 8.2 and later prints the clocks of Arm's boards as a sorted set, and 7.2 their number."""
    binary = binary_of("aarch64")
    silent = " -audio none" if version_of(binary) >= (8, 2) else ""
    with session_of(binary, f"-machine vexpress-a15 -m 64{silent}", tmp_path) as session:
        texts = in_every_way(session)
        pins = dump(session, way=Method.QTREE).by_name["realview_sysctl@main-system-bus/1c010000"].node.pins
        is_list = session.version >= (8, 2)
    assert len(set(texts.values())) == 1
    clocks = [60, 0, 0, 0, 40, 23.75, 50, 60, 40]
    assert pins.get("db-clock") == ([mhz * 1e6 for mhz in clocks] if is_list else None)
    assert pins.get("len-db-clock") == (None if is_list else len(clocks))


#: QOM properties that `info qtree` does not show and that stay out, by why
LEFT_OUT = {
    "computed by the host bridge": "mcfg_size pci-hole64-start pci-hole64-end pci-hole-start pci-hole-end",
    "where the chipset has its registers": "sci_int acpi_enable_cmd acpi_disable_cmd pm_io_base gpe0_blk gpe0_blk_len "
    "acpi-pcihp-io-base acpi-pcihp-io-len",
    "fixed by the machine type": "s4_val enable_tco x-keep-pci-slot-hpc memory-hotplug-support cpu-hotplug-legacy",
    "what goes on": "attached guest-stats guest-stats-polling-interval x-smi-negotiated-features date "
    "smart_critical_warning big-endian-framebuffer",
    "a UART's, let through": "chardev baudbase wakeup",
    "nobody's to choose: the machine made the device": "bootindex bootindexA bootindexB",
}


@pytest.mark.parametrize("name", ["q35", "pc"])
def test_nothing_that_the_walk_finds_is_lost(name: str, tmp_path: Path) -> None:
    """Every plain QOM property of every device is in the dump's raw material, or known to stay out."""
    known = {word for words in LEFT_OUT.values() for word in words.split()}
    known |= {"type", "parent_bus", "realized", "hotplugged", "hotpluggable"}
    left: dict[str, set[str]] = {}
    with session_of(binary_of("x86_64"), MACHINES[name][1], tmp_path) as session:
        raw = read(session, Method.WALK)
        shown = {device.path or "": device for _, device in placed(raw.buses)}
        for path, bag in asked(session, one_by_one(lambda _: None)(shown)).items():
            inside = {n for bus in shown[path].buses for d in bus.devices for n in d.properties}
            for found, (kind, _) in bag.items():
                if kind.startswith(("link<", "child<")) or found.startswith("legacy-"):
                    continue
                if found not in known | inside | shown[path].properties.keys():
                    left.setdefault(shown[path].driver, set()).add(found)
    assert left == {}


def test_dumped_twice_and_relaunched_the_bytes_are_the_same(tmp_path: Path) -> None:
    seen = set()
    for name in ("one", "two"):
        with running(binary_of("x86_64"), MACHINES["q35"][1], tmp_path, name) as path:
            for number in range(2):
                out = tmp_path / f"{name}{number}.yaml"
                assert main(["dump", path, "-o", str(out)]) == 0
                seen.add(out.read_bytes())
    assert len(seen) == 1


def test_the_order_of_options_does_not_matter(tmp_path: Path) -> None:
    """With addresses given, the same devices in any order are the same bytes; without, they are not (the control)."""
    head = "-machine pc-i440fx-7.2 -m 16 "
    given = [
        "-device virtio-rng-pci,addr=5",
        "-device virtio-rng-pci,addr=6,max-bytes=9",
        "-device e1000,addr=7,mac=52:54:00:00:00:01",
        "-device virtio-scsi-pci,addr=8,id=s",
        "-device usb-ehci,addr=9,id=u",
        "-device ib700",
    ]
    auto = [re.sub(r",addr=.", "", option) for option in given]

    def dumped(options: list[str], name: str) -> str:
        qemu = running(binary_of("x86_64"), head + " ".join(options), tmp_path, name)
        with qemu as path, session_from_source(path) as session:
            return yaml_from_tree(dump(session))

    assert dumped(given, "a") == dumped(given[::-1], "b")
    assert dumped(auto, "c") != dumped(auto[::-1], "d")


# --- what a node says ------------------------------------------------------------------------------------------------


def test_values_have_their_types(tmp_path: Path) -> None:
    with session_of(binary_of("x86_64"), MACHINES["q35"][1], tmp_path) as session:
        tree = dump(session)
    nic, disk, port = (tree.by_name[name].node for name in ("net0", "disk0", "pci.1"))
    assert nic.properties == {"mac": "52:54:00:11:22:33"}
    assert nic.pins["disable-legacy"] == "on"
    assert nic.pins["vectors"] == 4
    assert nic.pins["speed"] == -1
    assert nic.pins["mq"] is False
    assert tree.by_name["usb"].node.pins["p2"] == 4
    assert "netdev" not in nic.pins
    assert port.pins["io-reserve"] == 2**64 - 1
    assert port.pins["x-speed"] == "16"
    assert port.properties == {"chassis": 1, "multifunction": True, "port": 16}
    assert disk.properties == {"serial": "abc", "wwn": 0x5000C50015EA71AC}
    assert disk.address == "0:0:3"
    assert not {"drive", "channel", "scsi-id", "lun", "rerror"} & {*disk.pins, *disk.properties}
    assert tree.by_name["usb"].node.properties == {}
    assert set(disk.effective) == {"cyls", "heads", "secs", "max_io_size"}
    assert tree.cpu == {
        "model": "qemu64",
        "vcpus": 2,
        "maxcpus": 4,
        "topology": {"sockets": 2, "cores": 2, "threads": 1},
    }
    assert tree.memory == {"size": 256 << 20, "slots": 4, "max": 4 << 30}
    words = next(place.node for place in tree.places if place.node.effective.get("feature-words")).effective
    assert re.fullmatch("[0-9a-f]{8}", words["feature-words"]["1.edx"])


def test_cpu_features_of_another_architecture(tmp_path: Path) -> None:
    options = "-machine virt-7.2 -m 64 -cpu cortex-a57,pmu=off"
    with session_of(binary_of("aarch64"), options, tmp_path) as session:
        cpu = dump(session).by_name["cortex-a57-arm-cpu@0:0:0:0"].node
    assert cpu.effective["features"]["pmu"] is False
    assert cpu.effective["features"]["aarch64"] is True
    assert "realized" not in cpu.effective["features"]


def test_numa_nodes(tmp_path: Path) -> None:
    options = (
        "-machine pc-i440fx-7.2 -m 96,slots=2,maxmem=1G -smp 3,maxcpus=4,sockets=4,cores=1 "
        "-object memory-backend-ram,id=ram-node0,size=64M -object memory-backend-ram,id=ram-node1,size=32M "
        "-numa node,nodeid=0,cpus=0-1,memdev=ram-node0 -numa node,nodeid=1,cpus=2-3,memdev=ram-node1 "
        "-object memory-backend-ram,id=m2,size=128M -device pc-dimm,memdev=m2,id=d2,node=1"
    )
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        tree = dump(session)
    assert tree.numa == {
        "nodes": [
            {"id": 0, "cpus": "0-1", "memory": 64 << 20, "memdev": "ram-node0"},
            {"id": 1, "cpus": "2-3", "memory": 32 << 20, "memdev": "ram-node1"},
        ]
    }
    assert tree.by_name["d2"].node.properties == {"node": 1}
    assert (tree.cpu["vcpus"], tree.cpu["maxcpus"]) == (3, 4)


def test_flash_is_known_by_its_bank_and_its_contents(tmp_path: Path) -> None:
    code, variables = tmp_path / "code.fd", tmp_path / "vars.fd"
    code.write_bytes(b"firmware" * 16384)
    variables.write_bytes(bytes(65536))
    options = (
        "-machine pc-q35-7.2,pflash0=p0,pflash1=p1 -m 16 "
        f"-blockdev file,filename={code},node-name=p0,read-only=on -blockdev file,filename={variables},node-name=p1"
    )
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        tree = dump(session)
    assert tree.firmware == {"kind": "pflash", "sha256": hashlib.sha256(code.read_bytes()).hexdigest()}
    bank = tree.by_name["cfi.pflash01@main-system-bus/system.flash0"].node
    assert bank.effective == {}
    assert bank.pins["num-blocks"] == 32
    assert hashlib.sha256(variables.read_bytes()).hexdigest() not in yaml_from_tree(tree)  # the guest writes to it
    assert str(tmp_path) not in yaml_from_tree(tree)


def test_no_path_of_the_host_enters(tmp_path: Path) -> None:
    """Not the disk's, not the ROM's, also where it is a relative one, not a QOM path, and no name of a back end."""
    rom = tmp_path / "own.rom"
    rom.write_bytes(b"\x55\xaa\x04" + b"\0" * 2045)
    options = (
        f"-machine pc-i440fx-7.2 -m 16 -blockdev file,filename={rom},node-name=f0,read-only=on -device virtio-blk-pci,drive=f0 "
        f"-device e1000,romfile={rom} -drive file={rom},format=raw,if=none,id=dr0,readonly=on -device ide-cd,drive=dr0 "
        f"-device loader,file={os.path.relpath(rom)},addr=0x1000,force-raw=on -device pci-serial-2x,chardev1=c4,chardev2=c5"
    )
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        text = yaml_from_tree(dump(session))
    assert str(tmp_path) not in text
    assert "/machine/" not in text
    assert "own.rom" not in text
    assert "chardev" not in text


def test_what_users_made_is_told_from_what_the_machine_made(tmp_path: Path) -> None:
    """Also where both made the same: -net makes a NIC of the machine's, -device one of the user's."""
    options = "-machine pc-i440fx-7.2 -m 16 -net nic,model=e1000,macaddr=52:54:00:00:00:01 -net none "
    options = options.replace(" -net none", "") + " -device pci-bridge,id=br,chassis_nr=1 "
    options += "-device e1000,mac=52:54:00:00:00:02 -device e1000,mac=52:54:00:00:00:03,bus=br,addr=1 "
    options += "-device isa-serial,index=1 -serial null"
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        tree = dump(session)
        walked = dump(session, way=Method.WALK)
    by_mac = {p.node.properties["mac"][-1]: p.node.origin for p in tree.places if "mac" in p.node.properties}
    assert by_mac == {"1": BUILTIN, "2": None, "3": None}
    serials = {p.node.address: p.node.origin for p in tree.places if p.node.driver == "isa-serial"}
    assert serials == {"3f8": BUILTIN, "2f8": None}
    assert yaml_from_tree(walked) == yaml_from_tree(tree)


def test_hotplugged_devices_are_there_and_unplugged_ones_are_not(tmp_path: Path) -> None:
    options = "-machine pc-i440fx-7.2 -m 64,slots=2,maxmem=1G -device usb-ehci,id=u"
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        before = yaml_from_tree(dump(session))
        session.execute("device_add", {"driver": "e1000", "id": "hot", "addr": "7", "mac": "52:54:00:00:00:07"})
        session.execute("device_add", {"driver": "usb-mouse", "id": "mouse", "bus": "u.0"})
        session.execute("object-add", {"qom-type": "memory-backend-ram", "id": "m1", "size": 128 << 20})
        session.execute("device_add", {"driver": "pc-dimm", "id": "dimm1", "memdev": "m1"})
        tree = dump(session)
        places = {name: (tree.by_name[name].address, tree.by_name[name].node.address) for name in ("hot", "mouse")}
        assert places == {"hot": (("pci.0", "07.0"), "07.0"), "mouse": (("u.0", "1"), "1")}
        assert tree.by_name["dimm1"].node.driver == "pc-dimm"
        assert tree.objects["m1"] == {"type": "memory-backend-ram", "size": 128 << 20}
        session.execute("device_del", {"id": "mouse"})
        assert "mouse" not in dump(session).by_name
        session.execute("device_del", {"id": "hot"})  # pending: no guest runs that could let go of it
        assert "hot" in dump(session).by_name
    assert before != yaml_from_tree(tree)


def everything_readable(session: Session) -> list[object]:
    """Every property of every object, both trees, and what the commands about devices say."""
    tree = session.hmp("info qom-tree")
    paths = [path for path, _ in _paths(tree)]
    bags = asked(session, one_by_one(lambda _: None)(paths))
    still = {path: {name: said for name, said in bag.items() if name not in MOVING} for path, bag in bags.items()}
    queries = [session.execute(name) for name in ("query-pci", "query-hotpluggable-cpus", "query-block")]
    return [tree, session.hmp("info qtree"), still, queries]


MOVING = ("date", "rtc-time", "guest-stats")  # a clock is read


@pytest.mark.parametrize("bus", ["pcie.0-port", "pci-bridge"])
def test_an_unplug_that_is_pending_shows_nowhere(bus: str, tmp_path: Path) -> None:
    """The device is the guest's until the guest lets go of it: the dump is whole, and nothing that reads tells of it."""
    carrier = {"pcie.0-port": "pcie-root-port,id=p,chassis=1", "pci-bridge": "pci-bridge,id=p,chassis_nr=1,shpc=on"}[bus]
    options = f"-machine pc-q35-7.2 -m 16 -device usb-ehci -device {carrier} -device e1000e,id=hot,bus=p,addr=0"
    options = options if bus == "pcie.0-port" else options.replace("addr=0", "addr=1")
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        before, all_of_it = yaml_from_tree(dump(session)), everything_readable(session)
        session.execute("device_del", {"id": "hot"})
        assert yaml_from_tree(dump(session)) == before
        assert everything_readable(session) == all_of_it
        session.execute("device_add", {"driver": "usb-mouse"})
        assert everything_readable(session) != all_of_it  # the control


@pytest.mark.parametrize("name", ["q35", "pc", "virt", "pseries"])
def test_a_machine_that_ran_is_the_same_machine(name: str, tmp_path: Path) -> None:
    """Firmware moves BARs, numbers buses and sets up chipsets: none of it is of the description."""
    arch, options = MACHINES[name]
    with session_of(binary_of(arch), f"{options} -no-shutdown", tmp_path) as session:
        before = yaml_from_tree(dump(session))
        moved = session.hmp("info qtree")
        ran(session)
        until(lambda: name in ("virt", "pseries") or session.hmp("info qtree") != moved)
        assert yaml_from_tree(dump(session)) == before


#: devices with the host's side of each by name; the names, and ``how`` the host works, are those of one host or another
_HOST_SIDES = """
 -machine pc-q35-7.2 -m 16M,slots=2,maxmem=1G -nodefaults -object memory-backend-ram,id=mem,size=67108864
 -object iothread,id=thread{0} -object rng-builtin,id=rng{0} -object cryptodev-backend-builtin,id=crypto{0}
 -netdev hubport,hubid=1,id=net{0} -chardev null,id=a{0} -chardev null,id=b{0} -audiodev none,id=c{0} -audiodev none,id=d{0}
 -fsdev local,id=fs{0},path=/,security_model=none
 -blockdev driver=null-co,node-name=e{0} -blockdev driver=null-co,node-name=f{0} -blockdev driver=null-co,node-name=g{0}
 -blockdev driver=null-co,node-name=h{0}
 -device virtio-net-pci,id=n,mac=52:54:00:00:00:01,netdev=net{0}{net}
 -device virtio-blk-pci,id=vd,drive=e{0}{blk} -device virtio-scsi-pci,id=s -device scsi-hd,id=sd,bus=s.0,drive=f{0}{disk}
 -device nvme,id=nv,serial=1,drive=g{0} -device virtio-rng-pci,id=r,rng=rng{0}{rng}
 -device virtio-crypto-pci,id=cr,cryptodev=crypto{0} -device pc-dimm,id=dimm0,memdev=mem
 -device virtio-9p-pci,id=p9,mount_tag=t,fsdev=fs{0} -device VGA,id=vga
 -device intel-hda,id=snd{debug} -device hda-duplex,audiodev=c{0}{codec}
 -device qemu-xhci,id=x -device usb-storage,id=us,bus=x.0,port=1,drive=h{0}{usb} -device usb-ccid,id=cc,bus=x.0,port=3{debug}
 -device usb-audio,id=ua,bus=x.0,port=2,audiodev=d{0} -device usb-kbd,id=kbd,bus=x.0,port=4{keyboard}
 -device virtio-serial-pci,id=vs -device virtserialport,id=vp,bus=vs.0,chardev=a{0},name=o
 -device isa-serial,id=se,chardev=b{0}"""
_ELSEWHERE = {
    "net": ",x-txburst=64,x-txtimer=100,tx=timer,ioeventfd=off",
    "blk": ",werror=stop,rerror=report,share-rw=on,iothread=thread1,account-invalid=off,account-failed=off",
    "disk": ",werror=ignore,rerror=ignore,share-rw=on",
    "rng": ",max-bytes=512,period=100",
    "debug": ",debug=1",
    "codec": ",debug=1,use-timer=off",
    "usb": ",werror=stop",
    "keyboard": ",display=vga",
}


def test_the_hosts_side_is_nobodys_to_see(tmp_path: Path) -> None:
    """What back ends are called and how a host serves them is no line of a description: two hosts have the same machine."""
    found = []
    for number, how in enumerate((dict.fromkeys(_ELSEWHERE, ""), _ELSEWHERE)):
        options = _HOST_SIDES.format(number, **how).replace("\n", " ")
        with session_of(binary_of("x86_64"), options, tmp_path / str(number)) as session:
            found.append(dump(session))
    assert yaml_from_tree(found[1]) == yaml_from_tree(found[0])
    assert compare(*found) == []


# --- PCI facts -------------------------------------------------------------------------------------------------------


def asked_again(session: Session) -> dict[str, dict[str, Any]]:
    """What query-pci says of each device, by id or slot: class, ids and BARs as a dump writes them."""
    found: dict[str, dict[str, Any]] = {}
    queue = [device for bus in session.execute("query-pci") for device in bus["devices"]]
    for device in queue:
        bridge = device.get("pci_bridge", {})
        queue += bridge.get("devices", [])
        ids, bars = device["id"], {region["bar"]: region for region in device["regions"]}
        facts: dict[str, Any] = {"class": device["class_info"]["desc"], "id": f"{ids['vendor']:04x}:{ids['device']:04x}"}
        if "subsystem" in ids and not bridge:
            facts["sub"] = f"{ids.get('subsystem-vendor', 0):04x}:{ids['subsystem']:04x}"
        for number, region in bars.items():
            kind = "mem" if region["type"] == "memory" else "i/o"
            facts |= {"rom": region["size"]} if number == 6 else {f"bar{number}": f"{kind} {region['size']}"}
        found[device["qdev_id"] or f"{device['slot']:02x}.{device['function']}"] = facts
    return found


@pytest.mark.parametrize("make", [lambda: binary_of("x86_64"), new_qemu], ids=["7.2", "newer"])
def test_pci_facts_are_those_of_query_pci(make: Callable[[], str], tmp_path: Path) -> None:
    """Which shows what is behind a bridge only once firmware has numbered it, and no BAR that firmware has not mapped."""
    options = (
        "-machine pc-q35-7.2 -m 64 -device pcie-root-port,id=pci.1,chassis=1 -device VGA,id=video0 "
        "-device virtio-net-pci,bus=pci.1,id=net0 -device virtio-blk-pci,drive=d0,id=disk0 -device e1000e,id=nic "
        "-device qemu-xhci,id=usb -device ich9-usb-uhci1,id=uhci"
    )
    with session_of(make(), options, tmp_path) as session:
        tree = dump(session)
        unbooted = asked_again(session)
        told = {(p.node.id or p.node.address): dict(pci_facts(p.node)) for p in tree.places if p.node.pci}
        ran(session)
        until(lambda: asked_again(session) == told, told=lambda: (asked_again(session), told))
    assert "net0" not in unbooted
    assert told["net0"].pop("rom") in (1 << 18, 1 << 19), "the build of iPXE is the distribution's"
    assert told["net0"] == {
        "class": "Ethernet controller",
        "id": "1af4:1041",
        "sub": "1af4:1100",
        "bar1": "mem 4096",
        "bar4": "mem 16384",
    }


def test_pci_facts_are_of_the_properties_they_were_read_with(tmp_path: Path) -> None:
    """A node that somebody changes loses them; the others keep theirs, through a file and back."""
    options = "-machine pc-i440fx-7.2 -m 16 -device e1000,id=a -device e1000,id=b"
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        text = yaml_from_tree(dump(session))
    changed = re.sub(r"(id: a\n(?:.*\n)*?)( +)properties: \{mac", r"\1\2properties: {rombar: 0, mac", text, count=1)
    assert changed != text
    kept = pins_from_tree(document_from_text(text, "kept").tree)["mdtool:pci"]
    left = pins_from_tree(document_from_text(changed, "changed").tree)["mdtool:pci"]
    assert kept["a"] | {"of": ""} == kept["b"] | {"of": ""}
    assert kept["a"]["bar0"] == "mem 131072"
    assert kept.keys() - left.keys() == {"a"}
    assert left["b"] == kept["b"]


# --- round trips -----------------------------------------------------------------------------------------------------


def guest(devices: int) -> str:
    """Everything that costs questions, more of it the more devices: anonymous ones, bootable ones, on a bus or on none."""
    words = ["-machine pc-q35-7.2 -m 64,slots=99,maxmem=9G -device qemu-xhci,id=x -device virtio-scsi-pci,id=s"]
    words += [f"-device pcie-root-port,id=p{n},chassis={n},addr={n // 8 + 4:x}.{n % 8},multifunction=on" for n in range(8)]
    words += ["-device pci-bridge,id=b,chassis_nr=9,bus=p0"] + ["-device e1000,bus=b"] * 2 + ["-device ipmi-bmc-sim"]
    for number in range(devices):
        words.append(f"-blockdev null-co,node-name=n{number} -device scsi-hd,drive=n{number},bus=s.0,scsi-id={number}")
    return " ".join(words)


@pytest.mark.parametrize("make", [lambda: binary_of("x86_64"), new_qemu], ids=["7.2", "newer"])
def test_round_trips_are_constant(make: Callable[[], str], tmp_path: Path) -> None:
    """Ten devices or fifty: as many round trips, each way; the commands grow."""
    trips: dict[Method, set[int]] = {}
    commands: dict[Method, set[int]] = {}
    for devices in (10, 50):
        with session_of(make(), guest(devices), tmp_path / str(devices)) as session:
            for way in Method:
                if way is Method.BATCH and session.version < (10, 1):
                    continue
                before = session.trips, session.commands
                dump(session, way=way)
                trips.setdefault(way, set()).add(session.trips - before[0])
                commands.setdefault(way, set()).add(session.commands - before[1])
    expected = {Method.QTREE: {4}, Method.WALK: {7}, Method.BATCH: {4}}
    assert trips == {way: expected[way] for way in trips}
    assert {way for way, counts in commands.items() if len(counts) > 1} == {Method.QTREE, Method.WALK}


def test_many_questions_and_long_answers_fill_no_pipe(tmp_path: Path) -> None:
    """Far more than the sockets hold, in both directions, while QEMU takes eight commands at a time."""
    with session_of(binary_of("x86_64"), "-machine pc-i440fx-7.2 -m 16", tmp_path) as session:
        long: Question = ("query-qmp-schema", None)
        odd: Question = ("qom-get", {"path": "/machine", "property": "x" * 50_000})
        answers = session.ask([*[long] * 20, *[odd] * 40])
    assert len({str(answer) for answer in answers[:20]}) == 1
    assert sum(len(str(answer)) for answer in answers[:20]) > 1 << 21
    assert all(isinstance(answer, Refused) for answer in answers[20:])


# --- harmless --------------------------------------------------------------------------------------------------------

READING = re.compile(r"query-[a-z-]+|qom-list|qom-get|qom-list-get|qmp_capabilities|human-monitor-command")


@pytest.mark.parametrize("way", [Method.QTREE, Method.WALK])
def test_only_commands_that_read_are_sent(way: Method, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    with (
        running(binary_of("x86_64"), MACHINES["pc"][1], tmp_path) as path,
        serving(tmp_path, recording(path, seen)) as proxy,
        session_from_source(proxy) as session,
    ):
        dump(session, way=way)
    assert len(seen) > len(QUESTIONS)
    assert [command for command in seen if not READING.fullmatch(command["execute"])] == []
    lines = {c["arguments"]["command-line"] for c in seen if c["execute"] == "human-monitor-command"}
    assert lines <= {"info qtree", "info qom-tree"}


def saved(session: Session, path: Path) -> bytes:
    """The paused machine's migration stream."""
    session.execute("migrate", {"uri": f"exec:cat>{path}"})
    until(lambda: session.execute("query-migrate").get("status") == "completed")
    return path.read_bytes()


def test_dumps_leave_no_trace(tmp_path: Path) -> None:
    """`info qtree`, the QOM tree, the run state and every byte of the machine's state are as in a QEMU never dumped.

    Fifty dumps, or as many as ``MDTOOL_SOAK`` says: `make soak` makes a thousand.
    """
    options = "-machine pc-i440fx-7.2 -m 8 -rtc base=2020-01-01,clock=vm -device virtio-rng-pci -device usb-ehci"

    def facts(session: Session) -> list[object]:
        return [session.hmp("info qtree"), session.hmp("info qom-tree"), session.execute("query-status")]

    with running(binary_of("x86_64"), options, tmp_path, "a") as path, session_from_source(path) as session:
        untouched, state = facts(session), saved(session, tmp_path / "a.state")
    with running(binary_of("x86_64"), options, tmp_path, "b") as path, session_from_source(path) as session:
        for _ in range(int(os.environ.get("MDTOOL_SOAK", "50"))):
            read(session, Method.QTREE)
        assert facts(session) == untouched
        assert saved(session, tmp_path / "b.state") == state
    with running(binary_of("x86_64"), options, tmp_path, "c") as path, session_from_source(path) as session:
        session.execute("device_add", {"driver": "usb-mouse"})  # the control: the check sees what a dump must not do
        assert facts(session) != untouched
        assert saved(session, tmp_path / "c.state") != state


def test_a_property_that_cannot_be_read_costs_that_property(tmp_path: Path) -> None:
    """vmmouse has a link whose getter fails: the dump goes on, and says so."""

    class Failing(Session):
        def ask(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Any]:
            lost = ("qom-get", {"path": "/machine/peripheral/n", "property": "rombar"})
            asked = [(lost[0], {**lost[1], "property": "no-such"}) if one == lost else one for one in questions]
            return super().ask(asked, timeout=timeout)

    warned: list[str] = []
    with session_of(binary_of("x86_64"), "-machine pc-i440fx-7.2 -m 16 -device e1000,id=n", tmp_path) as session:
        failing = Failing(session.source, session._wire)
        tree = dump(failing, way=Method.WALK, warn=warned.append)
    assert any("/machine/peripheral/n" in text and "no-such" in text for text in warned)
    assert tree.by_name["n"].node.pins["romfile"]


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_whole_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "web01.yaml"
    with running(binary_of("x86_64"), MACHINES["q35"][1], tmp_path) as path:
        assert main(["dump", path, "-o", str(out)]) == 0
        assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~_umask()
        assert main(["dump", path]) == 0
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == (out.read_text(), "")
        assert main(["dump", path, "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert set(data) == {"machine", "pins"}
        assert data["machine"]["guest"] == {"name": "web01", "uuid": "3f1c0000-0000-4000-8000-000000000001"}
        assert data["pins"]["net0"]["vectors"] == 4
        assert main(["dump", path, "--thorough"]) == 0
        assert capsys.readouterr().out == printed.out
        assert main(["dump", path, "-o", str(tmp_path / "no" / "such" / "folder")]) == 2
        assert "cannot write" in capsys.readouterr().err
    assert main(["dump", path]) == 2
    assert "nothing listens" in capsys.readouterr().err


def test_a_line_that_the_grammar_does_not_have_stops_the_dump(tmp_path: Path) -> None:
    class Odd(Session):
        def ask(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Any]:
            old, new = "type System\r\n", "type System\r\n  flavour strawberry\r\n"
            answers = super().ask(questions, timeout=timeout)
            return [said.replace(old, new) if isinstance(said, str) else said for said in answers]

    with session_of(binary_of("x86_64"), "-machine pc-i440fx-7.2 -m 16", tmp_path) as session:
        odd = Odd(session.source, session._wire)
        with pytest.raises(MdtoolError, match="'flavour strawberry'") as caught:
            dump(odd)
    assert caught.value.at is not None
    assert caught.value.at.line == 3


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_power_switches_and_usb_ports_that_only_qom_has(tmp_path: Path) -> None:
    options = "-machine pc-q35-7.2,hpet=off,vmport=off,smm=off -m 16 -global ICH9-LPC.disable_s3=1 "
    options += "-device qemu-xhci,id=usb,p2=15,p3=15"
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        tree = dump(session)
        walked = dump(session, way=Method.WALK)
    assert tree.features == {"globals": {"ICH9-LPC.disable_s3": 1}}
    assert tree.machine["properties"] == {"hpet": False, "smm": "off", "vmport": "off"}
    assert tree.by_name["usb"].node.properties == {"p2": 15, "p3": 15}
    assert yaml_from_tree(walked) == yaml_from_tree(tree)


# --- files as sources ------------------------------------------------------------------------------------------------

GUEST = """\
<domain type='qemu'>
  <name>dumped</name>
  <uuid>3f1c0000-0000-4000-8000-00000000000a</uuid>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/nonexistent/disk.img'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'>
      <mac address='52:54:00:00:00:0a'/>
      <model type='e1000'/>
    </interface>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def test_a_guest_xml_is_rehearsed_and_dumped_with_its_origins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what is dumped is what a reconcile would have: nothing is left to change."""
    xml, out = tmp_path / "dumped.xml", tmp_path / "dumped.yaml"
    xml.write_text(GUEST)
    assert main(["dump", str(xml), "-o", str(out)]) == 0
    tree = document_from_text(out.read_text(), "dumped.yaml").tree
    origins = {place.node.origin for place in tree.places}
    assert {"interface/52:54:00:00:00:0a", "disk/vda", BUILTIN} <= origins
    assert tree.guest == {"name": "dumped", "uuid": "3f1c0000-0000-4000-8000-00000000000a"}
    capsys.readouterr()
    assert main(["reconcile", str(xml), str(out), "--dry-run"]) == 0
    assert "no changes" in capsys.readouterr().out


def test_xml_links_the_devices_of_a_running_qemu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "guest.xml").write_text(GUEST)
    options = "-machine pc-i440fx-7.2 -m 64 -device e1000,mac=52:54:00:00:00:0a -device e1000,mac=52:54:00:00:00:0b"
    with running(binary_of("x86_64"), options, tmp_path) as path:
        assert main(["dump", path, "--xml", str(tmp_path / "guest.xml"), "--json"]) == 0
    text = capsys.readouterr().out
    nics = [device for device in json.loads(text)["machine"]["buses"]["pci.0"]["devices"] if device["driver"] == "e1000"]
    assert [nic.get("origin") for nic in nics] == ["interface/52:54:00:00:00:0a", None]


SCRIPT = """\
#!/bin/sh
# a guest that somebody starts by hand
exec qemu-system-x86_64 -enable-kvm -M pc-q35-7.2,accel=kvm -cpu host -m 64 -nodefaults \\
  -drive file=/nonexistent/disk.qcow2,if=virtio,cache=none -cdrom /nonexistent/x.iso \\
  -netdev tap,id=n0,ifname=tap0,script=no -device virtio-net-pci,netdev=n0,mac=52:54:00:aa:00:01,id=nic \\
  -nic bridge,br=br0,model=e1000 -fsdev local,id=f,path=/nonexistent,security_model=none \\
  -device virtio-9p-pci,fsdev=f,mount_tag=/t \\
  -blockdev '{"driver":"file","filename":"/nonexistent","node-name":"b0"}' -object iothread,id=io1 \\
  -device virtio-scsi-pci,iothread=io1 -device scsi-hd,drive=b0,bus=scsi.0 \\
  -object memory-backend-file,id=m,size=64M,mem-path=/nonexistent,share=on -numa node,memdev=m \\
  -chardev socket,path=/nonexistent/x,id=c0,server=on,wait=off -device virtio-serial -device virtconsole,chardev=c0 \\
  -vnc :1 -monitor stdio -qmp unix:/nonexistent/q,server,nowait -serial pty -daemonize -pidfile /nonexistent/pid &
"""


def test_a_command_line_is_dumped_without_its_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it exists here: no KVM, tap, bridge, disk, socket."""
    (tmp_path / "start.sh").write_text(SCRIPT.replace("-m 64", '-m "$MEMORY"').replace("exec", "MEMORY=64\nexec"))
    assert main(["dump", str(tmp_path / "start.sh"), "--json"]) == 0
    text = capsys.readouterr().out
    assert "nonexistent" not in text
    devices = {device["driver"]: device for device in json.loads(text)["machine"]["buses"]["pcie.0"]["devices"]}
    assert {"virtio-net-pci", "virtio-blk-pci", "virtio-9p-pci", "virtio-scsi-pci", "virtio-serial-pci", "e1000"} <= set(
        devices
    )
    assert devices["virtio-9p-pci"]["properties"] == {"mount_tag": "/t"}
    assert devices["virtio-net-pci"] == {
        "id": "nic",
        "driver": "virtio-net-pci",
        "address": "02.0",
        "properties": {"mac": "52:54:00:aa:00:01"},
    } | {"address": devices["virtio-net-pci"]["address"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hello\n", "odd:1:1: error: neither a description nor guest XML nor a QEMU command line"),
        ("\nqemu-system-x86_64 -m $MEM\n", "odd:2:23: error: $MEM is set outside of the script"),
        ("qemu-system-x86_64 -device tpm-tis,tpmdev=t\n", "Property 'tpm-tis.tpmdev' can't find value 't'"),
        ("qemu-system-x86_64 -m 'x\n", "not a command line"),
        ("qemu-system-x86_64 -m\n", "-m needs an argument"),
        ("<domain>\n", "odd:"),
    ],
)
def test_files_that_are_no_source(text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd").write_text(text)
    assert main(["dump", str(tmp_path / "odd")]) == 2
    assert told in capsys.readouterr().err
