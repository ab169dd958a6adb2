"""The collection mdtool.machine by Ansible over SSH, on three hosts with libvirtd and guests.  ``make fleet`` runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet.hosts import Host, hosts, missing, options

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NAMES = ("alpha", "beta", "gamma")
DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{nics}</devices></domain>"""
NIC = "<interface type='user'><mac address='52:54:00:00:00:{n:02x}'/><model type='virtio'/></interface>"

pytestmark = pytest.mark.skipif(
    bool(missing()) or shutil.which("ansible-playbook", path=f"{BIN}:{os.environ['PATH']}") is None,
    reason=missing() or "pip install ansible-core",
)


class Fleet:
    """Hosts, the inventory and the repository of their guests."""

    def __init__(self, folder: Path, all_hosts: list[Host]) -> None:
        self.folder, self.hosts = folder, {one.name: one for one in all_hosts}
        self.repository = folder / "repository"
        collection = folder / "ansible_collections" / "mdtool" / "machine"
        shutil.copytree(ROOT / "ansible", collection, ignore=shutil.ignore_patterns("__pycache__"))
        common = " ".join(options(all_hosts[0].key))
        rows = [
            f"{one.name} ansible_host={one.address} mdtool_folder={one.folder} mdtool_executable={one.home}/mdtool"
            for one in all_hosts
        ]
        rows.append("down ansible_host=10.213.250.2")
        shared = [
            "[all:vars]",
            "ansible_user=root",
            f"ansible_python_interpreter={sys.executable}",
            f"ansible_ssh_common_args='{common}'",
            f"repository={self.repository}",
        ]
        (folder / "hosts").write_text("\n".join([*rows, *shared]) + "\n")
        for one in all_hosts:
            (one.home / "mdtool").write_text(f'#!/bin/sh\nexec {sys.executable} -m mdtool "$@"\n')
            (one.home / "mdtool").chmod(0o755)

    def play(self, name: str, *words: str) -> tuple[int, dict[str, dict[str, int]], str]:
        """(exit status, recap of each host, all that was printed)."""
        playbook = self.folder / "ansible_collections" / "mdtool" / "machine" / "playbooks" / f"{name}.yml"
        return self._run(["ansible-playbook", str(playbook), "-i", str(self.folder / "hosts"), *words])

    def module(self, host: str, name: str, **arguments: object) -> dict[str, Any]:
        """What a module returns on a host."""
        check = ["--check", "--diff"] if arguments.pop("check", False) else []
        words = ["ansible", host, "-i", str(self.folder / "hosts"), "-m", f"mdtool.machine.{name}", *check]
        text = self._run([*words, "-o", "-a", json.dumps(arguments)])[2]
        found = re.search(r"^\S+ \| (\S+?)!?(?: =>|:).*?(\{.*\})\s*$", text, re.M | re.S)
        assert found, text
        return {**json.loads(found[2].split("\n")[0] if "\n" in found[2] else found[2]), "outcome": found[1]}

    def _run(self, words: list[str]) -> tuple[int, dict[str, dict[str, int]], str]:
        environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_SSH_RETRIES": "0",
            "ANSIBLE_PIPELINING": "1",
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, check=False
        )
        recap = {
            row[1]: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", row[2])}
            for row in re.finditer(r"^(\S+)\s+: (ok=.*)$", done.stdout, re.M)
        }
        return done.returncode, recap, done.stdout + done.stderr

    def git(self, *words: str) -> str:
        git = ["git", "-C", str(self.repository), *words]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts with two guests each, one of them running, and an empty repository."""
    folder = tmp_path_factory.mktemp("fleet")
    with hosts(folder, NAMES) as all_hosts:
        made = Fleet(folder, all_hosts)
        for one in all_hosts:
            for name, nics in (("web", (1, 2)), ("db", (3,))):
                xml = one.home / f"{name}.xml"
                xml.write_text(DOMAIN.format(name=name, nics="".join(NIC.format(n=n) for n in nics)))
                one.ssh("virsh", "-q", "define", str(xml))
            one.ssh("virsh", "-q", "start", "db")
        made.repository.mkdir()
        made.git("init", "-q")
        for name, value in (("user.name", "fleet"), ("user.email", "fleet@example.org")):
            made.git("config", name, value)
        yield made


def test_a_fleet_from_adoption_to_audit(fleet: Fleet) -> None:
    """The whole round, in its order: what a step needs, the one before it made."""
    _collect(fleet)
    _apply(fleet)
    _dies_in_mid_run(fleet)
    _refuses_to_let_go(fleet)
    _modules(fleet)
    _audit(fleet)


def _collect(fleet: Fleet) -> None:
    """A host that is down is left out, said, and keeps no other from being collected; a second run changes nothing."""
    status, recap, text = fleet.play("collect")
    assert status == 4 and recap["down"]["unreachable"] == 1, text
    assert all(recap[name]["failed"] == recap[name]["unreachable"] == 0 and recap[name]["changed"] > 0 for name in NAMES), (
        text
    )
    assert recap["localhost"]["changed"] == 1, text
    listed = fleet.git("ls-files").split()
    assert listed == [f"{host}/{guest}.{suffix}" for host in NAMES for guest in ("db", "web") for suffix in ("xml", "yaml")]
    status, recap, text = fleet.play("collect", "--limit", "!down")
    assert status == 0 and all(row["changed"] == 0 for row in recap.values()), text


def _edit(fleet: Fleet, host: str, nics: tuple[int, ...]) -> None:
    """A NIC more in the repository, reconciled and committed, as a merged pull request leaves it."""
    xml = fleet.repository / host / "web.xml"
    text = re.sub(r"<interface .*</interface>", "".join(NIC.format(n=n) for n in nics), xml.read_text(), flags=re.S)
    xml.write_text(text)
    words = [sys.executable, "-m", "mdtool", "reconcile", str(xml), str(xml.with_suffix(".yaml"))]
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
    fleet.git("commit", "-aqm", f"{host}: another NIC")


def _apply(fleet: Fleet) -> None:
    """A check says what would change and changes nothing; the run does it; the second run finds nothing to do."""
    _edit(fleet, "alpha", (1, 2, 4))
    before = fleet.hosts["alpha"].ssh("virsh", "dumpxml", "web").stdout
    status, recap, text = fleet.play("apply", "--limit", "alpha,beta", "--check", "--diff")
    assert status == 0 and recap["alpha"]["changed"] > 0 and recap["beta"]["changed"] == 0, text
    assert fleet.hosts["alpha"].ssh("virsh", "dumpxml", "web").stdout == before and "52:54:00:00:00:04" in text
    status, recap, text = fleet.play("apply", "--limit", "alpha,beta")
    assert status == 0 and recap["alpha"]["changed"] > 0 and recap["beta"]["changed"] == 0, text
    assert "52:54:00:00:00:04" in fleet.hosts["alpha"].ssh("virsh", "dumpxml", "web").stdout
    status, recap, text = fleet.play("apply", "--limit", "alpha,beta")
    assert status == 0 and all(row["changed"] == 0 for row in recap.values()), text


def _dies_in_mid_run(fleet: Fleet) -> None:
    """beta dies while it is applied to: it is unreachable, and gamma, which comes after it, is as it was."""
    for host, nics in (("beta", (1, 2, 5)), ("gamma", (1, 2, 6))):
        _edit(fleet, host, nics)
    beta = fleet.hosts["beta"]
    mdtool = beta.home / "mdtool"
    script = mdtool.read_text()
    mdtool.write_text(
        script.replace("exec", f'[ "$1" != apply ] || {{ ip link set eth0 down; sleep 600; }}; touch {beta.home}/ran; exec')
    )
    status, recap, text = fleet.play("apply", "--limit", "alpha,beta,gamma")
    assert status != 0 and recap["beta"]["unreachable"] == 1, text
    assert recap["alpha"]["failed"] == 0 and recap.get("gamma", {}).get("changed", 0) == 0, text
    assert "52:54:00:00:00:06" not in fleet.hosts["gamma"].ssh("virsh", "dumpxml", "web").stdout
    mdtool.write_text(script)
    subprocess.run(["ip", "-n", beta.namespace, "link", "set", "eth0", "up"], check=True)
    status, recap, text = fleet.play("apply", "--limit", "alpha,beta,gamma")  # and goes on where it stopped
    assert status == 0 and recap["beta"]["changed"] > 0 and recap["gamma"]["changed"] > 0, text
    assert "52:54:00:00:00:05" in beta.ssh("virsh", "dumpxml", "web").stdout


def _refuses_to_let_go(fleet: Fleet) -> None:
    """A guest without an operating system keeps a device that it is asked to let go: the task fails, and says which."""
    gamma = fleet.hosts["gamma"]
    xml, yaml, socket = gamma.home / "live.xml", gamma.home / "live.yaml", gamma.home / "live.qmp"
    xml.write_text(DOMAIN.format(name="live", nics="".join(NIC.format(n=n) for n in (1, 2))))
    launch = f"cd /; PYTHONPATH={ROOT} {gamma.home}/mdtool launch {xml} {yaml} --daemonize --qmp {socket} --pidfile {gamma.home}/pid"
    gamma.ssh(f"PYTHONPATH={ROOT} {gamma.home}/mdtool reconcile {xml} {yaml} && {launch}")
    try:
        xml.write_text(DOMAIN.format(name="live", nics=NIC.format(n=1)))
        arguments = {
            "guest": str(xml),
            "description": str(yaml),
            "source": str(socket),
            "executable": f"{gamma.home}/mdtool",
        }
        checked = fleet.module("gamma", "apply", **arguments, check=True)
        assert checked["changed"], checked
        before = yaml.read_text()
        refused = fleet.module("gamma", "apply", **arguments, timeout=2)
        assert refused["outcome"] == "FAILED" and refused["left"][0]["name"] == "net1", refused
        assert "net1" in refused["msg"] and yaml.read_text() == before
    finally:
        gamma.ssh(f"kill $(cat {gamma.home}/pid)", check=False)


def _modules(fleet: Fleet) -> None:
    """Each module alone, with check mode and diff mode."""
    alpha = fleet.hosts["alpha"]
    program = {"executable": f"{alpha.home}/mdtool"}
    facts = fleet.module("alpha", "facts", folder=str(alpha.folder), **program)["ansible_facts"]["mdtool"]
    assert {name: one["state"] for name, one in facts["guests"].items()} == {"web": "in-step", "db": "in-step"}, facts
    xml, yaml = alpha.folder / "db.xml", alpha.folder / "db.yaml"
    verified = fleet.module("alpha", "verify", description=str(yaml), source="libvirt:db", **program)
    assert verified.get("matches") and not verified["changed"], verified
    files = xml.read_text(), yaml.read_text()
    xml.write_text(re.sub(r"<interface .*</interface>", NIC.format(n=3) + NIC.format(n=7), files[0], flags=re.S))
    both = {"guest": str(xml), "description": str(yaml)}
    checked = fleet.module("alpha", "reconcile", **both, **program, check=True)
    added = [step["name"] for step in checked["plan"]["steps"] if step["action"] == "add"]
    assert checked["changed"] and "net1" in added and yaml.read_text() == files[1], checked
    assert fleet.module("alpha", "reconcile", **both, **program)["changed"] and "net1" in yaml.read_text()
    assert not fleet.module("alpha", "reconcile", **both, **program)["changed"]
    differs = fleet.module("alpha", "verify", description=str(yaml), source="libvirt:db", **program)
    assert differs["outcome"] == "FAILED" and not differs["matches"], differs
    xml.write_text("<domain><")
    broken = fleet.module("alpha", "reconcile", **both, **program)
    assert broken["outcome"] == "FAILED" and broken["errors"][0]["rule"] == "xml-syntax", broken
    xml.write_text(files[0])
    yaml.write_text(files[1])
    described = fleet.module("alpha", "description", folder=str(alpha.folder), **program, check=True)
    assert set(described["files"]) == {"db.xml", "db.yaml", "web.xml", "web.yaml"}, described
    assert "db: as it was" in described["messages"] and xml.read_text() == files[0], described


def _audit(fleet: Fleet) -> None:
    """All guests on another QEMU, here the same one: one verdict for all of them, and nothing changed."""
    status, recap, text = fleet.play(
        "audit", "-e", "mdtool_hosts=alpha,beta", "-e", "mdtool_qemu=/usr/bin/qemu-system-x86_64"
    )
    assert status == 0 and all(row["changed"] == 0 for row in recap.values()), text
    assert text.count("/guests/web.yaml") >= 2 and '"same"' in text and '"alpha": [' in text, text


def test_the_collection_is_well_formed(fleet: Fleet) -> None:
    """Documentation that ansible-doc reads, and nothing that ansible-lint says."""
    for module in sorted((ROOT / "ansible" / "plugins" / "modules").glob("*.py")):
        status, _, text = fleet._run(["ansible-doc", "-t", "module", f"mdtool.machine.{module.stem}"])
        assert status == 0 and "EXAMPLES" in text and "executable" in text, text
    if shutil.which("ansible-lint", path=f"{BIN}:{os.environ['PATH']}"):
        collection = fleet.folder / "ansible_collections" / "mdtool" / "machine"
        words = ["ansible-lint", "--offline", "-q", "--nocolor", "--project-dir", str(collection), str(collection)]
        status, _, text = fleet._run(words)
        assert status == 0, text
