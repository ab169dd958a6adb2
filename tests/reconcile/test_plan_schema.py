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

from mdtool.reconcile.plan import Action, Plan, Step, json_from_plan
from mdtool.resources import resource

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
    assert data["changes"] == bool(status)
    assert len({step["name"] for step in data["steps"]}) == len(data["steps"])


def test_every_action_is_in_the_schema() -> None:
    data = validated(json_from_plan(Plan(tuple(Step(action, action.name) for action in Action))))
    step = SCHEMA["$defs"]["step"]["properties"]
    assert {one["action"] for one in data["steps"]} == set(step["action"]["enum"])
    assert {one["symbol"] for one in data["steps"]} == set(step["symbol"]["enum"])


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
