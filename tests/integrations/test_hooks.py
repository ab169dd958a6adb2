"""Hooks in a start path: a guest whose XML is made anew at every start keeps its addresses, or does not start."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import libvirtd
import pytest

from mdtool.guest import machines
from mdtool.integrations.hooks import ANNOTATION
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE

#: a guest as KubeVirt's virt-launcher writes it before libvirt has seen it: no addresses, aliases of its own
DOMAIN = """<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>default_win</name>
  <memory unit="b">1073741824</memory>
  <os><type arch="x86_64" machine="pc-q35-7.2">hvm</type><smbios mode="sysinfo"></smbios></os>
  <sysinfo type="smbios"><system><entry name="uuid">5d307ca9-b3ef-428c-8861-06e72d69f223</entry></system></sysinfo>
  <devices>
    {nics}
    <channel type="unix"><target name="org.qemu.guest_agent.0" type="virtio"></target></channel>
    <controller type="usb" index="0" model="none"></controller>
    <controller type="scsi" index="0" model="virtio-non-transitional"><driver iothread="1"></driver></controller>
    <controller type="virtio-serial" index="0" model="virtio-non-transitional"></controller>
    {ports}
    <video><model type="vga" heads="1" vram="16384"></model></video>
    <graphics type="vnc"><listen type="socket" socket="/var/run/vnc"></listen></graphics>
    <memballoon model="none"></memballoon>
    <disk device="disk" type="file" model="virtio-non-transitional"><source file="/a"></source>
      <target bus="virtio" dev="vda"></target><driver name="qemu" type="raw" iothread="1"></driver><alias name="ua-rootdisk"></alias></disk>
    <disk device="disk" type="file" model="virtio-non-transitional"><source file="/b"></source>
      <target bus="virtio" dev="vdb"></target><driver name="qemu" type="raw"></driver><alias name="ua-data"></alias></disk>
    <rng model="virtio-non-transitional"><backend model="random">/dev/urandom</backend></rng>
  </devices>
  <cpu mode="custom"><model>Nehalem</model></cpu>
  <vcpu placement="static">2</vcpu>
  <iothreads>1</iothreads>
