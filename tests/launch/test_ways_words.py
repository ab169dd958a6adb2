"""QEMU's own option notation: read, written, and the quick reader held against the grammar."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtool.commandline.option import Option, bag_from_text, options_from_words, text_from_bag, users
from mdtool.commandline.table import OPTIONS
from mdtool.errors import InputError
from mdtool.importer import bag_by_grammar
from mdtool.launch import file, monitor, options

KEYS = st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True)
VALUES = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_the_quick_reader_is_the_grammars(bag: dict[str, str]) -> None:
    text = text_from_bag(bag)
    if not text.startswith("{"):
        assert bag_from_text(text) == bag == bag_by_grammar(text)


def test_a_command_line_is_read_as_qemu_does() -> None:
    found = options_from_words(["-S", "-M", "q35,accel=tcg", "--smp", "2", "disk.img"])
    assert [(o.name, o.value) for o in found] == [
        ("S", None),
        ("machine", "q35,accel=tcg"),
        ("smp", "2"),
        ("hda", "disk.img"),
    ]
    assert found[1].bag == {"type": "q35", "accel": "tcg"}
    with pytest.raises(InputError, match="-m needs an argument"):
        options_from_words(["-m"])


def test_a_backend_is_known_by_its_device() -> None:
    found = options_from_words(
        ["-blockdev", '{"driver":"file","node-name":"s"}', "-blockdev", '{"driver":"qcow2","node-name":"f","file":"s"}',
         "-device", '{"driver":"virtio-blk-pci","id":"virtio-disk0","drive":"f","bus":"pci.1"}',
         "-device", '{"driver":"pcie-root-port","id":"pci.1"}']
    )  # fmt: skip
    assert users(found) == {"s": "virtio-disk0", "f": "virtio-disk0"}


def device(driver: str, id: str, **more: str) -> Option:
    return Option("device", text_from_bag({"driver": driver, "id": id, **more}, "driver"))


def plugged(driver: str, id: str, **more: object) -> Option:
    import json

    return Option("device", json.dumps({"driver": driver, "id": id, **more}))


def test_the_file_holds_no_secrets_and_nothing_that_its_reader_cannot_take() -> None:
    given_ = [
        Option("object", '{"qom-type": "secret", "id": "s0", "file": "/dev/fd/9"}'),
        Option("object", '{"qom-type": "memory-backend-ram", "id": "m0", "size": 1, "host-nodes": [0]}'),
        plugged("virtio-blk-pci", "disk", serial='a"b', bus="pci.0", addr="0x3"),
        plugged("virtio-net-pci", "net0", bus="pci.0", addr="0x4", mac="52:54:00:00:00:01"),
        Option("vnc", "127.0.0.1:0,password=on"),
        Option("cpu", "qemu64"),
    ]
    made = file.handover(given_)
    assert [o.name for o in made.options] == ["object", "object", "device", "vnc", "cpu"]
    assert made.config == (
        '[device "net0"]\n  driver = "virtio-net-pci"\n  bus = "pci.0"\n  addr = "0x4"\n  mac = "52:54:00:00:00:01"\n\n'
    )


def test_what_sits_on_a_device_that_stays_an_option_stays_too() -> None:
    """QEMU makes the file's devices first: the bus would not be there."""
    made = file.handover([plugged("virtio-scsi-pci", "scsi0", queues=[1]), plugged("scsi-hd", "d", bus="scsi0.0")])
    assert [o.id for o in made.options] == ["scsi0", "d"] and made.config == ""


def test_what_cannot_be_plugged_says_why() -> None:
    made = monitor.handover(
        [
            plugged("pcie-root-port", "pci.1", bus="pcie.0", addr="0x2"),
            plugged("intel-hda", "sound0", bus="pci.1", addr="0x0"),
            plugged("hda-duplex", "codec", bus="sound0.0", cad=0),
            plugged("pcie-root-port", "pci.2", bus="pcie.0", addr="0x3"),
            plugged("virtio-scsi-pci", "scsi0", bus="pci.2", addr="0x0"),
            plugged("scsi-hd", "disk", bus="scsi0.0", lun=0),
            device("isa-serial", "serial0"),
            plugged("virtio-gpu-pci", "video0", bus="pci.4", addr="0x0"),
        ]
    )
    assert [a["id"] for a in made.additions] == ["scsi0", "disk"]
    assert list(made.notes) == [
        "pci.1 (pcie-root-port) is on the command line: bus pcie.0 takes no plugged device",
        "codec (hda-duplex) is on the command line: bus sound0.0 takes no plugged device",
        "pci.2 (pcie-root-port) is on the command line: bus pcie.0 takes no plugged device",
        "serial0 (isa-serial) is on the command line: bus of the machine takes no plugged device",
        "video0 (virtio-gpu-pci) is on the command line: a display cannot be plugged",
        "sound0 (intel-hda) is on the command line: it carries codec",
    ]


def test_a_console_that_names_no_bus_keeps_its_controller() -> None:
    made = monitor.handover(
        [plugged("virtio-serial-pci", "virtio-serial0", bus="pci.0", addr="0x4"), plugged("virtconsole", "console0")]
    )
    assert made.additions == () and "it carries console0" in made.notes[1]


def test_functions_come_before_function_0_and_stay_together() -> None:
    slot = [plugged("virtio-net-pci", f"n{n}", bus="pci.0", addr=f"0x5.{n:#x}") for n in range(3)]
    assert [a["id"] for a in monitor.handover(slot).additions] == ["n2", "n1", "n0"]
    mixed = [plugged("VGA", "v", bus="pci.0", addr="0x5"), *slot[1:]]
    assert monitor.handover(mixed).additions == ()


def test_a_qemu_that_ignores_addr_gets_devices() -> None:
    nic = plugged("e1000", "net0", bus="pci.0", addr="0x3", netdev="n0", mac="52:54:00:00:00:01")
    made = options.handover([nic], (11, 1, 3))
    assert made.options == (nic,) and "ignores the address" in made.notes[0]
    assert options.handover([nic], (7, 2, 22)).options[0].name == "net"


def test_a_nic_that_net_cannot_say_stays_a_device() -> None:
    made = options.handover(
        [
            plugged("e1000", "net0", bus="pci.0", addr="0x3", netdev="n0", mac="52:54:00:00:00:01"),
            plugged("e1000", "net1", bus="pci.1", addr="0x3", netdev="n1", mac="52:54:00:00:00:02"),
            plugged("virtio-net-pci", "net2", bus="pci.0", addr="0x4", netdev="n2", mac="52:54:00:00:00:03", mq=True),
        ]
    )
    assert made.options[0].words == ("-net", "nic,netdev=n0,model=e1000,macaddr=52:54:00:00:00:01,addr=0x3")
    assert list(made.notes) == [
        "net1 (e1000) is a -device: -net nic reaches bus 0 alone, and this one sits on pci.1",
        "net2 (virtio-net-pci) is a -device: -net nic cannot say mq",
    ]


@pytest.mark.parametrize("name", [name for name, row in OPTIONS.items() if row.implied])
def test_an_implied_key_is_the_rows(name: str) -> None:
    """A first word of digits and dots is a value, as in ``-fw_cfg opt/x-64Mb,string=65536``."""
    option = Option(name, "opt/x-64Mb,k=65536")
    assert option.bag == {OPTIONS[name].implied: "opt/x-64Mb", "k": "65536"}
    assert option.with_bag(option.bag) == option
