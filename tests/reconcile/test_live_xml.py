"""The XML of a guest and ``virsh dumpxml`` of the same guest while it runs are one and the same to a description."""

from __future__ import annotations

from dataclasses import replace

from support_sequences import parsed

from mdtool.machine.document import tree_with
from mdtool.machine.tree import ARGUMENTS, MONITOR
from mdtool.reconcile import reconcile

INACTIVE = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><cpu mode='custom' match='exact' check='none'>
<model fallback='allow'>Nehalem</model></cpu><devices/></domain>"""
#: what libvirt 9.0 makes of it once the guest runs
LIVE = INACTIVE.replace("type='qemu'", "type='qemu' id='7'").replace("check='none'", "check='full'").replace(
    "</cpu>", "<feature policy='require' name='hypervisor'/></cpu>"
)  # fmt: skip


def test_there_and_back_changes_nothing() -> None:
    first = reconcile(parsed(INACTIVE)).tree
    live = reconcile(parsed(LIVE), first)
    assert not live.plan and "hypervisor" in str(live.warnings[0])
    back = reconcile(parsed(INACTIVE), live.tree)
    assert not back.plan and not back.warnings and back.tree == first


def test_what_the_running_guest_lacks_is_no_request() -> None:
    feature = "<feature policy='{}' name='pcid'/></cpu>"
    asked, lacking = (xml.replace("</cpu>", feature.format(p)) for xml, p in ((INACTIVE, "require"), (LIVE, "disable")))
    first = reconcile(parsed(asked)).tree
    live = reconcile(parsed(lacking), first)
    assert not live.plan and live.tree.cpu["features"] == {"pcid": True}


def test_there_and_back_after_a_dump_changes_nothing() -> None:
    """QEMU's arguments say what was asked for."""
    dumped = replace(reconcile(parsed(INACTIVE)).tree, applied={}, source=(MONITOR, ARGUMENTS))
    live = reconcile(parsed(LIVE), dumped)
    assert "features" not in live.tree.cpu and not reconcile(parsed(INACTIVE), live.tree).plan


def test_there_and_back_after_a_dump_without_arguments_changes_nothing() -> None:
    """libvirt runs the guest on another host: what was asked for is unknown, and what was found is kept."""
    dumped = replace(reconcile(parsed(INACTIVE)).tree, applied={}, source=(MONITOR,))
    live = reconcile(parsed(LIVE), dumped)
    assert not live.plan and live.tree.cpu["features"] == {"hypervisor": True}
    for xml in (INACTIVE, LIVE):
        again = reconcile(parsed(xml), live.tree)
        assert not again.plan and again.tree == live.tree
    kept = reconcile(parsed(INACTIVE), dumped).tree
    assert reconcile(parsed(LIVE), kept).tree == kept


def test_a_feature_added_by_hand_survives_the_xml_of_a_running_guest() -> None:
    described = reconcile(parsed(INACTIVE)).tree
    by_hand = replace(described, cpu={**described.cpu, "features": {"hypervisor": True}})
    assert reconcile(parsed(INACTIVE), reconcile(parsed(LIVE), by_hand).tree).tree == by_hand


def test_a_feature_that_somebody_asks_for_is_taken() -> None:
    first = reconcile(parsed(INACTIVE)).tree
    asked = reconcile(parsed(LIVE.replace(" id='7'", "")), first)
    assert asked.plan and asked.tree.cpu["features"] == {"hypervisor": True}


def test_where_memory_lies_is_said_of_a_running_guest_alone() -> None:
    slot = "<devices><memory model='dimm'><target><size unit='MiB'>32</size></target>{}</memory></devices>"
    slots = INACTIVE.replace("<memory ", "<maxMemory slots='2' unit='GiB'>1</maxMemory><memory ")
    kept, live = (
        slots.replace("<devices/>", slot.format(f"<address type='dimm' slot='0'{base}/>"))
        for base in ("", " base='0x80000000'")
    )
    first = reconcile(parsed(live)).tree
    back = reconcile(parsed(kept), first)
    assert not back.plan and back.tree == first


def test_what_libvirt_gives_no_id_is_known_by_its_kind() -> None:
    guest = INACTIVE.replace("<devices/>", "<features><acpi/><vmcoreinfo state='on'/></features><genid/><devices/>")
    tree = reconcile(parsed(guest)).tree
    left = {place.name: {"origin": None, "applied": {}, "id": None} for place in tree.places if place.bus is None}
    assert len(left) == 2
    assert not reconcile(parsed(guest), replace(tree_with(tree, left), applied={})).plan


HOST_MODEL = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><cpu mode='host-model'/><devices/></domain>"""


def test_a_host_model_is_what_libvirt_made_of_it() -> None:
    """Neither a dump, nor the running guest's XML before it, makes the definition that libvirt keeps a change."""
    running = reconcile(parsed(INACTIVE)).tree
    dumped = replace(running, applied={}, cpu={**running.cpu, "model": "EPYC", "features": {"vme": False}})
    assert reconcile(parsed(HOST_MODEL)).tree.cpu["model"] == "host"
    kept = reconcile(parsed(HOST_MODEL), dumped)
    assert not kept.plan and kept.tree.cpu["model"] == "EPYC" and kept.tree.cpu["features"] == {"vme": False}
    live = reconcile(parsed(INACTIVE), running)
    after = reconcile(parsed(HOST_MODEL), live.tree)
    assert not after.plan and after.tree.cpu["model"] == "Nehalem"
    assert not reconcile(parsed(HOST_MODEL), after.tree).plan
    named = reconcile(parsed(INACTIVE.replace("Nehalem", "Westmere")), after.tree)
    assert named.plan and named.tree.cpu["model"] == "Westmere"


NUMA = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><cpu mode='maximum'><numa>
<cell id='0' cpus='0' memory='32' unit='MiB'/><cell id='1' cpus='1' memory='32' unit='MiB'/><interconnects>
<latency initiator='0' target='0' type='access' value='5'/></interconnects></numa></cpu><devices/></domain>"""


def test_what_no_monitor_tells_of_numa_is_the_xml_s() -> None:
    whole = reconcile(parsed(NUMA)).tree
    rows = [{key: value for key, value in row.items() if key not in ("links", "initiator")} for row in whole.numa["nodes"]]
    dumped = replace(whole, applied={}, numa={**whole.numa, "nodes": rows})
    assert rows != whole.numa["nodes"]
    adopted = reconcile(parsed(NUMA), dumped)
    assert not adopted.plan and adopted.tree.numa == whole.numa
    other = reconcile(parsed(NUMA.replace("cpus='0'", "cpus='1'", 1).replace("id='1' cpus='1'", "id='1' cpus='0'")), dumped)
    assert other.plan  # the nodes themselves are known
