"""Decoders of what firmware sees, on bytes that are written here: no QEMU."""

from __future__ import annotations

import pytest

from mdtool.errors import MdtoolError
from mdtool.proof import acpi, aml, fdt, fwcfg, smbios
from mdtool.proof.cpuid import NAMES
from mdtool.proof.pcifields import BITS, Field, bits_to_text, capabilities, extended_capabilities, fields

# --- AML -----------------------------------------------------------------------------------------------------------


def package(opcode: bytes, body: bytes) -> bytes:
    """An opcode with a one- or two-byte package length."""
    if len(body) + 1 < 0x40:
        return opcode + bytes([len(body) + 1]) + body
    length = len(body) + 2
    return opcode + bytes([0x40 | length & 0xF, length >> 4]) + body


def test_a_device_with_names() -> None:
    inner = (
        b"\x08_ADR\x0c\x00\x00\x02\x00" + b"\x08_SUN\x0a\x02" + b"\x08_HID\x0c\x41\xd0\x0a\x08" + b"\x08_STR\x0dslot\x00"
    )
    code = package(b"\x10", b"\\_SB_" + package(b"\x5b\x82", b"S10_" + inner))
    assert aml.namespace([code]) == {
        "\\_SB.S10": "Device",
        "\\_SB.S10._ADR": "0x20000",
        "\\_SB.S10._SUN": "0x2",
        "\\_SB.S10._HID": '"PNP0A08"',
        "\\_SB.S10._STR": '"slot"',
    }


def test_a_call_of_a_method_that_another_table_defines_later() -> None:
    caller = package(b"\x14", b"CALL\x00" + b"\xa4" + b"ADD2\x0a\x01\x0a\x02")
    callee = package(b"\x14", b"ADD2\x02" + b"\xa4\x72\x68\x69\x00")
    assert aml.namespace([caller, callee]) == {
        "\\CALL": "Method(0) {Return(ADD2(0x1, 0x2))}",
        "\\ADD2": "Method(2) {Return(Add(Arg0, Arg1, ))}",
    }


def test_what_a_method_names_for_itself_is_no_object() -> None:
    code = package(b"\x14", b"TEMP\x00" + b"\x08LOCL\x0a\x07")
    assert aml.namespace([code]) == {"\\TEMP": "Method(0) {LOCL = 0x7}"}


def test_a_long_package_and_a_buffer() -> None:
    data = bytes(range(80))
    code = b"\x08_CRS" + package(b"\x11", b"\x0a\x50" + data)
    assert aml.namespace([code]) == {"\\_CRS": f"Buffer({data.hex()})"}


def test_integers_are_the_same_in_every_width() -> None:
    for value in (b"\x01", b"\x0a\x01", b"\x0b\x01\x00", b"\x0c\x01\0\0\0", b"\x0e\x01\0\0\0\0\0\0\0"):
        assert aml.namespace([b"\x08_UID" + value]) == {"\\_UID": "0x1"}


@pytest.mark.parametrize("code", [b"\x08_UI", b"\x10\x3f\\_SB_", b"\x02", b"\x5b\xfe", b"\x0dno end"])
def test_garbage_is_refused(code: bytes) -> None:
    with pytest.raises((aml.AmlError, ValueError, IndexError)):
        aml.namespace([code])


def loader(command: int, *numbers: int, file: str = acpi.TABLES) -> bytes:
    if command == acpi.CHECKSUM:
        body = b"".join(number.to_bytes(4, "little") for number in numbers)
        return (command.to_bytes(4, "little") + file.encode().ljust(56, b"\0") + body).ljust(128, b"\0")
    body = numbers[0].to_bytes(4, "little") + bytes([numbers[1]])
    names = file.encode().ljust(56, b"\0") * 2
    return (command.to_bytes(4, "little") + names + body).ljust(128, b"\0")


def test_pointers_and_checksums_are_no_difference() -> None:
    table = b"TEST" + (44).to_bytes(4, "little") + b"\x01\x00" + b"BOCHS BXPCTEST" + bytes(12) + bytes(8)
    script = loader(acpi.CHECKSUM, 9, 0, 44) + loader(acpi.POINTER, 36, 8)
    other = bytearray(table)
    other[9] = 0x77
    other[36:44] = b"\xaa" * 8
    assert acpi.facts(table, script) == acpi.facts(bytes(other), script)
    other[30] = 1  # creator id: neither
    assert acpi.facts(table, script) != acpi.facts(bytes(other), script)


def test_aml_that_is_not_understood_is_still_compared() -> None:
    table = b"SSDT" + (40).to_bytes(4, "little") + b"\x01\x00" + b"BOCHS BXPCTEST" + bytes(12) + b"\x02\x02\x02\x02"
    found = acpi.facts(table, loader(acpi.CHECKSUM, 9, 0, 40))
    assert found["SSDT"]["bytes"] == "02020202"


def test_an_acpi_device_is_a_pci_path() -> None:
    found = {"\\_SB.PCI0": {}, "\\_SB.PCI0.S10": {"_ADR": "0x20000"}, "\\_SB.PCI0.S10.S08": {"_ADR": "0x10003"}}
    assert acpi.pci_path("\\_SB.PCI0.S10.S08", found) == "02.0/01.3"
    assert acpi.pci_path("\\_SB.CPUS.C000", found) is None


