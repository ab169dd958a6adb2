"""Everything outside of <devices>: what the description says of it, and that QEMU takes the options."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mdtool.errors import InputError, MdtoolError, QemuError, Report
from mdtool.guest import machines
from mdtool.guest.choices import as_described
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest
from mdtool.guest.platform import crash_action, platform_argv, platform_of, sections_from_guest
from mdtool.guest.platform.cpu import plugged_cpus
from mdtool.guest.platform.machine import machine_sections
from mdtool.machine.tree import Tree
from mdtool.reconcile import reconcile
from tests.support_waiting import PATIENCE

NOON = datetime(2030, 1, 2, 12, 0, 0, tzinfo=UTC)


def guest(
    inside: str = "",
    *,
    machine: str = "pc-q35-7.2",
    type: str = "qemu",
    memory: str = "256",
    arch: str = "x86_64",
    os: str = "",
) -> Guest:
    xml = (
        f"<domain type='{type}'><name>g</name><uuid>12345678-1234-1234-1234-123456789abc</uuid>"
        f"<memory unit='MiB'>{memory}</memory>"
        f"<os><type arch='{arch}' machine='{machine}'>hvm</type>{os}</os>{inside}</domain>"
    )
    return guest_from_bytes(xml.encode(), "guest.xml")


def sections(made: Guest) -> dict[str, dict[str, Any]]:
    report = Report()
    found = sections_from_guest(made, report)
    report.done(strict=True)
    return found


def words(made: Guest, **options: Any) -> str:
    return " ".join(platform_argv(made, Tree(), now=NOON, **options))


def asked(argv: list[str], *commands: dict[str, Any]) -> list[Any]:
    """What a paused QEMU with these words answers; its own words where it does not start."""
    sent = [{"execute": "qmp_capabilities"}, *commands, {"execute": "quit"}]
    said = subprocess.run(
        [*argv, "-display", "none", "-S", "-qmp", "stdio"],
        input="".join(map(json.dumps, sent)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert len(answers) > 2, said.stderr
    return [answer.get("return", answer.get("error")) for answer in answers if "event" not in answer][2:-1]


# --- what the description says -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("older_libvirt")
def test_a_plain_guest_says_little() -> None:
    found = sections(guest("<features><acpi/></features><clock offset='utc'/>"))
    assert found == {
        "guest": {"name": "g", "uuid": "12345678-1234-1234-1234-123456789abc"},
        "machine": {"type": "pc-q35-7.2", "arch": "x86_64"},
        "cpu": {"model": "qemu64", "vcpus": 1, "topology": {"sockets": 1, "cores": 1, "threads": 1}},
        "memory": {"size": 268435456},
        "boot": {"strict": True},
        "clock": {"base": "utc"},
        "objects": {"pc.ram": {"type": "memory-backend-ram", "size": 268435456}},
    }


@pytest.mark.usefixtures("older_libvirt")
@pytest.mark.parametrize(
    ("inside", "path", "expected"),
    [
        ("<vcpu current='2'>4</vcpu>", "cpu/vcpus", 2),
        ("<vcpu current='2'>4</vcpu>", "cpu/maxcpus", 4),
        ("<vcpu>4</vcpu><cpu><topology sockets='1' dies='2' cores='2' threads='1'/></cpu>", "cpu/topology/dies", 2),
        ("<cpu mode='host-passthrough'/>", "cpu/model", "host"),
        ("<cpu mode='maximum'/>", "cpu/model", "max"),
        ("<cpu><model vendor_id='AuthenticAMD'>Haswell</model></cpu>", "cpu/features/vendor", "AuthenticAMD"),
        ("<cpu><model>Haswell</model><feature name='lahf_lm' policy='disable'/></cpu>", "cpu/features/lahf-lm", False),
        ("<cpu><model>Haswell</model><cache mode='emulate' level='3'/></cpu>", "cpu/features/l3-cache", True),
        ("<cpu><model>Haswell</model><maxphysaddr mode='emulate' bits='42'/></cpu>", "cpu/features/phys-bits", 42),
        ("<features><apic eoi='on'/></features>", "cpu/features/kvm-pv-eoi", True),
        ("<features><kvm><hidden state='on'/></kvm></features>", "cpu/features/kvm", False),
        ("<features><kvm><hint-dedicated state='off'/><pv-ipi state='on'/></kvm></features>", "cpu/features", None),
        ("<features><kvm><pv-ipi state='off'/></kvm></features>", "cpu/features/kvm-pv-ipi", False),
        ("<features><pmu/><pvspinlock/></features>", "cpu/features", {"kvm-pv-unhalt": True, "pmu": True}),
        ("<features><acpi/><vmport/><smm/></features>", "machine/properties", {"smm": "on", "vmport": "on"}),
        ("<features><smm state='off'><tseg>48</tseg></smm></features>", "features", None),
        ("<features><acpi/></features><cpu><numa><interconnects/></numa></cpu>", "machine/properties", None),
        ("<features><xen><e820_host state='on'/></xen></features>", "cpu/features", None),
        ("<cpu><model>EPYC</model></cpu>", "cpu/features", {"monitor": False}),
        ("<cpu><model>EPYC</model><feature policy='require' name='monitor'/></cpu>", "cpu/features", {"monitor": True}),
        ("<cpu mode='host-passthrough'/>", "cpu/features", {"migratable": True}),
        (
            "<features><hyperv><spinlocks state='on' retries='8191'/></hyperv></features>",
            "cpu/features/hv-spinlocks",
            "0x1fff",
        ),
        ("<features><hyperv><vendor_id state='on' value='x y'/></hyperv></features>", "cpu/features/hv-vendor-id", "x y"),
        ("<features><hyperv><relaxed state='off'/></hyperv></features>", "cpu/features", None),
        ("<clock offset='utc'><timer name='hypervclock' present='yes'/></clock>", "cpu/features/hv-time", True),
        ("<clock offset='utc'><timer name='kvmclock' present='no'/></clock>", "cpu/features/kvmclock", False),
        (
            "<clock offset='utc'><timer name='tsc' frequency='3000000000'/></clock>",
            "cpu/features/tsc-frequency",
            3000000000,
        ),
        ("<clock offset='utc'><timer name='hpet' present='no'/></clock>", "machine/properties/hpet", False),
        (
            "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>",
            "clock/timers",
            {"rtc": {"tickpolicy": "catchup"}},
        ),
        ("<clock offset='variable' adjustment='3600' basis='utc'/>", "clock", {"base": "utc", "offset": 3600}),
        ("<clock offset='absolute' start='1000'/>", "clock", {"base": 1000}),
        ("<features><smm state='on'/></features>", "machine/properties/smm", "on"),
        ("<features><vmport state='off'/></features>", "machine/properties/vmport", "off"),
        ("<features><ioapic driver='qemu'/></features>", "machine/properties/kernel_irqchip", "split"),
        ("<pm><suspend-to-mem enabled='no'/></pm>", "features/globals", {"ICH9-LPC.disable_s3": 1}),
        ("<maxMemory slots='4' unit='GiB'>2</maxMemory>", "memory", {"size": 268435456, "slots": 4, "max": 2147483648}),
        ("<sysinfo type='fwcfg'><entry name='opt/a'>b</entry></sysinfo>", "features/fw_cfg", {"opt/a": "b"}),
        ("<hwuuid>11111111-2222-3333-4444-555555555555</hwuuid>", "guest/uuid", "11111111-2222-3333-4444-555555555555"),
        ("<devices><panic model='hyperv'/></devices>", "cpu/features", {"hv-crash": True}),
        (
            "<features><hyperv><relaxed state='on'/></hyperv></features><devices><panic model='hyperv'/></devices>",
            "cpu/features",
            {"hv-crash": True, "hv-relaxed": True},
        ),
        ("<features><virtualization/></features>", "machine/properties/virtualization", True),
        (
            "<launchSecurity type='sev-snp' kernelHashes='yes'><policy>0x30000</policy>"
            "<hostData>0123456789abcdef</hostData></launchSecurity>",
            "features/launch_security",
            {"type": "sev-snp", "policy": 0x30000, "kernel-hashes": True, "host-data": "0123456789abcdef"},
        ),
        (
            "<launchSecurity type='tdx'><policy>0x10000001</policy><mrOwner>abc</mrOwner></launchSecurity>",
            "features/launch_security",
            {"type": "tdx", "attributes": 0x10000001, "mrowner": "abc"},
        ),
    ],
)
def test_a_section(inside: str, path: str, expected: Any) -> None:
    found: Any = sections(guest(inside))
    for key in path.split("/"):
        found = found.get(key) if found is not None else None
    assert found == expected


def test_deprecated_features_are_off() -> None:
    made = guest("<cpu deprecated_features='off'><model>gen15a</model></cpu>", arch="s390x", machine="s390-ccw-virtio-7.2")
    assert sections(made)["cpu"]["features"] == dict.fromkeys(("bpb", "csske", "cte", "te"), False)


@pytest.mark.parametrize(("machine", "off"), [("virt-7.2", False), ("virt-11.1", True)])
def test_the_newest_libvirt_switches_acpi_off_on_arm(machine: str, off: bool) -> None:
    made = guest(arch="armv7l", machine=machine)
    assert ("acpi" in sections(made)["machine"].get("properties", {})) is off


@pytest.mark.parametrize(
    ("track", "clock"), [("wall", ["clock=host"]), ("guest", ["clock=vm"]), ("realtime", ["clock=rt"]), ("boot", [])]
)
def test_what_the_clock_follows(track: str, clock: list[str]) -> None:
    timer = f"<clock offset='utc'><timer name='rtc' track='{track}'/></clock>"
    line = words(guest(timer)).split()
    assert line[line.index("-rtc") + 1].split(",")[1:] == clock


def test_memory_devices_are_not_there_at_the_start() -> None:
    """libvirt counts them into <memory>; QEMU's -m does not."""
    dimm = "<devices><memory model='dimm'><target><size unit='MiB'>128</size></target></memory></devices>"
    assert sections(guest(dimm, memory="256"))["memory"]["size"] == 128 * 1024**2