</domain>
"""
NIC = """<interface type="ethernet"><mac address="02:00:00:00:00:0{n}"></mac><target dev="tap{n}" managed="no"></target>
      <model type="virtio-non-transitional"></model><alias name="ua-net{n}"></alias></interface>"""
PORT = '<controller type="pci" index="{n}" model="pcie-root-port"></controller>'


def domain(nics: int = 1, ports: int = 0) -> str:
    return DOMAIN.format(
        nics="\n    ".join(NIC.format(n=n) for n in range(nics)),
        ports="\n    ".join(PORT.format(n=n) for n in range(1, ports + 1)),
    )


def hook(*words: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    with mock.patch.dict(os.environ, environment):
        return run_mdtool("hook", *words, stdin=stdin)


def vmi(**annotations: str) -> str:
    return json.dumps({"metadata": {"name": "win", "namespace": "default", "annotations": annotations}})


def buses(xml: str) -> dict[str, str]:
    """Where each disk and NIC is: target or MAC -> PCI bus."""
    found: dict[str, str] = {}
    for element in ElementTree.fromstring(xml).iterfind("devices/*"):
        address, target, mac = element.find("address"), element.find("target"), element.find("mac")
        if address is not None and address.get("type") == "pci" and element.tag in ("disk", "interface"):
            key = mac.get("address") if mac is not None else target.get("dev") if target is not None else None
            found[str(key)] = str(address.get("bus"))
    return found


def test_disks_stay_while_an_orchestrator_adds_ports(tmp_path: Path) -> None:
    """More ports and NICs with every version of the orchestrator: the disks stay on the buses of their first start."""
    first = hook("kubevirt", "--store", tmp_path, "--vmi", vmi(), "--domain", domain())
    assert first.returncode == 0, first.stderr
    old = buses(first.stdout)
    assert {"vda", "vdb", "02:00:00:00:00:00"} <= old.keys()
    for nics, ports in ((1, 12), (3, 12), (3, 16), (1, 0)):
        fresh = hook("kubevirt", "--store", _empty(tmp_path), "--vmi", vmi(), "--domain", domain(nics, ports))
        again = hook("kubevirt", "--store", tmp_path, "--vmi", vmi(), "--domain", domain(nics, ports))
        assert again.returncode == 0, again.stderr
        now = buses(again.stdout)
        assert {name: now[name] for name in old} == old
        assert len(set(now.values())) == len(now)
        if nics > 1:  # the control: without the hook they move
            assert buses(fresh.stdout)["vda"] != old["vda"]
    kept = (tmp_path / "default_win.hints").read_text()
    assert "/a" not in kept and len(kept) < 6000


def _empty(folder: Path) -> Path:
    made = folder / f"fresh{len(list(folder.iterdir()))}"
    made.mkdir()
    return made


def test_the_annotation_is_the_store(tmp_path: Path) -> None:
    first = hook("kubevirt", "--vmi", vmi(), "--domain", domain())
    assert first.returncode == 0
    patch = json.loads(shlex.split(first.stderr.strip().split("\n")[-1])[-1])
    hints: dict[str, Any] = patch["spec"]["template"]["metadata"]["annotations"]
    again = hook("kubevirt", "--vmi", vmi(**{ANNOTATION: hints[ANNOTATION]}), "--domain", domain(3, 12))
    old, now = buses(first.stdout), buses(again.stdout)
    assert {name: now[name] for name in old} == old and "kubectl patch" in again.stderr  # three NICs: it is old
    same = hook("kubevirt", "--vmi", vmi(**{ANNOTATION: hints[ANNOTATION]}), "--domain", domain())
    assert same.returncode == 0 and "kubectl" not in same.stderr and buses(same.stdout) == old


@pytest.mark.parametrize("on_error", ["refuse", "pass"])
def test_an_error_refuses_or_passes_on(on_error: str, tmp_path: Path) -> None:
    for words, stdin in (
        (["kubevirt", "--vmi", vmi(**{ANNOTATION: "{"}), "--domain", domain()], ""),
        (["kubevirt", "--vmi", "[]", "--domain", domain()], ""),
        (["kubevirt", "--vmi", '{"metadata": {"name": "../../x"}}', "--domain", domain(), "--store", str(tmp_path)], ""),
        (["cloudstack", "--store", str(tmp_path / "none")], domain()),
    ):
        done = hook(*words, "--on-error", on_error, stdin=stdin)
        assert "error: " in done.stderr
        assert (done.returncode, done.stdout) == ((2, "") if on_error == "refuse" else (0, domain()))


def test_a_removed_nics_slot_is_kept(tmp_path: Path) -> None:
    """CloudStack's story: a NIC goes, another comes, and does not get the slot of the first."""
    three = hook("cloudstack", "--store", tmp_path, stdin=domain(3))
    assert three.returncode == 0, three.stderr
    old = buses(three.stdout)
    hook("cloudstack", "--store", tmp_path, stdin=domain(1))
    other = domain(1).replace("</interface>", "</interface>" + NIC.format(n=7))
    now = buses(hook("cloudstack", "--store", tmp_path, stdin=other).stdout)
    assert now["02:00:00:00:00:07"] not in (old["02:00:00:00:00:01"], old["02:00:00:00:00:02"])
    back = buses(hook("cloudstack", "--store", tmp_path, stdin=domain(3)).stdout)
    assert {name: back[name] for name in old} == old


def test_ovirt_edits_its_file_in_place(tmp_path: Path) -> None:
    path = tmp_path / "hook.xml"
    path.write_text(domain())
    done = hook("ovirt", "--store", tmp_path, _hook_domxml=str(path))
    assert done.returncode == 0 and done.stdout == "" and buses(path.read_text())
    path.write_text(domain().replace("<name>default_win</name>", ""))
    nameless = hook("ovirt", "--store", tmp_path, _hook_domxml=str(path))
    assert nameless.returncode == 2 and "without a name" in nameless.stderr
    assert hook("ovirt", "--store", tmp_path).returncode == 2


def test_a_name_that_is_no_file_name_is_kept_by_its_hash(tmp_path: Path) -> None:
    text = domain().replace("default_win", "win 10")
    assert hook("cloudstack", "--store", tmp_path, stdin=text).returncode == 0
    assert [re.fullmatch(r"[0-9a-f]{32}\.hints", path.name) is not None for path in tmp_path.iterdir()] == [True]


