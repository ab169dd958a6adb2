"""<memory>, <maxMemory>, <memoryBacking>, <numatune>, the NUMA cells: ``-m``, ``-object memory-backend-*``, ``-numa``.

The sections:

    memory: {size: 2147483648, slots: 16, max: 1099511627776}     # bytes
    numa:
      nodes: [{id: 0, cpus: 0-1, memory: 1073741824, memdev: ram-node0}]
      distances: [{src: 0, dst: 1, val: 21}]
    objects:
      pc.ram: {type: memory-backend-ram, size: 2147483648}

The ids of the memory objects name RAM blocks in the migration stream, so they are the guest's; whether a file, a memfd
or anonymous memory is behind one is the host's, and the description says ``memory-backend-ram`` for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mdtool.errors import InputError, Report
from mdtool.guest.machines import Machine, machine_of
from mdtool.guest.model import Guest
from mdtool.guest.platform.units import KIB, MIB, bytes_of, number, whole_mib
from mdtool.guest.xml import Element

Section = dict[str, Any]
RAM = "memory-backend-ram"
TCG_MEMORY = 512 * 1024**3  # TCG's x86 CPUs address 40 bits, and some of that is devices


def memory_sections(guest: Guest, _report: Report) -> dict[str, Section]:
    """The sections ``memory``, ``numa`` and ``objects``."""
    domain = guest.domain
    machine = machine_of(guest)
    cells = [_cell(cell, index) for index, cell in enumerate(domain.all("cpu/numa/cell"))]
    size = sum(cell["memory"] for cell in cells) if cells else _initial(guest)
    memory: Section = {"size": size}
    most = domain.first("maxMemory")
    if most is not None:
        slots = number(most, "@slots")
        if slots:
            memory["slots"] = slots
        memory["max"] = whole_mib(bytes_of(most.text, most.get("@unit"), most))
    sections: dict[str, Section] = {"memory": memory}
    if not cells:
        if machine.ram is not None:
            sections["objects"] = {machine.ram: {"type": RAM, "size": size}}
        return sections
    named = not _cells_by_size(guest, machine)
    for cell in cells:
        if named and cell["memory"]:
            cell["memdev"] = f"ram-node{cell['id']}"
    sections["numa"] = {"nodes": cells}
    distances = list(_distances(domain))
    if distances:
        sections["numa"]["distances"] = distances
    objects = {cell["memdev"]: {"type": RAM, "size": cell["memory"]} for cell in cells if "memdev" in cell}
    if objects:
        sections["objects"] = objects
    return sections


def memory_options(guest: Guest, sections: Mapping[str, Mapping[str, Any]], *, rehearse: bool) -> list[str]:
    """``-m``, the memory objects and ``-numa``; with ``rehearse`` every byte is anonymous memory."""
    memory, numa = sections["memory"], sections.get("numa", {})
    size = memory["size"]
    if "max" in memory:
        slots = [f"slots={memory['slots']}"] if "slots" in memory else []
        most = min(memory["max"], TCG_MEMORY) if rehearse else memory["max"]
        words = ["-m", ",".join([f"size={size // KIB}k", *slots, f"maxmem={most // KIB}k"])]
    else:
        words = ["-m", str(size // MIB) if size % MIB == 0 else f"size={size // KIB}k"]
    if guest.domain.first("memoryBacking/locked") is not None and not rehearse:
        words += ["-overcommit", "mem-lock=on"]
    for name, facts in sections.get("objects", {}).items():
        if not str(facts.get("type", "")).startswith("memory-backend"):
            continue
        whole = name == machine_of(guest).ram
        node = next((node["id"] for node in numa.get("nodes", ()) if node.get("memdev") == name), None)
        words += [
            "-object",
            json.dumps(memory_object(guest, name, facts["size"], node=node, whole=whole, rehearse=rehearse)),
        ]
    for node in numa.get("nodes", ()):
        behind = f"memdev={node['memdev']}" if "memdev" in node else f"mem={node['memory'] // MIB}"
        cpus = [f"cpus={cpus}" for cpus in str(node["cpus"]).split(",")] if node.get("cpus") else []
        words += ["-numa", ",".join(["node", f"nodeid={node['id']}", *cpus, *([behind] if node["memory"] else [])])]
    for row in numa.get("distances", ()):
        words += ["-numa", f"dist,src={row['src']},dst={row['dst']},val={row['val']}"]
    return words


def memory_object(
    guest: Guest,
    name: str,
    size: int,
    *,
    node: int | None = None,
    whole: bool = False,
    rehearse: bool = False,
    path: str | None = None,
    element: Element | None = None,
) -> Section:
    """The ``-object`` of a piece of memory as <memoryBacking> wants it behind.

    ``node`` is its NUMA cell; ``whole`` says that it is all of the guest's memory, whose RAM block is then called as
    older machine types called it; ``path`` is a file of its own (nvdimm); ``element`` holds a <source> of its own.
    """
    made: Section = {"qom-type": RAM, "id": name, "size": size}
    if rehearse:
        return made
    backing = guest.domain.first("memoryBacking")
    folder = path or _hugepages(guest, backing, node, element)
    kind = backing.get("source/@type") if backing is not None else None
    if folder is not None:
        made = {"qom-type": "memory-backend-file", "id": name, "mem-path": folder, "size": size}
        if path is None:
            made["prealloc"] = True
    elif kind == "file":
        made = {
            "qom-type": "memory-backend-file",
            "id": name,
            "mem-path": f"/var/lib/libvirt/qemu/ram/{name}",
            "size": size,
        }
    elif kind == "memfd":
        made = {"qom-type": "memory-backend-memfd", "id": name, "size": size}
    if whole and made["qom-type"] != RAM:
        made["x-use-canonical-path-for-ramblock-id"] = False
    if backing is not None:
        access = _cell_access(guest, node) or backing.get("access/@mode")
        if access is not None:
            made["share"] = access == "shared"
        if backing.first("discard") is not None and made["qom-type"] == "memory-backend-file":
            made["discard-data"] = True
        if backing.get("allocation/@mode") == "immediate":
            made["prealloc"] = True
        if made.get("prealloc") and (threads := number(backing, "allocation/@threads")):
            made["prealloc-threads"] = threads
    return made


def _initial(guest: Guest) -> int:
    """The memory that is there at the start: <memory> without the memory devices, which libvirt counts in."""
    holder = guest.domain.first("memory")
    if holder is None:
        raise InputError("a guest without <memory>", at=guest.domain.position, expected="<memory>", rule="memory")
    total = bytes_of(holder.text, holder.get("@unit"), holder)
    for device in guest.devices:
        size = device.first("target/size") if device.tag == "memory" else None
        if size is not None:
            total -= bytes_of(size.text, size.get("@unit"), size)
    if total <= 0:
        raise InputError(
            "the memory devices are all of <memory>, and nothing is left to start with",
            at=holder.position,
            expected="<memory> that counts the devices and more",
            rule="memory",
        )
    return whole_mib(total)


def _cell(cell: Element, index: int) -> Section:
    number_of = number(cell, "@id")
    cpus = cell.get("@cpus")
    return {
        "id": index if number_of is None else number_of,
        **({"cpus": cpus} if cpus else {}),
        "memory": whole_mib(bytes_of(cell.get("@memory") or "0", cell.get("@unit"), cell)),
    }


def _cells_by_size(guest: Guest, machine: Machine) -> bool:
    """Whether libvirt gives the cells by size (``mem=``): old machine types, with nothing said of their memory."""
    domain = guest.domain
    told = domain.first("memoryBacking") or domain.first("numatune/memnode") or domain.first("maxMemory")
    return machine.numa_mem and told is None


def _distances(domain: Element) -> Iterator[Section]:
    for index, cell in enumerate(domain.all("cpu/numa/cell")):
        source = number(cell, "@id")
        for sibling in cell.all("distances/sibling"):
            target, value = number(sibling, "@id"), number(sibling, "@value")
            yield {"src": index if source is None else source, "dst": target, "val": value}


def _cell_access(guest: Guest, node: int | None) -> str | None:
    cells = guest.domain.all("cpu/numa/cell")
    return next((cell.get("@memAccess") for i, cell in enumerate(cells) if (number(cell, "@id") or i) == node), None)


def _hugepages(guest: Guest, backing: Element | None, node: int | None, element: Element | None) -> str | None:
    """Where the pages come from, a folder of a hugetlbfs; None for ordinary pages."""
    own = element.first("source/pagesize") if element is not None else None
    if own is not None:
        return _folder(bytes_of(own.text, own.get("@unit"), own))
    pages = backing.first("hugepages") if backing is not None else None
    if pages is None:
        return None
    chosen = None
    for page in pages.all("page"):
        if page.get("@nodeset") is None or _within(node, page.get("@nodeset") or ""):
            chosen = page
    if chosen is None:
        return _folder(None) if pages.first("page") is None else None
    return _folder(bytes_of(chosen.get("@size"), chosen.get("@unit"), chosen))


def _within(node: int | None, ranges: str) -> bool:
    """Whether a cell (0 where the guest has none) is in ``0-1,4``."""
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and int(first) <= (node or 0) <= int(last or first):
            return True
    return False


def _folder(size: int | None) -> str:
    """libvirt's and systemd's mount of the default page size, and the one of another size beside it."""
    if size is None or size == 2 * MIB:
        return "/dev/hugepages"
    return f"/dev/hugepages{size // (1024 * MIB)}G" if size % (1024 * MIB) == 0 else f"/dev/hugepages{size // MIB}M"