def test_cells_have_memory_objects_of_their_own() -> None:
    cells = (
        "<vcpu>4</vcpu><cpu><numa><cell id='0' cpus='0-1' memory='100' unit='MiB'><distances><sibling id='1' value='30'/>"
        "</distances></cell><cell id='1' cpus='2-3' memory='156' unit='MiB'/></numa></cpu>"
    )
    found = sections(guest(cells))
    assert found["numa"]["nodes"][1] == {"id": 1, "cpus": "2-3", "memory": 156 * 1024**2, "memdev": "ram-node1"}
    rows = [tuple(row.values()) for row in found["numa"]["distances"]]
    assert rows == [(0, 0, 10), (0, 1, 30), (1, 0, 30), (1, 1, 10)], "as libvirt completes them: QEMU takes all or none"
    assert list(found["objects"]) == ["ram-node0", "ram-node1"]


HMAT = (
    "<vcpu>4</vcpu><numatune><memory mode='strict' nodeset='0-1,^1'/><memnode cellid='1' mode='preferred' nodeset='2'/>"
    "</numatune><cpu><numa><cell id='0' cpus='0-3' memory='128' unit='MiB'><cache level='1' associativity='direct' "
    "policy='writeback'><size value='10' unit='KiB'/><line value='8' unit='B'/></cache></cell>"
    "<cell id='1' memory='128' unit='MiB'/><interconnects>"
    "<latency initiator='0' target='0' type='access' value='3'/><latency initiator='0' target='0' cache='1' type='read' "
    "value='5'/><bandwidth initiator='0' target='0' type='access' value='400' unit='MiB'/>"
    "<bandwidth initiator='0' target='1' type='access' value='200' unit='MiB'/></interconnects></numa></cpu>"
)


