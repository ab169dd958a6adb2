"""``mdtool apply``: the plan shown, agreed to, carried out; and a saved plan."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mdtool.apply.define import _as_kept
from mdtool.apply.revise import Request, revised
from mdtool.files import text_from_file
from mdtool.qemu.virsh import Virsh
from mdtool.reconcile import reconcile
from mdtool.records import replace
from tests.conftest import require
from tests.qemu.test_live import NIC, Running, guest
from tests.support import SAMPLES, mdtool, run_mdtool
from tests.support_waiting import PATIENCE

__all__ = ["guest"]
pytestmark = pytest.mark.usefixtures("qemu")


def apply(guest: Running, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return guest.mdtool("apply", guest.xml, guest.yaml, "--source", guest.qmp, *words)


def test_apply_asks_shows_and_does_live(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    assert apply(guest, "--yes").returncode == 0, "nothing to do"
    guest.write(NIC.format(n=1), guest.disk("a", "sda", "scsi"))
    before = text_from_file(guest.yaml)
    refused = apply(guest)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert "live: " in refused.stderr
    assert "the guest will notice: " in refused.stderr
    assert text_from_file(guest.yaml) == before
    assert guest.verify()[0] == 0, "nothing was touched"
    done = apply(guest, "--yes")
    assert done.returncode == 0, done.stderr
    assert guest.verify()[0] == 0
    assert "sda" in text_from_file(guest.yaml)


def test_apply_with_a_power_cycle(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    guest.write(NIC.format(n=1), memory=96)
    left = apply(guest, "--yes")
    assert left.returncode == 1, left.stderr
    assert "needs a power cycle (--restart)" in left.stderr
    done = apply(guest, "--yes", "--restart", "--force", "--timeout", "1", "--daemonize", "--pidfile", guest.pidfile)
    assert done.returncode == 0, done.stderr
    with guest.session() as session:
        assert session.execute("query-memory-size-summary")["base-memory"] == 96 << 20


def test_a_saved_plan_is_applied_or_refused_where_it_is_another(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    guest.write(NIC.format(n=1), guest.disk("a", "sda", "scsi"))
    saved = guest.folder / "plan.json"
    before = text_from_file(guest.yaml)
    assert guest.reconcile("--dry-run", "--json", "-o", saved).returncode == 1
    assert text_from_file(guest.yaml) == before
    assert [step["name"] for step in json.loads(text_from_file(saved))["steps"] if step["action"] == "add"]
    guest.write(NIC.format(n=1), guest.disk("a", "sda", "scsi"), guest.disk("b", "sdb", "scsi"))
    stale = guest.mdtool("apply", saved, "--source", guest.qmp, "--yes")
    assert stale.returncode == 2
    assert "[plan-stale]" in stale.stderr
    assert text_from_file(guest.yaml) == before
    guest.write(NIC.format(n=1), guest.disk("a", "sda", "scsi"))
    done = guest.mdtool("apply", saved, "--source", guest.qmp, "--yes")
    assert done.returncode == 0, done.stderr
    assert guest.verify()[0] == 0


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Somebody does something while a person thinks about the question, and then agrees."""

    def agreed(_question: str, *, yes: bool = False) -> bool:
        work()
        return True

    monkeypatch.setattr("mdtool.cli.apply.asked", agreed)


