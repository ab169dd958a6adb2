"""``mdtool schema``: valid itself, and of one mind with ``mdtool check`` over real drivers and values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mdtool.machine.schema import machine_schema
from mdtool.machine.writer import machine_from_tree
from mdtool.qemu.introspect import knowledge
from mdtool.review.check import checked
from mdtool.review.schema import schema
from tests.review.corpus import GROUPS
from tests.support import run_mdtool


def data(driver: str, **properties: Any) -> dict[str, Any]:
    node = {"driver": driver, "address": "03.0", "properties": properties}
    return {
        "mdtool": "machine/1",
        "machine": {"type": "pc-q35-7.2"},
        "buses": {"pcie.0": {"type": "PCIE", "devices": [node]}},
    }


@pytest.fixture(scope="module")
def validator() -> Any:
    import shutil

    binary = shutil.which("qemu-system-x86_64")
    if binary is None:
        pytest.skip("qemu-system-x86_64 is missing: apt-get install qemu-system-x86")
    whole = schema(knowledge(binary))
    kind = jsonschema.validators.validator_for(whole)
    kind.check_schema(whole)
    return kind(whole)


def test_without_a_binary_it_is_the_contract(tmp_path: Path) -> None:
    assert json.loads(run_mdtool("schema").stdout) == machine_schema()
    assert run_mdtool("schema", "-o", tmp_path / "s.json").returncode == 0
    assert json.loads((tmp_path / "s.json").read_text()) == machine_schema()


def test_drivers_and_properties_are_explained(validator: Any, qemu: str) -> None:
    defs = json.loads(run_mdtool("schema", "--qemu", qemu).stdout)["$defs"]
    net = defs["driver-virtio-net-pci"]["properties"]
    assert "52:54:00:12:34:56" in net["mac"]["description"]
    assert net["acpi-index"]["default"] == 0
    assert net["disable-legacy"]["enum"][:3] == ["on", "off", "auto"]
    assert "netdev" not in net  # the host's side
    assert "addr" not in net  # the node's address
    drivers = {row.get("const") for row in defs["node"]["properties"]["driver"]["anyOf"]}
    assert {"virtio-net-pci", "usb-tablet", "scsi-hd"} <= drivers
    assert "ICH9-LPC" not in drivers


@pytest.mark.parametrize(
    ("driver", "properties", "good"),
    [
        ("e1000", {"acpi-index": 0}, True),
        ("e1000", {"acpi-index": "0x1"}, True),
        ("e1000", {"acpi-index": -1}, False),
        ("e1000", {"acpi-indx": 0}, False),
        ("e1000", {"multifunction": True}, True),
        ("e1000", {"multifunction": "maybe"}, False),
        ("e1000", {"mac": "52:54:00:00:00:01"}, True),
        ("e1000", {"mac": "52:54"}, False),
        ("virtio-net-pci", {"disable-legacy": True}, True),
        ("virtio-net-pci", {"disable-legacy": "perhaps"}, False),
        ("ICH9-LPC", {"anything": 1}, True),
    ],
)
def test_properties(validator: Any, driver: str, properties: dict[str, Any], good: bool) -> None:
    assert validator.is_valid(data(driver, **properties)) is good


def test_of_one_mind_with_check(validator: Any, qemu: str) -> None:
    """Whatever the schema refuses of the corpus, check (and so QEMU) refuses as well."""
    known = knowledge(qemu)
    refused = 0
    for edit in GROUPS["values"]():
        if not validator.is_valid(machine_from_tree(edit.tree())):
            refused += 1
            found = checked(edit.document(), known)
            assert found.errors or [w.rule for w in found.warnings] == ["host-side"], edit.says
    assert refused > 10
