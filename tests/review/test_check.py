"""Each rule of ``mdtool check``: what it finds, where, and what it says to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdtool.machine.document import document_from_text
from mdtool.machine.facts import kind_of, refused
from mdtool.qemu.introspect import Driver, Knowledge, Property
from mdtool.review import check
from mdtool.review.check import CHECKS, checked
from mdtool.review.free import free_addresses
from tests.support import run_mdtool

HEAD = "mdtool: machine/1\nmachine: {type: pc-q35-7.2, arch: x86_64}\n"
KNOWN = Knowledge(
    "qemu-system-x86_64",
    "7.2.22",
    {
        "e1000": Driver("e1000", "PCI", properties={"rombar": Property("uint32"), "mac": Property("str")}),
        "mch": Driver("mch", "PCI", creatable=False),
    },
    frozenset({"pc-q35-7.2"}),
)


def pcie(*lines: str) -> str:
    return HEAD + "buses:\n  pcie.0:\n    type: PCIE\n    devices:\n" + "".join(f"    - {line}\n" for line in lines)


PORT = "{id: rp1, driver: pcie-root-port, address: '02.0', properties: {chassis: 1}, buses: {rp1: {type: PCIE%s}}}"

#: rule -> (a description with that fault, a § where it is, the words of it)
CASES = {
    "machine-versioned": ("mdtool: machine/1\nmachine: {type: §q35}\nbuses: {}\n", "'q35' is an alias"),
    "machine-known": (HEAD.replace("pc-q35-7.2", "§pc-q35-9.9") + "buses: {}\n", "no machine type 'pc-q35-9.9'; expected pc-q35-7.2"),
    "cpu-topology": (HEAD + "cpu: {vcpus: 4, topology: §{sockets: 1, cores: 2, threads: 1}}\nbuses: {}\n", "make 2 CPUs, and there are 4"),
    "id-unique": (pcie("{id: a, driver: e1000, address: '03.0'}", "{id: §a, driver: e1000, address: '04.0'}"), "taken by a (line 7)"),
    "driver-known": (pcie("{driver: §mch, address: '03.0'}"), "mch is only made by machines in QEMU 7.2.22"),
    "bus-known": (HEAD + "buses:\n  §pci.0:\n    type: PCI\n    devices: [{driver: e1000}]\n", "there is no bus 'pci.0'"),
    "bus-provided": (pcie(PORT.replace("{rp1:", "{§rp2:") % ""), "provides no bus 'rp2'; expected rp1"),
    "bus-type": (pcie(PORT.replace("{rp1:", "{§rp1:").replace("PCIE%s", "PCI%s") % ""), "is PCIE, and the description says PCI"),
    "bus-holds": (pcie("{driver: §usb-tablet, address: '1'}"), "usb-tablet cannot go on pcie.0"),
    "only-bridges": (pcie("{id: p, driver: pxb-pcie, address: '04.0', buses: {p: {type: pxb-pcie-bus, devices: [{driver: §e1000}]}}}"),
                     "only bridges can be plugged into p"),
    "address-form": (pcie("{driver: e1000, address: §'20.0'}"), "'20.0' is not an address of a PCIE bus; expected slot.function"),
    "address-range": (HEAD + "buses:\n  ide.0:\n    type: IDE\n    devices: [{driver: ide-hd, address: §'1'}]\n", "expected unit 0"),
    "address-taken": (pcie("{id: a, driver: e1000, address: '01.0'}", "{id: b, driver: e1000, address: §'01.0'}"),
                      "b: pcie.0 01.0 is taken by a; expected a free slot: 02.0, 03.0"),
    "address-shared": (HEAD + "buses:\n  isa.0:\n    type: ISA\n    devices:\n"
                       "    - {id: a, driver: isa-serial, address: 3f8}\n    - {id: b, driver: isa-serial, address: §3f8}\n", "is taken by a"),
    "address-reserved": (pcie("{driver: e1000, address: §'1f.2'}"), "belongs to the machine's own ich9-ahci; expected a free slot: 01.0"),
    "multifunction": (pcie("{id: a, driver: e1000, address: '01.0'}", "{id: b, driver: e1000, address: §'01.3'}"), "give a the property"),
    "function-zero": (pcie("{driver: e1000, address: §'01.3'}"), "while there is nothing at 01.0"),
    "port-slot": (pcie(PORT % ", devices: [{driver: e1000, address: §'01.0'}]"), "looks at slot 00 only"),
    "express": (HEAD.replace("q35", "i440fx") + "buses:\n  pci.0:\n    type: PCI\n    devices: [{driver: §e1000e}]\n", "is PCI Express"),
    "usb-port": (pcie("{id: u, driver: qemu-xhci, buses: {u.0: {type: usb-bus, devices: [{driver: usb-kbd, address: §'9'}]}}}"),
                 "u.0 has no port 9; expected one of 1, 2, 3, 4"),
    "usb-speed": (pcie("{id: u, driver: pci-ohci, buses: {u.0: {type: usb-bus, devices: [{driver: usb-uas, address: §'1'}]}}}"),
                  "needs high or super speed, and u.0 1 is full speed; expected another USB controller"),
    "single": (pcie("{driver: virtio-balloon-pci, address: '03.0'}", "{driver: §virtio-balloon-pci, address: '04.0'}"), "has one balloon"),
    "chassis-unique": (pcie(PORT % "", PORT.replace("rp1", "rp2").replace("02.0", "03.0").replace("chassis: ", "chassis: §") % ""),
                       "expected a free one: 2"),
    "chassis-given": (pcie("§{driver: pci-bridge, address: '03.0'}"), "needs a chassis_nr above 0"),
    "bridge-unique": (pcie("{id: a, driver: pci-bridge, properties: {chassis_nr: 1}}", "{id: b, driver: pci-bridge, properties: {chassis_nr: §1}}"),
                      "the chassis_nr 1 is taken by a"),
    "bootindex-unique": (pcie("{id: a, driver: e1000, properties: {bootindex: 1}}", "{id: b, driver: e1000, properties: {bootindex: §1}}"),
                         "the bootindex 1 is taken by a (line 7)"),
    "acpi-index-unique": (pcie("{id: a, driver: e1000, properties: {acpi-index: 1}}", "{id: b, driver: e1000, properties: {acpi-index: §1}}"),
                          "the acpi-index 1 is taken by a"),
    "port-name-unique": (pcie("{id: v, driver: virtio-serial-pci, buses: {v.0: {type: virtio-serial-bus, devices: "
                              "[{driver: virtserialport, address: '1', properties: {name: n}}, "
                              "{driver: virtserialport, address: '2', properties: {name: §n}}]}}}"), "its (bus, name) v.0, n is taken"),
    "mac-form": (pcie("{driver: e1000, properties: {mac: §'52:54'}}"), "'52:54' is not a MAC address; expected six bytes"),
    "block-size": (pcie("{driver: nvme, properties: {logical_block_size: §4096}}"), "is above its physical_block_size 512"),
    "mac-unique": (pcie("{id: a, driver: e1000, properties: {mac: '52:54:00:00:00:0a'}}",
                        "{id: b, driver: e1000, properties: {mac: §'52:54:00:00:00:0A'}}"), "the MAC 52:54:00:00:00:0a is taken by a"),
    "credential": (HEAD + "smbios: {type11: §['io.systemd.credential:a=b', 'c']}\nbuses: {}\n", "io.systemd.credential:a is a secret"),
    "host-side": (pcie("{driver: e1000, properties: {§netdev: n0}}"), "'netdev' is the host's side"),
    "property-known": (pcie("{driver: e1000, properties: {§romba: 1}}"), "e1000 has no property 'romba'; expected rombar"),
    "property-value": (pcie("{driver: e1000, properties: {rombar: §-1}}"), "rombar does not take '-1'; expected a number from 0"),
    "retired-free": (pcie("{id: a, driver: e1000, address: '03.0'}") + "retired:\n- §{origin: x, bus: pcie.0, address: '03.0'}\n", "and a sits there"),
}  # fmt: skip


def test_every_check_has_a_case() -> None:
    assert CASES.keys() == {check.name for check in CHECKS}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule(rule: str) -> None:
    marked, words = CASES[rule]
    before, text = marked.partition("§")[0], marked.replace("§", "")
    where = f"{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"
    check = next(check for check in CHECKS if check.name == rule)
    found = checked(document_from_text(text, "guest.yaml"), KNOWN if check.asks else None)
    told = [*found.errors] if check.severity == "error" else [*found.warnings]
    assert [error.rule for error in told] == [rule], [*map(str, found.errors), *map(str, found.warnings)]
    assert str(told[0]).startswith(f"guest.yaml:{where}: {check.severity}: "), str(told[0])
    assert words in str(told[0])


def test_every_prerequisite_is_a_check() -> None:
    assert {name for row in CHECKS for name in row.needs} <= set(check.BY_NAME)


def test_what_needs_a_failed_check_is_skipped() -> None:
    found = checked(document_from_text(pcie("{driver: e1000, address: x}"), "guest.yaml"))
    failed = dict(found.skipped)
    assert failed["address-taken"] == "address-form"
    assert failed["multifunction"] == "address-taken"  # which did not run either
    assert failed["property-known"] == ""  # no binary was asked


def test_the_machines_own_devices_are_not_judged() -> None:
    text = pcie("{driver: ICH9-LPC, address: '1f.0', origin: builtin, properties: {multifunction: true}}",
                "{driver: ich9-ahci, address: '1f.2', origin: builtin}", "{id: a, driver: e1000, address: '1f.2'}")  # fmt: skip
    found = checked(
        document_from_text(text.replace("type: PCIE", "type: PCIE\n    host: q35-pcihost"), "guest.yaml"), KNOWN
    )
    assert [error.rule for error in found.errors] == ["address-taken"]
    assert "ich9-ahci" in str(found.errors[0])


def test_the_command(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(pcie("{driver: e1000, address: '03.0'}"))
    bad.write_text(CASES["bootindex-unique"][0].replace("§", "") + "unknown: 1\n")
    done = run_mdtool("check", good)
    assert (done.returncode, done.stdout) == (0, ""), done
    done = run_mdtool("check", good, bad)
    assert done.returncode == 2
    assert done.stdout.startswith(f"{bad}:9:1: error: unknown key 'unknown'"), done.stdout
    bad.write_text(CASES["mac-unique"][0].replace("§", ""))
    assert run_mdtool("check", bad).returncode == 0
    done = run_mdtool("check", "--strict", "--json", bad)
    assert done.returncode == 2
    assert [(row["rule"], row["severity"], row["line"]) for row in json.loads(done.stdout)] == [("mac-unique", "error", 8)]


def test_list_explains_every_check() -> None:
    said = run_mdtool("check", "--list").stdout
    assert all(check.name in said and check.says in said for check in CHECKS)


def test_with_a_binary(tmp_path: Path, qemu: str) -> None:
    path = tmp_path / "guest.yaml"
    path.write_text(
        pcie("{driver: e1000, address: '03.0', properties: {romba: 1}}", "{driver: virtio-nit-pci, address: '04.0'}")
    )
    done = run_mdtool("check", "--qemu", qemu, path)
    assert done.returncode == 2
    assert (
        "expected one of virtio-net-pci" in done.stdout.replace("virtio-gpu-pci, ", "") or "virtio-net-pci" in done.stdout
    )
    done = run_mdtool("check", "--qemu", "/bin/true", path)
    assert done.returncode == 2
    assert "does not answer as QEMU does" in done.stdout + done.stderr


def test_prerequisites_are_resolved_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check runs once, after what it builds on, in a table of any order."""
    document = document_from_text(pcie("{driver: e1000, address: x}", "{driver: usb-tablet, address: '1'}"), "guest.yaml")
    usual = checked(document)
    monkeypatch.setattr(check, "CHECKS", tuple(reversed(CHECKS)))
    turned = checked(document)
    assert [str(error) for error in turned.errors] == [str(error) for error in usual.errors]
    assert sorted(turned.skipped) == sorted(usual.skipped) and usual.skipped