@pytest.mark.parametrize("how", ["another disk", "the same disk of another file", "nothing"])
def test_the_plan_that_is_carried_out_is_the_one_that_was_shown(
    how: str, guest: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    disk = guest.disk("a", "sda", "scsi")
    guest.write(NIC.format(n=1), disk)
    before = text_from_file(guest.yaml)

    def change() -> None:
        others = {"another disk": [disk, guest.disk("b", "sdb", "scsi")], "nothing": [disk]}
        guest.write(NIC.format(n=1), *others.get(how, [guest.disk("b", "sda", "scsi")]))

    meanwhile(monkeypatch, change)
    status = mdtool("apply", guest.xml, guest.yaml, "--source", guest.qmp)
    if how == "nothing":
        assert status == 0
        assert text_from_file(guest.yaml) != before
    else:
        assert status == 2
        assert "[plan-stale]" in capsys.readouterr().err
        assert text_from_file(guest.yaml) == before
    assert guest.verify()[0] == 0, "as the description says"


def test_what_is_no_plan_is_refused(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    assert guest.reconcile().returncode == 0
    (guest.folder / "plan.json").write_text(guest.reconcile("--dry-run", "--json").stdout)
    done = guest.mdtool("apply", "plan.json", "--source", guest.qmp, "--yes")
    assert done.returncode == 2
    assert "[plan-file]" in done.stderr


# --- libvirt ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def defined(libvirt: str, tmp_path: Path) -> Iterator[Path]:
    """A guest that libvirt knows and does not run, and its XML."""
    name = f"mdtool-{uuid.uuid4().hex[:8]}"
    text = (SAMPLES / "web01" / "guest.xml").read_text().replace("web01</name>", f"{name}</name>")
    text = text.replace("3f1c2d5e-8a57-4f3e-9d0b-6a1c5e7f9b21", str(uuid.uuid4()))
    start = text.index("    <disk")
    path = tmp_path / f"{name}.xml"
    path.write_text(text[:start] + text[text.index("</disk>") + 8 :])
    yield path
    subprocess.run([require("virsh"), "-q", "undefine", name], capture_output=True, timeout=PATIENCE, check=False)


def test_a_guest_of_libvirt_that_is_off_is_defined(defined: Path) -> None:
    words = ("apply", defined, defined.with_suffix(".yaml"), "--source", f"libvirt:{defined.stem}")
    done = run_mdtool(*words, "--yes")
    assert done.returncode == 0, done.stderr
    xml = subprocess.run(
        [require("virsh"), "-q", "dumpxml", defined.stem], capture_output=True, text=True, check=True
    ).stdout
    assert xml.count("<address") > 5
    again = run_mdtool(*words)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    other = run_mdtool("apply", defined, defined.with_suffix(".yaml"), "--source", "libvirt:other-guest", "--yes")
    assert other.returncode == 2
    assert "[other-guest]" in other.stderr


def test_libvirt_is_not_given_another_machine_than_was_shown(
    defined: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = defined.read_text().replace("</devices>", NIC.format(n=7) + "</devices>")
    meanwhile(monkeypatch, lambda: defined.write_text(text))
    words = ("apply", defined, defined.with_suffix(".yaml"), "--source", f"libvirt:{defined.stem}")
    assert mdtool(*words) == 2
    assert "[plan-stale]" in capsys.readouterr().err
    assert not defined.with_suffix(".yaml").exists()
    known = subprocess.run([require("virsh"), "-q", "list", "--all", "--name"], capture_output=True, text=True, check=True)
    assert defined.stem not in known.stdout


def secret_of(name: str) -> list[str]:
    """What libvirt keeps of a guest and shows only where it is asked for secrets, in lines."""
    words = [require("virsh"), "-q", "dumpxml", "--inactive", name]
    public, full = (
        subprocess.run([*words, *more], capture_output=True, text=True, check=True).stdout.splitlines()
        for more in ([], ["--security-info"])
    )
    return [line.strip() for line in full if line not in public]


@pytest.fixture
def with_password(defined: Path) -> Path:
    """A guest whose VNC password libvirt has, adopted: no file has it."""
    text = re.sub(
        "<graphics[^>]*/>", "<graphics type='vnc' port='-1' autoport='yes' passwd='geheim'/>", defined.read_text()
    )
    defined.write_text(text)
    subprocess.run([require("virsh"), "-q", "define", str(defined)], check=True)
    defined.unlink()
    done = run_mdtool("adopt", "--no-git", defined.stem, defined.parent)
    assert done.returncode == 0, done.stderr
    assert "passwd='geheim'" in secret_of(defined.stem)[0]
    return defined


@pytest.mark.parametrize("how", ["apply", "edit", "launch"])
def test_a_secret_stays_that_libvirt_does_not_show(
    how: str, with_password: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xml, yaml = with_password, with_password.with_suffix(".yaml")
    before = secret_of(xml.stem)
    nic = NIC.format(n=7) + "</devices>"
    if how == "edit":
        (tmp_path / "nic.sed").write_text(f"s|</devices>|{nic}|\n")
        monkeypatch.setenv("VISUAL", f"sed -i -f {tmp_path / 'nic.sed'}")
        done = run_mdtool("edit", xml, "--yes")
    else:
        xml.write_text(xml.read_text().replace("</devices>", nic))
    if how == "apply":
        done = run_mdtool("apply", xml, yaml, "--source", f"libvirt:{xml.stem}", "--yes")
    if how == "launch":
        assert run_mdtool("reconcile", xml, yaml).returncode == 0
        done = run_mdtool("launch", xml, yaml, "--via", "libvirt", "--paused")
        subprocess.run([require("virsh"), "-q", "destroy", xml.stem], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert secret_of(xml.stem) == before
    text = subprocess.run([require("virsh"), "dumpxml", xml.stem], capture_output=True, text=True, check=True).stdout
    assert ":00:07" in text, "it was defined"
    assert "geheim" not in done.stdout + done.stderr
    assert not any(b"geheim" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_without_its_secrets_libvirt_would_lose_them(with_password: Path) -> None:
    """The negative control: the file, defined by hand, takes the password away, and then nobody is let in."""
    subprocess.run([require("virsh"), "-q", "define", str(with_password)], check=True)
    assert ["passwd=''" in line for line in secret_of(with_password.stem)] == [True]


def test_a_new_password_of_the_xml_is_taken(with_password: Path) -> None:
    text = with_password.read_text().replace("passwd=''", "passwd='neu'")
    with_password.write_text(text.replace("</devices>", NIC.format(n=7) + "</devices>"))
    yaml = with_password.with_suffix(".yaml")
    source = f"libvirt:{with_password.stem}"
    assert run_mdtool("apply", with_password, yaml, "--source", source, "--yes").returncode == 0
    assert "passwd='neu'" in secret_of(with_password.stem)[0]


class WithWatchdog(Virsh):
    """A libvirt since 9.1, which gives every guest with a q35 chipset the watchdog of that chipset."""

    def named(self, name: str) -> str:
        return name

    def public_xml(self, domain: str) -> str:
        xml = (SAMPLES / "web01" / "guest.xml").read_text()
        return xml.replace("</devices>", "<watchdog model='itco' action='reset'/></devices>")


@pytest.mark.usefixtures("older_libvirt")
def test_what_libvirt_adds_by_itself_is_described() -> None:
    """Else the guest would be another one than described from its next start on, and never be in step."""
    request = Request(str(SAMPLES / "web01" / "guest.xml"), output="/nowhere/web01.yaml")
    revision, said = revised(request), list[str]()
    assert "globals" not in revision.tree.features
    tree = _as_kept(revision, WithWatchdog(), said.append)
    assert tree.features["globals"] == {"ICH9-LPC.noreboot": False}
    assert [line.partition(",")[0] for line in said] == ["warning: libvirt changes features by itself"]
    again = reconcile(revision.guest, tree)
    assert not again.plan and again.tree.features == tree.features, "the XML does not speak of it, and it stays"
    assert _as_kept(replace(revision, tree=tree), WithWatchdog(), said.append) == tree
    assert len(said) == 1