def test_how_far_memory_is() -> None:
    made = guest(HMAT)
    assert sections(made)["machine"]["properties"]["hmat"] is True
    text = words(made)
    for part in (
        "node,nodeid=0,cpus=0-3,initiator=0,memdev=ram-node0",
        "node,nodeid=1,initiator=0,memdev=ram-node1",
        "hmat-lb,initiator=0,target=0,hierarchy=first-level,data-type=read-latency,latency=5",
        "hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-bandwidth,bandwidth=204800K",
        "hmat-cache,node-id=0,size=10K,level=1,associativity=direct,policy=write-back,line=8",
        '"id": "ram-node0", "size": 134217728, "host-nodes": [0], "policy": "bind"',
        '"id": "ram-node1", "size": 134217728, "host-nodes": [2], "policy": "preferred"',
    ):
        assert part in text
    assert "host-nodes" not in words(made, rehearse=True)


def test_cpus_that_no_numa_cell_has_are_the_first_one_s() -> None:
    cells = "<cell id='1' cpus='1' memory='128' unit='MiB'/><cell id='0' memory='128' unit='MiB'/>"
    found = sections(guest(f"<vcpu>4</vcpu><cpu><numa>{cells}</numa></cpu>"))["numa"]["nodes"]
    assert [(row["id"], row["cpus"]) for row in found] == [(0, "0,2-3"), (1, "1")]


def test_acpi_shows_the_numa_nodes_of_the_hosts_pci_devices() -> None:
    host = "<source><address bus='6' slot='1'/></source><acpi nodeset='1-2'/>"
    devices = (
        f"<hostdev mode='subsystem' type='pci'>{host}</hostdev><rng model='virtio'><backend model='random'/>"
        "<acpi nodeset='0'/></rng>"
    )
    cells = "".join(f"<cell id='{id}' memory='{memory}' unit='MiB'/>" for id, memory in ((0, 256), (1, 0), (2, 0)))
    made = guest(f"<cpu><numa>{cells}</numa></cpu><devices>{devices}</devices>")
    found = reconcile(made).tree
    rows = [{"qom-type": "acpi-generic-initiator", "pci-dev": "hostdev0", "node": node} for node in (1, 2)]
    assert found.features["options"] == {"object": rows}
    written = json.dumps({**rows[1], "id": "gi1"})
    assert platform_argv(made, found).count(written) == 1
    assert not reconcile(made, found).plan.changes


def test_an_optional_feature_is_as_the_host_or_the_description_has_it() -> None:
    asks = "<cpu><model>{}</model><feature policy='optional' name='{}'/></cpu>"
    made = replace(guest(asks.format("qemu64", "avx512f")), offers=lambda name: name == "aes")
    assert sections(made)["cpu"]["features"] == {"avx512f": False}
    described = as_described(made, Tree(cpu={"features": {"avx512f": True}}))
    assert sections(described)["cpu"]["features"] == {"avx512f": True}
    assert "features" not in sections(guest("<cpu mode='maximum'><feature policy='optional' name='aes'/></cpu>"))["cpu"]


def test_migratable_is_a_switch_of_x86_alone() -> None:
    asks = "<cpu mode='maximum' migratable='on'/>"
    assert sections(guest(asks))["cpu"]["features"] == {"migratable": True}
    assert "features" not in sections(guest(asks, arch="aarch64", machine="virt-7.2"))["cpu"]


def test_what_s390x_boots_is_said_of_the_machine_or_of_each_device() -> None:
    boots = "<devices><disk type='file'><target dev='vda'/><boot order='1' loadparm='A'/></disk></devices>"
    old, new = (guest(boots, arch="s390x", machine=f"s390-ccw-virtio-{version}") for version in ("7.2", "11.1"))
    for made, wish in ((old, None), (new, "A"), (as_described(new, Tree(machine={"properties": {"loadparm": "B"}})), None)):
        (disk,) = wanted_from_guest(replace(made, places_only=True), Report())
        assert disk.properties.get("loadparm") == wish
    assert sections(old)["machine"]["properties"]["loadparm"] == "A"