def test_a_failed_prerequisite_is_said(tmp_path: Path) -> None:
    (tmp_path / "guest.yaml").write_text(pcie("{driver: e1000, address: x}"))
    done = run_mdtool("check", tmp_path / "guest.yaml")
    assert done.returncode == 2 and "address-taken (address-form)" in done.stderr


BLOCK = Property("size", "A power of two between 512 B and 2 MiB")


@pytest.mark.parametrize(
    ("known", "value", "expected"),
    [
        (Property("size"), "64k", None),
        (Property("size"), 1000, None),
        (Property("size"), "12q", "a size: 65536, 64k"),
        (BLOCK, 0, None),
        (BLOCK, 512, None),
        (BLOCK, 2 << 20, None),
        (BLOCK, "4k", None),
        (BLOCK, 256, "a power of two from 512 to 2097152"),
        (BLOCK, 4 << 20, "a power of two from 512 to 2097152"),
        (BLOCK, 1000, "a power of two from 512 to 2097152"),
        (Property("OnOffAuto", "on/off/auto"), "maybe", "one of on, off, auto"),
        (Property("OnOffAuto", "on/off/auto"), "auto", None),
        (Property("MyEnum"), "anything", None),
    ],
)
def test_what_a_property_takes(known: Property, value: object, expected: str | None) -> None:
    assert refused("some-device", "x", known, value) == expected


