"""``reconcile --json`` says what schemas/plan.schema.json promises."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support import mdtool

from mdtool.reconcile.plan import Action, Plan, Reason, Step, json_from_plan
from mdtool.resources import resource
from mdtool.review.plan import text_from_step

CASES = Path(__file__).resolve().parent.parent / "cases"
PLANNED = sorted(path.parent.name for path in CASES.glob("*/plan.txt"))
SCHEMA = json.loads(resource("schemas", "plan.schema.json").read_text())


def validated(data: Any) -> Any:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(data, SCHEMA)
    return data


@pytest.mark.parametrize("name", PLANNED)
def test_plans_of_all_cases(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (CASES / name).glob("guest.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    options = CASES / name / "options.txt"
    words = shlex.split(options.read_text()) if options.exists() else []
    status = mdtool("reconcile", "guest.xml", "guest.yaml", "--dry-run", "--json", *words)
    data = validated(json.loads(capsys.readouterr().out))
    assert (data["changes"] or data["writes"] != []) == bool(status)
    assert len({step["name"] for step in data["steps"]}) == len(data["steps"])


def test_every_action_is_in_the_schema() -> None:
    data = validated(json_from_plan(Plan(tuple(Step(action, action.name) for action in Action))))
    step = SCHEMA["$defs"]["step"]["properties"]
    assert {one["action"] for one in data["steps"]} == set(step["action"]["enum"])
    assert {one["symbol"] for one in data["steps"]} == set(step["symbol"]["enum"])


def test_every_reason_is_in_the_schema_and_has_a_text() -> None:
    data = validated(json_from_plan(Plan(tuple(Step(Action.ADD, reason.name, reason=reason) for reason in Reason))))
    expected = SCHEMA["$defs"]["step"]["properties"]["reason"]["enum"]
    assert [one["reason"] for one in data["steps"]] == [one for one in expected if one is not None]
    texts = {text_from_step(Step(Action.ADD, "net0", reason=reason, detail="cpu")) for reason in Reason}
    assert len(texts) == len(Reason)


def test_an_unknown_key_is_refused() -> None:
    data = json_from_plan(Plan((Step(Action.ADD, "net0"),)))
    data["steps"][0]["colour"] = "red"
    with pytest.raises(jsonschema.ValidationError):
        validated(data)


def test_every_key_is_described() -> None:
    """Editors show it."""

    def bare(schema: Any, path: str = "") -> list[str]:
        found = [f"{path}/{name}" for name, key in schema.get("properties", {}).items() if "description" not in key]
        for name, key in {**schema.get("properties", {}), **schema.get("$defs", {}), "[]": schema.get("items", {})}.items():
            found += bare(key, f"{path}/{name}") if key else []
        return found

    assert bare(SCHEMA) == []


def test_a_nic_that_stays_may_be_called_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port before its own is a PCI bus before its own; the plan says so, where nothing else happens to the NIC."""
    port = (
        "<controller type='pci' index='{n}' model='pcie-root-port'>"
        "<address type='pci' domain='0' bus='0' slot='{slot}' function='0'/></controller>"
    )
    guest, description = tmp_path / "g.xml", tmp_path / "g.yaml"

    def write(*ports: str) -> None:
        guest.write_text(
            "<domain type='qemu'><name>n</name><memory unit='MiB'>64</memory>"
            "<os><type arch='aarch64' machine='virt-7.2'>hvm</type></os><devices>"
            "<emulator>/usr/bin/qemu-system-aarch64</emulator>" + "".join(ports) + "<interface type='user'>"
            "<mac address='52:54:00:00:00:01'/><model type='virtio'/>"
            "<address type='pci' domain='0' bus='1' slot='0' function='0'/></interface></devices></domain>"
        )

    write(port.format(n=1, slot=5))
    assert mdtool("reconcile", guest, description) == 0
    write(port.format(n=1, slot=5), port.format(n=2, slot=4))
    capsys.readouterr()
    assert mdtool("reconcile", guest, description, "--dry-run") == 1
    assert "=! net0" in (text := capsys.readouterr().out) and "enp2s0, and no longer enp1s0" in text
    assert mdtool("reconcile", guest, description, "--dry-run", "--json") == 1
    steps = {step["name"]: step for step in validated(json.loads(capsys.readouterr().out))["steps"]}
    assert steps["net0"]["guest_name"] == {"before": "enp1s0", "after": "enp2s0"} and steps["net0"]["guest_notices"]
    assert steps["pci.2"]["guest_name"] is None