def test_what_follows_a_reboot_or_a_crash() -> None:
    assert "-no-reboot" in words(guest("<on_reboot>destroy</on_reboot>"))
    assert "-no-shutdown" in words(guest("<on_poweroff>preserve</on_poweroff>"))
    assert crash_action(guest("<on_crash>preserve</on_crash>")) == (("set-action", {"panic": "pause"}),)
    assert crash_action(guest("<on_crash>preserve-running</on_crash>")) == (("set-action", {"panic": "none"}),)
    assert not crash_action(guest("<on_crash>destroy</on_crash>"))


def test_the_host_side_of_memory_is_no_part_of_the_description() -> None:
    backing = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
    assert sections(guest(backing)) == sections(guest())
    assert '"memory-backend-memfd"' in words(guest(backing))
    assert '"share": true' in words(guest(backing))
    assert '"memory-backend-memfd"' not in words(guest(backing), rehearse=True)


def test_memory_in_a_file_leaves_none_behind(qemu: str) -> None:
    made = guest("<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>")
    before = set(Path("/dev/shm").iterdir())
    (memory,) = asked([qemu, *platform_argv(made, Tree())], {"execute": "query-memdev"})
    assert memory[0]["share"] is True
    assert not {path for path in set(Path("/dev/shm").iterdir()) - before if "pc.ram" in path.name}


def test_hugepages_of_a_size_and_of_a_cell() -> None:
    backing = "<memoryBacking><hugepages><page size='1' unit='GiB' nodeset='0'/></hugepages></memoryBacking>"
    assert '"mem-path": "/dev/hugepages1G"' in words(guest(backing))


@pytest.mark.parametrize(
    ("inside", "rule"),
    [
        ("<vcpu>3</vcpu><cpu><topology sockets='1' cores='2' threads='1'/></cpu>", "topology"),
        ("<vcpu current='3'>2</vcpu>", "vcpus"),
        ("<features><hyperv><magic state='on'/></hyperv></features>", "hyperv"),
        ("<cpu><model>Haswell</model><feature name='aes' policy='maybe'/></cpu>", "policy"),
        ("<clock offset='moon'/>", "clock"),
        ("<clock offset='utc'><timer name='sundial'/></clock>", "timer"),
        ("<launchSecurity type='moon'/>", "launch-security"),
        ("<os><nvram>/x</nvram></os>", "firmware"),
        ("<os firmware='bios'><nvram>/x</nvram></os>", "firmware"),
        ("<os><bios useserial='yes'/></os>", "bios-serial"),
        ("<maxMemory unit='parsec'>1</maxMemory>", "unit"),
        ("<features><smm state='perhaps'/></features>", "switch"),
        ("<devices><memory model='dimm'><target><size unit='MiB'>256</size></target></memory></devices>", "memory"),
    ],
)
def test_what_cannot_be_is_an_error_with_its_place(inside: str, rule: str) -> None:
    report = Report()
    sections_from_guest(guest(inside), report)
    assert [error.rule for error in report.errors] == [rule]
    assert report.errors[0].at is not None


def test_a_cpu_that_is_on_after_one_that_is_off_is_said() -> None:
    rows = "<vcpu id='0' enabled='yes'/><vcpu id='1' enabled='{}'/><vcpu id='2' enabled='{}'/>"
    for first, second, said in (("no", "yes", ["vcpus"]), ("yes", "no", [])):
        report = Report()
        sections_from_guest(guest(f"<vcpu current='2'>3</vcpu><vcpus>{rows.format(first, second)}</vcpus>"), report)
        assert [warning.rule for warning in report.warnings] == said


def test_cpus_that_can_be_unplugged_are_none_of_the_first() -> None:
    row = "<vcpu id='{0}' enabled='{1}' hotpluggable='{2}'/>"
    rows = "".join(row.format(*vcpu) for vcpu in ((0, "yes", "no"), (1, "no", "yes"), (2, "yes", "yes")))
    report = Report()
    for arch, plugged in (("x86_64", True), ("s390x", True), ("ppc64", False)):  # POWER's are cores
        domain = guest(
            f"<vcpu current='2'>3</vcpu><vcpus>{rows}</vcpus>",
            arch=arch,
            machine={"s390x": "s390-ccw-virtio-7.2", "ppc64": "pseries-7.2"}.get(arch, "pc"),
        )
        assert sections_from_guest(domain, report)["cpu"]["vcpus"] == (1 if plugged else 2)
        assert [cpu.id for cpu in plugged_cpus(domain)] == (["vcpu2"] if plugged else [])
    assert [warning.rule for warning in report.warnings] == ["vcpus"]


def test_more_cpus_than_an_apic_can_name_need_an_iommu() -> None:
    """In a machine that is described without one, none comes."""
    full = {"intremap": "on", "eim": "on"}
    for count, devices, described, expected in (
        (255, "", None, []),
        (256, "", None, [full]),
        (256, "<iommu model='intel'><driver caching_mode='on'/></iommu>", None, [{**full, "caching-mode": True}]),
        (256, "", {"@machine": {"type": "pc-q35-7.2"}}, []),
        (256, "", {"@machine": {"properties": {"kernel_irqchip": "split"}}}, [full]),
    ):
        domain = replace(guest(f"<vcpu>{count}</vcpu><devices>{devices}</devices>"), applied=described)
        found = with_defaults(domain, wanted_from_guest(domain, Report()))
        assert [one.properties for one in found if one.driver == "intel-iommu"] == expected
        assert (sections(domain)["machine"]["properties"].get("kernel_irqchip") == "split") is bool(expected)


