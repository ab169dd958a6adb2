"""What a QEMU binary knows: a real one, one that dies over a type, one that is none; and the cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mdtool.errors import QemuError
from mdtool.qemu import introspect
from mdtool.qemu.introspect import knowledge
from mdtool.qemu.root import program
from tests.conftest import other_root

#: a QEMU that ends where it is asked about virtio-gpu-gl-pci, as builds do whose display module is missing
FAKE = f"""#!{sys.executable}
import json, sys
open(__file__ + ".runs", "a").write("x")
decoder, text = json.JSONDecoder(), sys.stdin.read().strip()
print(json.dumps({{"QMP": {{}}}}))
while text:
    command, end = decoder.raw_decode(text)
    text = text[end:].strip()
    name, asked = command["execute"], command.get("arguments", {{}})
    if asked.get("typename") == "virtio-gpu-gl-pci":
        sys.stdout.write('{{"return": [')
        sys.exit(134)
    answer = {{
        "query-version": {{"qemu": {{"major": 9, "minor": 1, "micro": 2}}}},
        "human-monitor-command": 'name "a", bus PCI, alias "b", desc "c, d"\\r\\nname "no", bus PCI, no-user\\r\\n',
        "qom-list-types": [{{"name": n}} for n in ("a", "no", "virtio-gpu-gl-pci", "z", "qemu64-x86_64-cpu")],
        "query-machines": [{{"name": "pc-q35-9.1", "alias": "q35"}}],
        "device-list-properties": [{{"name": "p", "type": "uint8", "default-value": 3}}, {{"name": "c", "type": "child<x>"}}],
    }}.get(name, {{}})
    print(json.dumps({{"return": answer, **({{"id": command["id"]}} if "id" in command else {{}})}}))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "qemu"
    path.write_text(FAKE)
    path.chmod(0o755)
    knowledge.cache_clear()
    return path


def runs(path: Path) -> int:
    return len(Path(f"{path}.runs").read_text())


def test_a_type_that_kills_qemu_is_left_out_and_the_rest_is_asked(fake: Path) -> None:
    found = knowledge(str(fake))
    assert found.version == "9.1.2"
    assert found.machines == {"pc-q35-9.1", "q35"}
    assert found.drivers["virtio-gpu-gl-pci"].properties is None
    assert [name for name, driver in found.drivers.items() if driver.properties] == ["a", "no", "z"]
    assert found.drivers["z"].properties == {"p": introspect.Property("uint8", None, 3)}
    assert found.driver("b") is found.drivers["a"]
    assert (found.drivers["a"].description, found.drivers["a"].bus) == ("c, d", "PCI")
    assert [found.drivers[name].creatable for name in ("a", "no", "z")] == [True, False, False]
    assert "qemu64-x86_64-cpu" not in found.drivers
    assert runs(fake) == 3  # the first questions, the properties, the rest of them


def test_the_cache_is_used_until_the_binary_changes(fake: Path, tmp_path: Path) -> None:
    first = knowledge(str(fake))
    knowledge.cache_clear()
    assert knowledge(str(fake)) == first
    assert runs(fake) == 3
    for kept in (tmp_path / "cache" / "mdtool").glob("drivers-*"):
        kept.write_text("{broken")
    knowledge.cache_clear()
    assert knowledge(str(fake)) == first, "a broken cache is asked again"
    assert runs(fake) == 6
    fake.write_text(FAKE.replace('"micro": 2', '"micro": 3'))
    knowledge.cache_clear()
    assert knowledge(str(fake)).version == "9.1.3"


def test_a_cache_that_cannot_be_written(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert knowledge(str(fake)).version == "9.1.2"


def test_what_is_no_qemu(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="no such program"):
        knowledge(str(tmp_path / "absent"))
    with pytest.raises(QemuError, match="does not answer as QEMU does"):
        knowledge("/bin/true")


def test_a_real_one(qemu: str) -> None:
    found = knowledge(qemu)
    assert found.drivers["usb-tablet"].bus == "usb-bus"
    assert found.drivers["virtio-net-pci"].properties is not None
    assert found.drivers["virtio-net-pci"].properties["mac"].type == "str"
    assert found.drivers["virtio-net-pci"].properties["speed"].default == -1
    assert len([d for d in found.drivers.values() if d.creatable and d.properties]) > 150


def test_a_qemu_of_another_root_has_no_modules_of_the_host() -> None:
    """11.1 aborts over a module of another build, which it finds where the host's QEMU keeps its own."""
    known = knowledge(program("qemu-system-x86_64", other_root()))
    assert known.driver("virtio-net-pci") and len(known.drivers) > 200
