"""What ``host-model`` stands for: libvirt's answer, and QEMU's without libvirt; a described guest keeps its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mdtool.qemu import host_model as module
from mdtool.reconcile import reconcile
from mdtool.sources import Access, guest_from_source

GUEST = """<domain type='qemu'><name>g</name><memory unit='MiB'>256</memory>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
<cpu mode='host-model'><feature policy='disable' name='svm'/></cpu>
</domain>"""
CAPABILITIES = """<domainCapabilities><cpu><mode name='custom' supported='yes'><model>qemu64</model></mode>
<mode name='host-model' supported='{}'><model fallback='forbid'>EPYC</model><vendor>AMD</vendor>
<feature policy='require' name='svm'/><feature policy='require' name='tsc_adjust'/><feature policy='require' name='invtsc'/>
<feature policy='disable' name='monitor'/></mode></cpu></domainCapabilities>"""


def libvirt(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """A virsh on PATH that gives one answer."""
    (folder / "answer.xml").write_text(answer)
    (folder / "virsh").write_text(f"#!/bin/sh\ncat {folder}/answer.xml\n")
    (folder / "virsh").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    module._of_libvirt.cache_clear()


def test_libvirt_says_and_the_description_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt(tmp_path, monkeypatch, CAPABILITIES.format("yes"))
    (tmp_path / "guest.xml").write_text(GUEST)
    first = reconcile(guest_from_source(str(tmp_path / "guest.xml")), None)
    assert not first.warnings
    assert first.tree.cpu["model"] == "EPYC"
    assert first.tree.cpu["features"] == {"svm": False, "tsc-adjust": True, "monitor": False}
    libvirt(tmp_path, monkeypatch, CAPABILITIES.format("yes").replace("EPYC", "Nehalem"))  # another host
    again = reconcile(guest_from_source(str(tmp_path / "guest.xml")), first.tree)
    assert not again.plan
    assert again.tree.cpu == first.tree.cpu


def test_qemu_says_where_libvirt_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt(tmp_path, monkeypatch, CAPABILITIES.format("no"))
    (tmp_path / "guest.xml").write_text(GUEST)
    guest = guest_from_source(str(tmp_path / "guest.xml"), Access(qemu="qemu-system-x86_64"))
    cpu = reconcile(guest, None).tree.cpu
    assert cpu["model"] == "base"
    assert cpu["features"]["lm"] is True
    assert cpu["features"]["svm"] is False


def test_a_model_that_qemu_has_not_is_the_one_that_libvirt_takes(tmp_path: Path) -> None:
    old = "<cpu mode='host-model'><feature policy='disable' name='svm'/></cpu>"
    custom = GUEST.replace(old, "<cpu match='exact'><model fallback='{}'>cpu64-rhel6</model></cpu>")
    assert custom != GUEST
    found = {}
    for fallback in ("allow", "forbid"):
        (tmp_path / "guest.xml").write_text(custom.format(fallback))
        found[fallback] = reconcile(guest_from_source(str(tmp_path / "guest.xml")), None).tree
    assert (found["allow"].cpu["model"], found["allow"].cpu["features"]) == ("kvm64", {"lahf-lm": True})
    assert found["forbid"].cpu["model"] == "cpu64-rhel6"
    (tmp_path / "guest.xml").write_text(custom.format("allow"))
    older = replace(found["allow"], cpu={**found["allow"].cpu, "model": "Nehalem"})  # another libvirt's choice
    assert not reconcile(guest_from_source(str(tmp_path / "guest.xml")), older).plan