@pytest.mark.usefixtures("older_libvirt")
def test_what_the_newest_libvirt_writes_where_it_is_so_anyway() -> None:
    inside = "<clock><timer name='hpet' present='yes'/></clock><devices><sound model='virtio'/></devices>"
    for machine, properties, made_up in (("pc-q35-7.2", {}, {}), ("pc-q35-8.2", {"hpet": True}, {"streams": 2})):
        domain = guest(f"<features><acpi/></features>{inside}", machine=machine)
        assert machine_sections(domain, Report())["machine"].get("properties", {}) == properties
        sound = next(one for one in wanted_from_guest(domain, Report()) if one.kind == "sound")
        assert sound.facts.get("made_up", {}) == made_up


def test_machines_of_other_architectures() -> None:
    """No switches that QEMU's 32 bit virt machine has by itself; where POWER keeps its firmware's settings; s390x's keys."""
    arm = sections(guest("<features><gic version='2'/></features>", arch="armv7l", machine="virt-7.2"))
    assert "properties" not in arm["machine"]
    for address, reg in (("", "0x3000"), ("<address type='spapr-vio' reg='0x4000'/>", "0x4000")):
        power = guest(f"<devices><nvram>{address}</nvram></devices>", arch="ppc64", machine="pseries-7.2")
        assert sections(power)["features"]["globals"] == {"spapr-nvram.reg": reg}
    keys = "<keywrap><cipher name='aes' state='off'/><cipher name='dea' state='on'/></keywrap>"
    s390 = sections(guest(keys, arch="s390x", machine="s390-ccw-virtio-7.2"))
    assert s390["machine"]["properties"] == {"aes-key-wrap": False, "dea-key-wrap": True}


def test_hugepages_of_a_memfd() -> None:
    backing = "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages><source type='memfd'/></memoryBacking>"
    argv = words(guest(backing))
    assert '"qom-type": "memory-backend-memfd", "id": "pc.ram", "size": 268435456, "hugetlb": true' in argv
    assert '"hugetlbsize": 1073741824, "prealloc": true' in argv


def test_what_libvirt_ignores_is_no_reason_to_refuse_a_guest() -> None:
    report = Report()
    assert sections_from_guest(guest("<idmap><uid start='0' target='1000' count='10'/></idmap>"), report)["guest"]
    assert not report.errors
    assert [warning.rule for warning in report.warnings] == ["not-qemu"]


def test_an_unknown_element_is_a_warning() -> None:
    report = Report()
    sections_from_guest(guest("<frobnicate/>"), report)
    assert [warning.rule for warning in report.warnings] == ["unknown-element"]