def test_a_guest_that_is_renamed_keeps_its_places(tmp_path: Path) -> None:
    """oVirt renames a guest and leaves its uuid; another guest that gets its name later is another one."""
    from mdtool.integrations import hooks, placement

    store = placement.Store(tmp_path)

    def started(name: str, number: int, nics: int) -> dict[str, str]:
        identity = f"<name>{name}</name><uuid>00000000-0000-4000-8000-{number:012}</uuid>"
        return buses(hooks.cloudstack(domain(nics).replace("<name>default_win</name>", identity).encode(), store).output)

    old = started("old", 1, 1)
    assert started("new", 1, 3)["vda"] == old["vda"] != started("old", 2, 3)["vda"]


def test_an_address_of_the_xml_own_is_a_conflict_until_somebody_decides(tmp_path: Path) -> None:
    from mdtool.errors import ConflictError
    from mdtool.integrations import hooks, placement

    store = placement.Store(tmp_path)
    old = buses(hooks.cloudstack(domain(2).encode(), store).output)
    own = '<address type="pci" domain="0x0000" bus="0x00" slot="0x10" function="0x0"></address><alias name="ua-net1">'
    fixed = domain(2).replace('<alias name="ua-net1">', own).encode()
    with pytest.raises(ConflictError, match="--prefer"):
        hooks.cloudstack(fixed, store)
    assert buses(hooks.cloudstack(fixed, store, "description").output) == old
    assert buses(hooks.cloudstack(fixed, store, "xml").output) == {**old, "02:00:00:00:00:01": "0x00"}


GUARDED = """<domain type='qemu'><name>guarded{n}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>{nics}</devices></domain>"""
PLAIN = "<interface type='user'><mac address='52:54:00:00:00:0{n}'/><model type='virtio'/></interface>"


def guarded(nics: int) -> str:
    return GUARDED.format(n="", nics="".join(PLAIN.format(n=n) for n in range(nics)))


def test_libvirts_guard_by_its_protocol(tmp_path: Path) -> None:
    xml = tmp_path / "guarded.xml"
    xml.write_text(guarded(2))
    assert run_mdtool("reconcile", "guarded.xml", "guarded.yaml", cwd=tmp_path).returncode == 0
    words = ["libvirt", "--store", tmp_path, "--", "guarded"]
    assert hook(*words, "prepare", "begin", "-", stdin=guarded(2)).returncode == 0
    refused = hook(*words, "prepare", "begin", "-", stdin=guarded(1))
    assert refused.returncode == 2 and "net1" in refused.stderr and "mdtool reconcile libvirt:guarded" in refused.stderr
    logged = hook("libvirt", "--store", tmp_path, "--log-only", "--", "guarded", "prepare", "begin", "-", stdin=guarded(1))
    assert logged.returncode == 0 and "net1" in logged.stderr
    for operation in ("started", "stopped", "release", "reconnect"):  # never held back by the guard
        assert hook(*words, operation, "begin", "-", stdin="no XML").returncode == 0
    moved = hook(*words, "migrate", "begin", "-", stdin=guarded(2))
    assert moved.returncode == 0 and "<address" in moved.stdout
    unknown = hook("libvirt", "--store", tmp_path, "--", "--log-only", "prepare", "begin", "-", stdin=guarded(1))
    assert unknown.returncode == 0 and unknown.stdout == ""


@pytest.mark.usefixtures("older_libvirt")
def test_what_libvirt_leaves_out_of_a_saved_guests_xml_is_there(tmp_path: Path) -> None:
    """libvirt 9.1 and later add q35's watchdog to each guest, and leave it out of the XML of a migration or a saved one."""
    from mdtool.errors import ConflictError
    from mdtool.integrations import hooks, placement

    (tmp_path / "guarded.xml").write_text(guarded(1).replace("<devices>", "<devices><watchdog model='itco'/>"))
    assert run_mdtool("reconcile", "guarded.xml", "guarded.yaml", cwd=tmp_path).returncode == 0
    words = ["libvirt", "--store", tmp_path, "--", "guarded"]
    for operation in ("restore", "migrate"):
        answer = hook(*words, operation, "begin", "-", stdin=guarded(1))
        assert answer.returncode == 0, answer.stderr
    with pytest.raises(ConflictError, match="noreboot"):
        hooks.libvirt(["guarded", "prepare", "begin", "-"], guarded(1).encode(), placement.Store(tmp_path))


