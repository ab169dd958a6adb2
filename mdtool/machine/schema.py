"""Descriptions held against their JSON Schema by jsonschema, with the position of each fault.

jsonschema takes longer to import than everything else that a reconcile does.  So the tree of a description that was found
valid is kept in the cache (``kept``), and of hints the hash, and the same text is not validated again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mdtool.cache import known_hash, remember_hash
from mdtool.errors import InputError, Position, Report
from mdtool.machine.yaml import items, kind, plain_data, position
from mdtool.resources import resource
from mdtool.text import quoted

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_LONGEST = 200  # characters of a message of jsonschema, which shows the whole value
MACHINE, PINS, HINTS = "machine.schema.json", "pins.schema.json", "hints.schema.json"


@lru_cache
def schema_from_resource(name: str) -> dict[str, Any]:
    """A schema of ``schemas/`` as data."""
    loaded: dict[str, Any] = json.loads(resource("schemas", name).read_text())
    return loaded


def machine_schema() -> dict[str, Any]:
    return schema_from_resource(MACHINE)


def validate_machine(root: Any, file: str) -> None:
    """Hold a composed tree document against its schema.

    Raises InputError (or Errors, sorted) with the position of each key or value that does not fit.
    """
    report = Report()
    _check_keys(root, file, report)
    report.done()
    for error in _validator(MACHINE).iter_errors(plain_data(root)):
        _report(error, root, file, report)
    report.done()


def validate_pins(pins: Mapping[str, Any], text: str, file: str, first: int) -> None:
    """Hold the pins document against its schema; ``first`` is the line of ``file`` on which ``text`` starts."""
    remedy = "restore it from git, or dump the machine again; pins are changed under 'properties' in the tree"
    _validate_json(PINS, pins, text, Position(file, first), remedy)


def validate_hints(hints: Any, text: str, file: str) -> None:
    """Hold hints, read of ``text``, against their schema; raises InputError (or Errors) for what does not fit."""
    import hashlib  # OpenSSL comes with it

    schema = resource("schemas", HINTS).read_bytes()
    mark = hashlib.sha256(schema + hashlib.sha256(text.encode(errors="surrogatepass")).digest()).hexdigest()
    if not known_hash(mark):
        _validate_json(HINTS, hints, text, Position(file, 1), "export the hints again")
        remember_hash(mark)


def _validate_json(name: str, data: Any, text: str, start: Position, remedy: str) -> None:
    """JSON has no positions: a fault is reported at the line on which its keys stand, as mdtool writes them."""
    kind = name.partition(".")[0]
    report = Report()
    for error in _validator(name).iter_errors(data):
        path, at = [str(part) for part in error.absolute_path], 0
        for step in path:
            at = max(text.find(json.dumps(step), at), at)
        where = Position(start.file, start.line + text.count("\n", 0, at))
        what = ": ".join([kind, *([" of ".join(reversed(path))] if path else []), error.message[:_LONGEST]])
        report.error(InputError(what, at=where, remedy=remedy, rule=f"{kind}-schema"))
    report.done()


@lru_cache
def _validator(name: str) -> Validator:
    """The validator of a schema; where it says string, any plain value will do: the key decides and not the spelling."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    def is_text(_: Any, value: Any) -> bool:
        return isinstance(value, (str, int, float))  # booleans are integers to Python

    def pattern(_: Validator, expected: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
        if is_text(None, value):
            yield from Draft202012Validator({"pattern": expected}).iter_errors(str(value))

    def properties(validator: Any, rows: Mapping[str, Any], value: Any, _schema: Any) -> Iterator[ValidationError]:
        """As jsonschema has it, which makes a validator for each value: a plain one needs none."""
        for name, row in rows.items() if isinstance(value, dict) else ():
            if name in value:
                is_plain = row.keys() == {"type", "description"} and isinstance(row["type"], str)
                if not (is_plain and validator.is_type(value[name], row["type"])):
                    yield from validator.descend(value[name], row, path=name, schema_path=name)

    types = Draft202012Validator.TYPE_CHECKER
    redefined = types.redefine("string", is_text)
    own = {"pattern": pattern, "properties": properties}
    lenient = extend(Draft202012Validator, own, type_checker=redefined)  # type: ignore[no-untyped-call]
    made: Validator = (lenient if name == MACHINE else Draft202012Validator)(schema_from_resource(name))
    return made


def _check_keys(node: Any, file: str, report: Report) -> None:
    """What plain data cannot show: a key twice, and a key that is no text."""
    if kind(node) == "scalar":
        return
    if kind(node) == "sequence":
        for item in node.value:
            _check_keys(item, file, report)
        return
    seen: set[str] = set()
    for key, key_node, value in items(node):
        if kind(key_node) != "scalar":
            report.error(InputError("a key must be a plain word", at=position(key_node, file), rule="schema-key"))
            continue
        if key in seen:
            report.error(InputError(f"duplicate key '{key}'", at=position(key_node, file), rule="duplicate-key"))
        seen.add(key)
        _check_keys(value, file, report)


def _report(error: ValidationError, root: Any, file: str, report: Report) -> None:
    """A fault that jsonschema found, in our words and at its place."""
    node = root
    for step in error.absolute_path:
        node = node.value[step] if isinstance(step, int) else next(v for key, _, v in items(node) if key == step)
    here = position(node, file)
    expected: Any = error.validator_value
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        known = schema.get("properties", {})
        for key, key_node, _ in items(node):
            if key not in known:
                what = f"unknown key '{key}'; valid keys are {', '.join(known)}"
                report.error(InputError(what, at=position(key_node, file), rule="unknown-key"))
        return
    if error.validator == "required":
        what = f"missing key {error.message.partition(' is ')[0]}"
        report.error(InputError(what, at=here, rule="missing-key"))
        return
    what, expect, remedy, rule = error.message[:_LONGEST], None, None, f"schema-{error.validator}"
    shown = quoted(node.value) if kind(node) == "scalar" else f"a {kind(node)}"
    if error.validator == "type":
        wanted = expected if isinstance(expected, str) else " or ".join(expected)
        what = f"{shown} is no {wanted}"
        if kind(node) == "scalar" and not node.value:
            what, expect = f"nothing stands behind '{error.absolute_path[-1]}'", f"{wanted}, or no such key"
    elif error.validator == "const":
        what, expect = f"{shown} is not understood", repr(expected)
        remedy = "where a newer mdtool wrote the file, upgrade this one"
    elif error.validator == "enum":
        what, expect = f"unknown value {shown}", "one of " + ", ".join(map(str, expected))
    elif error.validator == "pattern":
        what = f"malformed value {shown}"
        expect = _FORMS.get(str(expected), str(schema.get("description", expected)))
    elif error.validator == "minimum":
        what, expect = f"{shown} is too small", f"{expected} or more"
    report.error(InputError(what, at=here, expected=expect, remedy=remedy, rule=rule))


#: pattern -> what people call it
_FORMS = {
    "^[A-Za-z][A-Za-z0-9_.-]*$": "a letter, then letters, digits, '_', '.' and '-'",
    "^[0-9]+([.][0-9]+)?([KMGTP](iB)?)?$": "bytes, or 512M, 16G",
}