def test_the_host_s_smbios_is_the_host_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description says that it is, and not what it was on one host."""
    (tmp_path / "sys_vendor").write_text("A, B\n")
    monkeypatch.setattr("mdtool.guest.platform.firmware.HOST_TABLES", tmp_path)
    made = guest(os="<smbios mode='host'/>")
    assert sections(made)["smbios"] == {"mode": "host"}
    assert "-smbios type=1,manufacturer=A,, B" in words(made)
    assert "-smbios" not in words(made, rehearse=True)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<os><acpi><table type='slic'>/t</table></acpi></os>", "-acpitable sig=SLIC,file=/t"),
        ("<os><acpi><table type='msdm'>/t</table></acpi></os>", "-acpitable sig=MSDM,file=/t"),
        ("<os><acpi><table type='raw'>/t</table></acpi></os>", "-acpitable file=/t"),
        ("<os><kernel>/k</kernel><initrd>/i</initrd><shim>/s</shim></os>", "-kernel /k -initrd /i -shim /s"),
        ("<os><bios useserial='yes'/></os><devices><serial type='null'/></devices>", "graphics=off"),
        ("<features><tcg><tb-cache unit='KiB'>131072</tb-cache></tcg></features>", "-accel tcg,tb-size=128"),
        ("<features><tcg><tb-cache>131072</tb-cache></tcg></features>", "-accel tcg,tb-size=128"),
        ("<features><tcg><tb-cache unit='GiB'>1</tb-cache></tcg></features>", "-accel tcg,tb-size=1024"),
    ],
)
def test_an_option_that_is_no_device(inside: str, expected: str) -> None:
    assert expected in words(guest(inside))


def test_libvirt_s_own_choices_are_those_of_a_fresh_guest() -> None:
    """The watchdog of a q35 younger than libvirt 9.0, and what such a libvirt takes out of a CPU model."""
    young = guest("<cpu><model>Skylake-Client</model></cpu>", machine="pc-q35-8.0")
    made = sections(young)
    assert made["cpu"]["features"] == {"mpx": False}
    assert made["features"]["globals"] == {"ICH9-LPC.noreboot": False}
    first = reconcile(young, None).tree
    assert not reconcile(young, first).plan
    older = replace(first, cpu={"model": "Skylake-Client", "vcpus": 1}, features={}, applied={})  # described without them
    assert "features" not in reconcile(young, older).tree.cpu
    assert "globals" not in reconcile(young, older).tree.features


def test_an_older_machine_type_of_a_younger_qemu_has_libvirt_s_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, made in (("7.2.22", {}), ("11.1.3", {"ICH9-LPC.noreboot": False})):
        qemu = machines.Binary("/q", version, {})
        monkeypatch.setattr("mdtool.guest.choices.machines_of", lambda _path, qemu=qemu: qemu)
        assert sections(guest(machine="pc-q35-5.2")).get("features", {}).get("globals", {}) == made


def test_hyper_v_of_the_host_is_all_that_the_newest_libvirt_passes_on() -> None:
    inside = "<features><hyperv mode='passthrough'><relaxed state='on'/></hyperv></features>"
    made = [sections(guest(inside, machine=name))["cpu"]["features"] for name in ("pc-q35-7.2", "pc-q35-11.1")]
    assert made == [{"hv-passthrough": True, "hv-relaxed": True}, {"hv-passthrough": True}]


@pytest.mark.parametrize(("arch", "machine", "cells"), [
    ("x86_64", "pc-q35-7.2", True), ("aarch64", "virt-7.2", True), ("ppc64", "pseries-7.2", False),
    ("ppc64", "pseries-11.1", True), ("s390x", "s390-ccw-virtio-11.1", False),
])  # fmt: skip
def test_memory_that_can_be_plugged_in_has_a_numa_cell(arch: str, machine: str, cells: bool) -> None:
    """libvirt 12.8 adds one; a guest that was described without one keeps none."""
    dimm = "<memory model='dimm'><target><size unit='MiB'>256</size></target></memory>"
    inside = f"<vcpu>2</vcpu><maxMemory slots='1' unit='GiB'>1</maxMemory><devices>{dimm * (arch != 's390x')}</devices>"
    made = guest(inside, memory="512", arch=arch, machine=machine)
    first = reconcile(made, None).tree
    assert bool(first.numa) is cells
    assert [place.node.value("node") for place in first.places if place.node.driver == "pc-dimm"] in (
        [],
        [0 if cells else None],
    )
    if cells:
        assert first.numa["nodes"] == [{"id": 0, "cpus": "0-1", "memory": 256 * 1024**2, "memdev": "ram-node0"}]
        older = replace(first, numa={}, applied={})
        assert not reconcile(made, older).tree.numa


def test_smbios_blocks_that_say_nothing_are_none() -> None:
    empty = "<bios/><system><entry name='sku'/></system><baseBoard/><chassis/><oemStrings/>"
    said = "<baseBoard><entry name='serial'>b</entry></baseBoard><chassis><entry name='serial'>c</entry></chassis>"
    info = "<sysinfo type='smbios'>{}</sysinfo>"
    mode = "<smbios mode='sysinfo'/>"
    assert "-smbios" not in words(guest(info.format(empty), os=mode))
    argv = words(guest(info.format(said), os=mode))
    assert "-smbios type=2,manufacturer=,serial=b -smbios type=3,manufacturer=,serial=c" in argv


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<cell memory='256' unit='MiB' memAccess='shared' discard='yes'/>", '"discard-data": true'),
        ("<cell memory='256' unit='MiB' discard='yes'/>", '"memory-backend-ram", "id": "ram-node0", "size": 268435456}'),
    ],
)
def test_the_memory_of_a_cell(inside: str, expected: str) -> None:
    assert expected in words(guest(f"<maxMemory slots='1' unit='GiB'>1</maxMemory><cpu><numa>{inside}</numa></cpu>"))


def test_threads_that_fill_memory_run_where_it_is() -> None:
    backing = "<memoryBacking><allocation mode='immediate' threads='2'/></memoryBacking>"
    argv = words(guest(f"{backing}<numatune><memory mode='strict' nodeset='0'/></numatune>"))
    assert '-object {"qom-type": "thread-context", "id": "tc-pc.ram", "node-affinity": [0]} -object' in argv
    assert '"prealloc-context": "tc-pc.ram"' in argv


def test_an_unknown_acpi_table_is_refused() -> None:
    with pytest.raises(InputError, match="unknown type 'rawset'"):
        words(guest("<os><acpi><table type='rawset'>/t</table></acpi></os>"))


def test_shared_memory_of_a_cell_is_a_file_that_others_map() -> None:
    """Of its own cell alone; and <access> counts for all where there is no <source>."""
    cells = "<cell id='4' memory='1' unit='GiB' memAccess='shared'/><cell id='2' memory='1' unit='GiB'/>"
    numa = f"<cpu><numa>{cells}</numa></cpu>"
    argv = words(guest(f"<memory unit='GiB'>2</memory>{numa}"))
    file = (
        '{"qom-type": "memory-backend-file", "id": "ram-node4", "mem-path": "/dev/shm", "size": 1073741824, "share": true}'
    )
    assert file in argv
    assert '{"qom-type": "memory-backend-ram", "id": "ram-node2", "size": 1073741824}' in argv
    whole = words(guest("<memoryBacking><access mode='shared'/></memoryBacking>"))
    assert (
        '"mem-path": "/dev/shm", "size": 268435456, "x-use-canonical-path-for-ramblock-id": false, "share": true' in whole
    )


def test_memory_of_pseries_is_whole_blocks() -> None:
    """256 MiB each: all of it, a cell, the maximum."""
    machine = "<os><type arch='ppc64' machine='pseries-7.2'>hvm</type></os>"
    made = guest_from_bytes(
        f"<domain type='qemu'><name>p</name><memory unit='KiB'>219136</memory>"
        f"<maxMemory slots='2' unit='MiB'>1000</maxMemory>{machine}</domain>".encode(),
        "p.xml",
    )
    assert sections(made)["memory"] == {"size": 256 * 1024**2, "slots": 2, "max": 1024 * 1024**2}
    cells = "<cpu><numa><cell memory='1' unit='KiB'/><cell memory='300' unit='MiB'/></numa></cpu>"
    numa = guest_from_bytes(
        f"<domain type='qemu'><name>p</name><memory unit='MiB'>301</memory>{cells}{machine}</domain>".encode(), "p.xml"
    )
    assert [node["memory"] for node in sections(numa)["numa"]["nodes"]] == [256 * 1024**2, 512 * 1024**2]


# --- what QEMU is told ---------------------------------------------------------------------------------------------


def test_the_description_decides_over_the_xml() -> None:
    tree = Tree(cpu={"model": "Haswell", "vcpus": 2, "topology": {"sockets": 1, "cores": 2, "threads": 1}})
    argv = platform_argv(guest("<vcpu>1</vcpu>"), tree, rehearse=True)
    assert argv[argv.index("-cpu") + 1] == "Haswell"
    assert argv[argv.index("-smp") + 1] == "2,sockets=1,cores=2,threads=1"


def test_the_clock_starts_where_the_xml_says() -> None:
    assert "-rtc base=2030-01-02T13:00:00" in words(guest("<clock offset='variable' adjustment='3600'/>"))
    assert "-rtc base=localtime,driftfix=slew" in words(
        guest("<clock offset='localtime'><timer name='rtc' tickpolicy='catchup'/></clock>")
    )


def test_a_kvm_guest_is_rehearsed_without_kvm() -> None:
    made = guest("<cpu mode='host-passthrough'/>", type="kvm")
    assert "-accel tcg -cpu max" in words(made, rehearse=True)


def test_a_kvm_guest_without_kvm_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != "/dev/kvm" and Path(path).exists())
    with pytest.raises(MdtoolError, match="needs /dev/kvm") as caught:
        platform_argv(guest(type="kvm"), Tree())
    assert caught.value.remedy
    assert "-accel kvm" in " ".join(platform_of(guest(type="kvm"), Tree(), printing=True).words)


def test_firmware_files_are_the_host_s_and_their_kind_is_the_guest_s(tmp_path: Path) -> None:
    loader = "<loader type='pflash' readonly='yes'>/fw/CODE.fd</loader><nvram template='/fw/VARS.fd'>/guests/g.fd</nvram>"
    made = guest(os=loader)
    assert sections(made)["firmware"] == {"kind": "pflash"}
    platform = platform_of(made, Tree())
    text = " ".join(platform.words)
    assert '"filename": "/fw/CODE.fd"' in text
    assert "pflash0=pflash0,pflash1=pflash1" in text
    assert [(copy.source, copy.target) for copy in platform.copies] == [("/fw/VARS.fd", "/guests/g.fd")]
    assert "/fw/" not in words(made, rehearse=True)
    assert "pflash0=pflash0" in words(made, rehearse=True)


def test_efi_is_chosen_from_qemu_s_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def descriptor(name: str, *features: str, glob: str = "pc-q35-*") -> None:
        row = {
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": {"filename": f"/fw/{name}.code", "format": "raw"},
                "nvram-template": {"filename": f"/fw/{name}.vars", "format": "raw"},
            },
            "targets": [{"architecture": "x86_64", "machines": [glob]}],
            "features": list(features),
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(row))

    descriptor("10-other", glob="pc-i440fx-*")
    descriptor("20-secure", "secure-boot", "requires-smm", "enrolled-keys")
    descriptor("30-plain")
    (tmp_path / "25-broken.json").write_text("{")
    monkeypatch.setattr("mdtool.guest.platform.firmware.DESCRIPTORS", (tmp_path,))
    efi = guest_from_bytes(
        b"<domain type='qemu'><name>g</name><memory>1</memory><os firmware='efi'>"
        b"<type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os></domain>",
        "guest.xml",
    )
    assert "/fw/30-plain.code" in words(efi)
    secure = guest_from_bytes(
        b"<domain type='qemu'><name>g</name><memory>1</memory><os firmware='efi'>"
        b"<type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader secure='yes'/></os></domain>",
        "guest.xml",
    )
    assert "/fw/20-secure.code" in words(secure)
    assert "property=secure,value=on" in words(secure)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(MdtoolError, match="no firmware"):
        words(efi)


#: one guest with nearly everything that QEMU can check by starting
EVERYTHING = """
<vcpu current='2'>4</vcpu><maxMemory slots='4' unit='GiB'>4</maxMemory>
<cpu mode='custom'><model>Haswell</model><topology sockets='1' dies='2' cores='2' threads='1'/>
<feature name='pclmuldq' policy='require'/><feature name='tsc_adjust' policy='disable'/><cache mode='emulate' level='3'/>
<numa><cell id='0' cpus='0-1' memory='128' unit='MiB'><distances><sibling id='0' value='10'/><sibling id='1' value='21'/>
</distances></cell><cell id='1' cpus='2-3' memory='128' unit='MiB'/></numa></cpu>
<features><acpi/><apic eoi='off'/><smm state='on'><tseg unit='MiB'>16</tseg></smm><vmport state='off'/><pmu state='off'/>
<pvspinlock state='on'/><kvm><hidden state='on'/><hint-dedicated state='off'/></kvm><hyperv><relaxed state='on'/>
<vapic state='on'/><spinlocks state='on' retries='4096'/><vpindex state='on'/><runtime state='on'/><synic state='on'/>
<stimer state='on'><direct state='off'/></stimer><reset state='on'/><vendor_id state='on' value='mdtool'/>
<frequencies state='on'/><reenlightenment state='on'/><tlbflush state='on'/><ipi state='on'/></hyperv></features>
<clock offset='variable' adjustment='60'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>
<timer name='hpet' present='no'/><timer name='hypervclock' present='yes'/></clock>
<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>
<sysinfo type='smbios'><bios><entry name='vendor'>A, B</entry></bios><system><entry name='sku'>S</entry></system>
<baseBoard><entry name='serial'>1</entry></baseBoard><chassis><entry name='asset'>2</entry></chassis>
<oemStrings><entry>one, two</entry><entry>three</entry></oemStrings></sysinfo>
<sysinfo type='fwcfg'><entry name='opt/org.example/x'>a,b</entry></sysinfo>
"""


def test_qemu_takes_all_of_it(qemu: str) -> None:
    made = guest(EVERYTHING, os="<bootmenu enable='yes' timeout='3000'/><bios rebootTimeout='10'/><smbios mode='sysinfo'/>")
    argv = [qemu, *platform_argv(made, Tree(), rehearse=True)]
    hpet, cpus, memory, uuid, tseg = asked(
        argv,
        {"execute": "qom-get", "arguments": {"path": "/machine", "property": "hpet"}},
        {"execute": "query-hotpluggable-cpus"},
        {"execute": "query-memdev"},
        {"execute": "query-uuid"},
        {"execute": "human-monitor-command", "arguments": {"command-line": "info numa"}},
    )
    assert hpet is False
    assert [("qom-path" in cpu, cpu["props"]["die-id"]) for cpu in cpus] == [(False, 1), (False, 1), (True, 0), (True, 0)]
    assert {row["id"]: row["size"] for row in memory} == {"ram-node0": 134217728, "ram-node1": 134217728}
    assert uuid == {"UUID": "12345678-1234-1234-1234-123456789abc"}
    assert "2 nodes" in tseg


def test_qemu_takes_hmat(qemu: str) -> None:
    (memory,) = asked([qemu, *platform_argv(guest(HMAT), Tree(), rehearse=True)], {"execute": "query-memdev"})
    assert len(memory) == 2


def test_qemu_takes_null_flash_of_the_right_size(qemu: str) -> None:
    made = guest(os="<loader type='pflash' readonly='yes'>/no/CODE.fd</loader><nvram>/no/VARS.fd</nvram>")
    (flash,) = asked(
        [qemu, *platform_argv(made, Tree(), rehearse=True)],
        {"execute": "qom-get", "arguments": {"path": "/machine/system.flash0", "property": "num-blocks"}},
    )
    assert flash == 3653632 // 4096


# --- machine types -------------------------------------------------------------------------------------------------


def test_an_alias_is_the_versioned_type(qemu: str) -> None:
    found = machines.machine_of(guest(machine="q35"))
    assert found.name.startswith("pc-q35-")
    assert found.ram == "pc.ram"
    assert machines.machine_of(guest(machine="pc")).name.startswith("pc-i440fx-")


def test_a_second_run_asks_no_qemu(qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machines.machines_of.cache_clear()
    first = machines.machines_of(qemu)
    machines.machines_of.cache_clear()
    monkeypatch.setattr("subprocess.run", None)
    assert machines.machines_of(qemu) == first
    for kept in (tmp_path / "mdtool").iterdir():
        kept.write_text("{")
    machines.machines_of.cache_clear()
    with pytest.raises(TypeError):  # a damaged cache is asked anew
        machines.machines_of(qemu)


def test_another_binary_is_asked_anew(qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = tmp_path / "qemu"
    script.write_text(f'#!/bin/sh\nexec {qemu} "$@"\n')
    script.chmod(0o755)
    machines.machines_of.cache_clear()
    assert "q35" in machines.machines_of(str(script)).machines
    script.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    machines.machines_of.cache_clear()
    with pytest.raises(QemuError, match="broken"):
        machines.machines_of(str(script))


def test_an_unknown_machine_is_an_error_with_choices(qemu: str) -> None:
    with pytest.raises(MdtoolError, match="quantum") as caught:
        machines.machine_of(guest(machine="quantum"))
    assert "pc-i440fx-7.2" in (caught.value.expected or "")


def test_a_versioned_type_needs_no_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    machines._on_path.cache_clear()
    try:
        assert machines.machine_of(guest(machine="pc-q35-9.0")).ram == "pc.ram"
        with pytest.raises(MdtoolError, match="not installed"):
            machines.machine_of(guest(machine="q35"))
    finally:
        machines._on_path.cache_clear()


@pytest.mark.usefixtures("older_libvirt")
def test_launch_security_is_described_and_left_to_libvirt() -> None:
    xml = "<launchSecurity type='sev' kernelHashes='yes'><cbitpos>47</cbitpos><policy>0x0003</policy></launchSecurity>"
    report = Report()
    found = sections_from_guest(guest(xml), report)
    assert not report.errors
    assert found["features"] == {"launch_security": {"type": "sev", "policy": 3, "kernel-hashes": True}}
    with pytest.raises(InputError, match="secure processor") as raised:
        platform_argv(guest(xml), Tree())
    assert raised.value.remedy == "start the guest with --via libvirt"
    assert platform_argv(guest(xml), Tree(), rehearse=True)