def test_the_guard_holds_what_is_committed(tmp_path: Path) -> None:
    """What somebody edits at the moment is no description yet."""
    from mdtool.errors import ConflictError
    from mdtool.integrations import hooks, placement

    (tmp_path / "guests").mkdir()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path)]
    identity = "<uuid>00000000-0000-4000-8000-000000000001</uuid>"
    two, one = (guarded(count).replace("</name>", f"</name>{identity}") for count in (2, 1))

    def asked(text: str, name: str = "guarded") -> str:
        return hooks.libvirt([name, "prepare", "begin", "-"], text.encode(), placement.Store(tmp_path / "guests")).journal

    def holds_two() -> None:
        assert "every device in its place" in asked(two)
        with pytest.raises(ConflictError, match="net1") as caught:
            asked(one)
        assert caught.value.rule == "hook-differs"

    (tmp_path / "guarded.xml").write_text(two)
    assert run_mdtool("reconcile", "guarded.xml", "guests/guarded.yaml", cwd=tmp_path).returncode == 0
    subprocess.run([*git, "init", "-q"], check=True)
    holds_two()  # nothing was ever committed
    (tmp_path / "guests" / "broken.yaml").write_bytes(b"\xff")
    subprocess.run([*git, "add", "guests"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "two NICs"], check=True)
    (tmp_path / "guarded.xml").write_text(one)
    assert run_mdtool("reconcile", "guarded.xml", "guests/guarded.yaml", cwd=tmp_path).returncode == 0
    holds_two()
    with pytest.raises(ConflictError, match="net1"):  # virsh domrename
        asked(one.replace("guarded", "renamed"), "renamed")
    assert "no description" in asked(one.replace("0001<", "0002<"), "clone")
    with pytest.raises(ConflictError, match=r"pc-q35-8\.0") as caught:
        asked(two.replace("pc-q35-7.2", "pc-q35-8.0"))
    assert caught.value.rule == "hook-differs"
    (tmp_path / "guests" / "guarded.yaml").unlink()
    holds_two()


def virsh(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["virsh", "-q", *map(str, words)], capture_output=True, text=True, timeout=PATIENCE)


def test_libvirt_itself_asks_the_guard(libvirt: str, tmp_path: Path) -> None:
    """virsh start is refused with the plan, and allowed where nothing differs; so is the start of a saved guest."""
    name = f"guarded{uuid.uuid4().hex[:8]}"
    xml = tmp_path / f"{name}.xml"
    script = f"""#!/bin/sh
[ "$1" = {name} ] || exit 0
cd /; PYTHONPATH={Path(__file__).parents[2]} exec {sys.executable} -m mdtool hook libvirt --store {tmp_path} -- "$@"
"""
    own = libvirtd.HOOKS / "own"
    own.with_suffix(".new").write_text(script)
    own.with_suffix(".new").chmod(0o755)
    own.with_suffix(".new").rename(own)
    try:
        xml.write_text(guarded(2).replace("guarded", name, 1))
        assert virsh("define", xml).returncode == 0
        assert run_mdtool("reconcile", f"libvirt:{name}", xml.with_suffix(".yaml")).returncode == 0
        started = virsh("start", name)
        assert started.returncode == 0, started.stderr
        assert virsh("managedsave", name).returncode == 0
        again = virsh("start", name)
        assert again.returncode == 0, again.stderr
        virsh("destroy", name)
        less = re.sub(
            r"<interface type='user'>\s*<mac address='52:54:00:00:00:01'/>.*?</interface>",
            "",
            virsh("dumpxml", name).stdout,
            flags=re.S,
        )
        xml.write_text(less)
        assert virsh("define", xml).returncode == 0
        refused = virsh("start", name)
        assert refused.returncode != 0 and "net1" in refused.stderr and "other hardware" in refused.stderr
        assert virsh("domstate", name).stdout.strip() == "shut off"
    finally:
        own.unlink()
        virsh("destroy", name)
        virsh("undefine", "--managed-save", name)