@pytest.mark.parametrize(("usb", "holder"), [("true", "ich9-usb-uhci2"), ("false", None)])
def test_the_usb_controllers_of_a_chipset_keep_their_slots(usb: str, holder: str | None) -> None:
    """q35 has them where the machine property usb is on, and only there."""
    head = HEAD.replace("arch: x86_64", f"arch: x86_64, properties: {{usb: {usb}}}")
    text = pcie("{driver: e1000, address: '1d.1'}", "{driver: e1000, address: '1d.0'}").replace(HEAD, head)
    found = [one.what for one in checked(document_from_text(text, "guest.yaml")).errors if "machine's own" in one.what]
    assert found == ([f"e1000@pcie.0/1d.{n}: pcie.0 1d.{n} belongs to the machine's own ich9-usb-uhci{n + 1}" for n in (1, 0)]
                     if holder else [])  # fmt: skip
    free = free_addresses(document_from_text(text.replace("1d.", "10."), "guest.yaml").tree, "pcie.0", "e1000")
    assert ("1d.0" in free) is (holder is None)


KINDS = {
    "bridge": "cxl-rp cxl-upstream pxb-cxl ioh3420 i82801b11-bridge q35-pcihost",
    "storage": "nvme dc390 spapr-vscsi isa-fdc ich9-ahci usb-bot virtio-blk-pci nvme-ns",
    "usb": "usb-ccid qemu-xhci ich9-usb-uhci1 usb-hub",
    "serial": "virtio-serial-pci isa-serial",
    "sound": "intel-hda hda-duplex",
    "network": "e1000e usb-net",
    "other": "mch edu",
}


@pytest.mark.parametrize(("kind", "driver"), [(kind, driver) for kind, some in KINDS.items() for driver in some.split()])
def test_what_a_device_is_for(kind: str, driver: str) -> None:
    """What provides a bus is of the kind of what sits there, whatever it is called."""
    assert kind_of(driver) == kind