# --- SMBIOS, device tree, E820 ---------------------------------------------------------------------------------------


def test_smbios_strings_by_number() -> None:
    system = bytes([1, 27, 0, 1, 1, 2, 0, 3]) + bytes(range(16)) + bytes([6, 0, 0]) + b"Acme\0Rocket\x000815\0\0"
    found = smbios.facts({smbios.TABLES: system + bytes([127, 4, 0, 2]) + b"\0\0"})
    assert found["system information"] == {
        "handle": "0x0100",
        "manufacturer": "Acme",
        "product": "Rocket",
        "serial": "0815",
        "uuid": "03020100-0504-0706-0809-0a0b0c0d0e0f",
        "wake-up type": "0x6",
    }


def test_an_unknown_structure_keeps_bytes_and_strings() -> None:
    found = smbios.facts({smbios.TABLES: bytes([200, 6, 0, 3, 0xAB, 1]) + b"one\0\0"})
    assert found == {"type 200": {"handle": "0x0300", "bytes": "ab01", "string 1": "one"}}


def test_a_structure_without_an_end_stops_the_reader() -> None:
    assert list(smbios.structures(bytes([1, 27, 0, 1]))) == []


def blob(*tokens: bytes, strings: bytes = b"") -> bytes:
    body = b"".join(tokens)
    head = [fdt.MAGIC, 0, 40, 40 + len(body)]
    return b"".join(n.to_bytes(4, "big") for n in head).ljust(40, b"\0") + body + strings


BEGIN, END, PROPERTY, FINISH = (n.to_bytes(4, "big") for n in (1, 2, 3, 9))


def test_a_device_tree() -> None:
    value = PROPERTY + (4).to_bytes(4, "big") + (0).to_bytes(4, "big") + (7).to_bytes(4, "big")
    tree = fdt.fdt_from_bytes(blob(BEGIN, b"\0\0\0\0", BEGIN, b"cpu@0\0\0\0", value, END, END, FINISH, strings=b"reg\0"))
    assert tree == {"/": {}, "/cpu@0": {"reg": bytes([0, 0, 0, 7])}}
    assert fdt.facts(tree)["/cpu@0"] == {"reg": "<0x7>"}


def test_seeds_are_random_by_design() -> None:
    one, other = ({"/chosen": {"rng-seed": bytes([n]) * 32}} for n in (1, 2))
    assert fdt.facts(one) == fdt.facts(other)


@pytest.mark.parametrize("data", [b"", b"not a tree" * 9, blob(BEGIN, b"\0\0\0\0"), blob((5).to_bytes(4, "big"))])
def test_no_device_tree_is_an_error(data: bytes) -> None:
    with pytest.raises(MdtoolError, match="device tree"):
        fdt.fdt_from_bytes(data)


def test_e820() -> None:
    row = (0).to_bytes(8, "little") + (1 << 20).to_bytes(8, "little") + (2).to_bytes(4, "little")
    assert fwcfg.e820(row) == {"0x0": {"size": "0x100000", "type": "reserved"}}


# --- PCI configuration space -----------------------------------------------------------------------------------------


def config(**at: bytes) -> bytes:
    """256 bytes with ``x34=b"..."`` at 0x34."""
    data = bytearray(256)
    for name, value in at.items():
        offset = int(name[1:], 16)
        data[offset : offset + len(value)] = value
    return bytes(data)


def test_capabilities_in_the_order_of_the_list() -> None:
    one = config(x06=b"\x10\x00", x34=b"\x80", x80=b"\x05\x40", x40=b"\x11\x00")
    assert list(capabilities(one)) == [(0x80, 0x05), (0x40, 0x11)]
    assert Field(0x42, 2, "msix control") in fields(one)


def test_a_list_that_runs_in_a_circle_ends() -> None:
    assert list(capabilities(config(x06=b"\x10\x00", x34=b"\x40", x40=b"\x01\x40"))) == [(0x40, 0x01)]
    header = (0x0001 | 0x100 << 20).to_bytes(4, "little")
    assert list(extended_capabilities(bytes(256) + header + bytes(3836))) == [(0x100, 0x0001)]


def test_msi_has_its_registers_where_its_control_says() -> None:
    narrow = fields(config(x06=b"\x10\x00", x34=b"\x40", x40=b"\x05\x00\x00\x00"))
    wide = fields(config(x06=b"\x10\x00", x34=b"\x40", x40=b"\x05\x00\x80\x01"))
    assert Field(0x48, 2, "msi data") in narrow
    assert {Field(0x48, 4, "msi address upper"), Field(0x4C, 2, "msi data"), Field(0x50, 4, "msi mask")} <= set(wide)


def test_bits_in_words() -> None:
    assert bits_to_text("pcie slot control", 0x01C0, 0x03C0) == "power indicator on -> off"
    assert bits_to_text("device", 1, 2) == ""
    for rows in BITS.values():
        taken = [low + n for low, _, values in rows for n in range(len(values).bit_length() - 1)]
        assert len(taken) == len(set(taken)), "bits are claimed twice"


def test_cpuid_rows_have_at_most_32_names() -> None:
    for key, names in NAMES.items():
        assert len(names.split()) <= 32, key