def test_hints_are_applied_to_fresh_xml(tmp_path: Path) -> None:
    """XML in, XML out: as a filter, and with --update as a store of its own."""

    def apply(text: str, *words: str) -> subprocess.CompletedProcess[str]:
        return run_mdtool("hints", "apply", "web01.hints", "-", *words, cwd=tmp_path, stdin=text)

    assert apply(domain()).returncode == 2  # no hints yet, and nobody said to make them
    first = apply(domain(), "--update")
    assert first.returncode == 0, first.stderr
    kept = (tmp_path / "web01.hints").read_text()
    more = apply(domain(3, 12))
    old, now = buses(first.stdout), buses(more.stdout)
    assert {name: now[name] for name in old} == old and len(now) > len(old)
    assert (tmp_path / "web01.hints").read_text() == kept
    apply(domain(3), "--update")
    apply(domain(1), "--update")
    assert '"retired"' in (tmp_path / "web01.hints").read_text()
    assert buses(apply(domain(3)).stdout) == buses(apply(domain(3), "--update").stdout)


def test_the_sidecars_files_are_as_kubevirt_takes_them() -> None:
    """The annotation is JSON with what KubeVirt's hookSidecars have; the script passes on what the shim gives it."""
    from ruamel.yaml import YAML

    folder = Path(__file__).parents[2] / "container"
    machine = YAML(typ="safe").load((folder / "virtual-machine.yaml").read_text())
    (sidecar,) = json.loads(machine["spec"]["template"]["metadata"]["annotations"]["hooks.kubevirt.io/hookSidecars"])
    assert set(sidecar) == {"args", "image"} and sidecar["args"] == ["--version", "v1alpha3"]
    spec = machine["spec"]["template"]["spec"]
    assert {one["name"] for one in spec["domain"]["devices"]["disks"]} == {one["name"] for one in spec["volumes"]}
    kubevirt = YAML(typ="safe").load((folder / "kubevirt.yaml").read_text())
    assert kubevirt["spec"]["configuration"]["developerConfiguration"]["featureGates"] == ["Sidecar"]
    script = (folder / "onDefineDomain").read_text()
    assert os.access(folder / "onDefineDomain", os.X_OK) and script.count('mdtool hook kubevirt "$@"') == 2


def test_a_store_that_cannot_be_written_moves_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an error is to pass, the devices are in their places all the same; else nothing is handed on."""
    from mdtool.errors import MdtoolError
    from mdtool.integrations import hooks, placement

    first = hooks.cloudstack(domain().encode(), placement.Store(tmp_path))

    def full(*_: object) -> None:
        raise MdtoolError("No space left on device")

    with monkeypatch.context() as patched, pytest.raises(hooks.NotKept) as caught:
        patched.setattr(placement, "write_file", full)
        hooks.cloudstack(domain(3, 12).encode(), placement.Store(tmp_path))
    old, now = buses(first.output), buses(caught.value.output)
    assert {name: now[name] for name in old} == old and len(now) > len(old)
    # and so on a command line: its own store is a folder that nothing can be written into
    (tmp_path / "default_win.hints").rename(tmp_path / "kept")
    os.link(tmp_path / "kept", tmp_path / "default_win.hints")
    passed = hook("cloudstack", "--store", tmp_path, "--on-error", "pass", stdin=domain(3, 12))
    assert passed.returncode == 0 and "hard links" in passed.stderr and buses(passed.stdout) == now
    path = tmp_path / "hook.xml"
    path.write_text(domain(3, 12))
    passed = hook("ovirt", "--store", tmp_path, "--on-error", "pass", _hook_domxml=str(path))
    assert passed.returncode == 0 and passed.stdout == "" and buses(path.read_text()) == now
    refused = hook("cloudstack", "--store", tmp_path, stdin=domain(3, 12))
    assert (refused.returncode, refused.stdout) == (2, "")


def _hostile(path: Path, kind: str) -> None:
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as stream:
                stream.truncate(1 << 40)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "loop", "huge"])
def test_what_is_no_file_in_a_store_is_an_error_of_its_guest_alone(kind: str, tmp_path: Path) -> None:
    from mdtool.errors import InputError
    from mdtool.integrations import hooks, placement

    store, own = placement.Store(tmp_path), "default_win"
    words, other = [own, "prepare", "begin", "-"], domain().replace(own, "other").encode()
    for suffix in (".hints", ".yaml"):
        _hostile(tmp_path / f"{own}{suffix}", kind)
        with pytest.raises(InputError, match=own):
            hooks.cloudstack(domain().encode(), store)
        assert buses(hooks.cloudstack(other, store).output)
    with pytest.raises(InputError, match=own):
        hooks.libvirt(words, guarded(1).encode(), store)
    named = guarded(1).replace("</name>", f"</name><uuid>{uuid.uuid4()}</uuid>").encode()
    assert "no description" in hooks.libvirt(["other", *words[1:]], named, store).journal


def test_a_start_waits_for_no_lock_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mdtool.errors import MdtoolError
    from mdtool.files import locked
    from mdtool.integrations import hooks, placement

    store = placement.Store(tmp_path)
    hooks.cloudstack(domain().encode(), store)
    monkeypatch.setattr(placement, "LOCK_SECONDS", 0.05)
    with locked(tmp_path / "default_win.hints"), pytest.raises(MdtoolError, match="locked by another process"):
        hooks.cloudstack(domain().encode(), store)


def test_what_nobody_foresaw_passes_too(tmp_path: Path) -> None:
    """An annotation that is no text, a store that is not mounted: an error of the hook, by its configuration."""
    number = json.dumps({"metadata": {"name": "win", "annotations": {ANNOTATION: 7}}})
    refused = hook("kubevirt", "--vmi", number, "--domain", domain())
    assert refused.returncode == 2 and "is not text" in refused.stderr and refused.stdout == ""
    gone = ["libvirt", "--store", tmp_path / "not-mounted", "--", "web01", "prepare", "begin", "-"]
    assert hook(*gone, stdin=guarded(2)).returncode == 2
    passed = hook(*gone[:3], "--on-error", "pass", *gone[3:], stdin=guarded(2))
    assert passed.returncode == 0 and passed.stdout == ""


@pytest.mark.parametrize("machine", ["q35", "pc-q35-rhel9.6.0", "pc-q35-noble"])
def test_a_sidecar_has_no_qemu(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KubeVirt's own default is the alias q35, and distributions name machine types in their way."""
    from mdtool.integrations import hooks

    monkeypatch.setenv("PATH", "/nonexistent")
    machines._on_path.cache_clear()
    text = domain(2).replace("pc-q35-7.2", machine).replace("<os>", "<os firmware='efi'>")
    first = hooks.kubevirt(vmi(), text, None)
    hints = json.loads(shlex.split(first.advice.split("\n")[-1])[-1])["spec"]["template"]["metadata"]["annotations"]
    again = hooks.kubevirt(vmi(**hints), domain(3, 12).replace("pc-q35-7.2", machine), None)
    old, now = buses(first.output), buses(again.output)
    assert {name: now[name] for name in old} == old
    machines._on_path.cache_clear()


def test_another_version_of_the_board_has_the_same_places(tmp_path: Path) -> None:
    """A cluster's new level has other machine types; another board has other places, which is refused."""
    from mdtool.errors import ConflictError
    from mdtool.integrations import hooks, placement

    store = placement.Store(tmp_path)
    old = buses(hooks.cloudstack(domain(2).encode(), store).output)
    later = domain(2).replace("pc-q35-7.2", "pc-q35-rhel9.6.0")
    assert buses(hooks.cloudstack(later.encode(), store).output) == old
    assert "pc-q35-rhel9.6.0" in (tmp_path / "default_win.hints").read_text()
    with pytest.raises(ConflictError, match="the hints are of pc-q35"):
        hooks.cloudstack(domain(2).replace("pc-q35-7.2", "pc").encode(), store)


@pytest.mark.parametrize("what", ["description", "store"])
def test_a_guard_that_may_not_read_its_store_lets_no_renamed_guest_pass(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its description may be the one that cannot be read."""
    from mdtool.errors import InputError
    from mdtool.integrations import hooks, placement

    store, words = placement.Store(tmp_path), ["prepare", "begin", "-"]
    named = guarded(1).replace("</name>", f"</name><uuid>{uuid.uuid4()}</uuid>")
    (tmp_path / "guest.xml").write_text(named)
    assert run_mdtool("reconcile", str(tmp_path / "guest.xml"), str(tmp_path / "guarded.yaml")).returncode == 0

    def forbidden(path: Any, *_: Any) -> Any:  # root may read everything, and a file has no such mode everywhere
        raise PermissionError(13, "Permission denied", str(path))

    if what == "store":
        monkeypatch.setattr(Path, "iterdir", forbidden)
    else:
        monkeypatch.setattr("mdtool.files._read", forbidden)
    renamed = named.replace("<name>guarded<", "<name>other<").encode()
    with pytest.raises(InputError, match=r"cannot read .*: Permission denied"):
        hooks.libvirt(["other", *words], renamed, store)
