"""<memory>, <maxMemory>, <memoryBacking>, <numatune>, the NUMA cells: ``-m``, ``-object memory-backend-*``, ``-numa``.

The sections:

    memory: {size: 2147483648, slots: 16, max: 1099511627776}     # bytes
    numa:
      nodes: [{id: 0, cpus: 0-1, memory: 1073741824, memdev: ram-node0}]
      # and, for ACPI's HMAT, a node's initiator, links and caches, in the words of -numa hmat-lb and hmat-cache
      distances: [{src: 0, dst: 1, val: 21}]
    objects:
      pc.ram: {type: memory-backend-ram, size: 2147483648}

The ids of the memory objects name RAM blocks in the migration stream, so they are the guest's; whether a file, a memfd
or anonymous memory is behind one is the host's, and the description says ``memory-backend-ram`` for all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from mdtool.commandline.tcg import TCG_MEMORY
from mdtool.errors import InputError, Report, choices
from mdtool.guest.choices import has_added_cell
from mdtool.guest.machines import Machine, machine_of
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.platform.units import KIB, MIB, bytes_of, number, rounded
from mdtool.guest.xml import Element
from mdtool.machine.tree import Tree
from mdtool.machine.values import numbers_of, ranges
from mdtool.records import dataclass

Section = dict[str, Any]
RAM = "memory-backend-ram"
PAGE = os.sysconf("SC_PAGE_SIZE")  # asking for pages of that size is asking for ordinary memory
FILES = "/dev/shm"  # a folder: QEMU makes an unnamed file there, which ends with QEMU


def memory_sections(guest: Guest, _report: Report) -> dict[str, Section]:
    """The sections ``memory``, ``numa`` and ``objects``."""
    domain = guest.domain
    machine = machine_of(guest)
    cells = [_cell(cell, index, guest.arch) for index, cell in enumerate(domain.all("cpu/numa/cell"))]
    if has_added_cell(guest):
        cells = [{"id": 0, "memory": _initial(guest)}]
    _fill(cells, number(domain, "vcpu") or 1)
    size = sum(cell["memory"] for cell in cells) if cells else _initial(guest)
    memory: Section = {"size": size}
    most = domain.first("maxMemory")
    if most is not None:
        slots = number(most, "@slots")
        if slots:
            memory["slots"] = slots
        memory["max"] = rounded(bytes_of(most.text, most.get("@unit"), most), guest.arch)
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
    distances = list(_distances(domain, [cell["id"] for cell in cells]))
    if distances:
        sections["numa"]["distances"] = distances
    links = list(_links(domain))
    for cell in cells:
        cell |= {"links": [row for target, row in links if target == cell["id"]], "caches": _caches(domain, cell["id"])}
    if any(cell["links"] or cell["caches"] for cell in cells):
        for cell in cells:
            cell["initiator"] = _initiator(cell, cells)
    by_id = sorted(cells, key=lambda cell: int(cell["id"]))
    sections["numa"]["nodes"] = [{key: value for key, value in cell.items() if value != []} for cell in by_id]
    objects = {cell["memdev"]: {"type": RAM, "size": cell["memory"]} for cell in by_id if "memdev" in cell}
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
        whole = name == machine_of(guest).ram
        if not str(facts.get("type", "")).startswith("memory-backend") or (whole and numa.get("nodes")):
            continue  # beside nodes without memory of their own, QEMU makes the whole of it
        node = next((node["id"] for node in numa.get("nodes", ()) if node.get("memdev") == name), None)
        words += memory_words(memory_object(guest, Piece(name, facts["size"], node, whole=whole), rehearse=rehearse))
    for node in numa.get("nodes", ()):
        behind = f"memdev={node['memdev']}" if "memdev" in node else f"mem={node['memory'] // MIB}"
        cpus = [f"cpus={cpus}" for cpus in str(node["cpus"]).split(",")] if node.get("cpus") else []
        starts = [f"initiator={node['initiator']}"] if "initiator" in node else []
        said = ["node", f"nodeid={node['id']}", *cpus, *starts, *([behind] if node["memory"] else [])]
        words += ["-numa", ",".join(said)]
    for row in numa.get("distances", ()):
        words += ["-numa", f"dist,src={row['src']},dst={row['dst']},val={row['val']}"]
    for kind, keys, name in (("hmat-lb", ("initiator", "target"), "links"), ("hmat-cache", ("node-id",), "caches")):
        for node in numa.get("nodes", ()):
            for row in node.get(name, ()):
                facts = {**dict.fromkeys(keys, node["id"]), **row}
                words += ["-numa", ",".join([kind, *(f"{key}={value}" for key, value in facts.items())])]
    for count, row in enumerate(sections.get("features", {}).get("options", {}).get("object", ())):
        words += ["-object", json.dumps({**row, "id": f"gi{count}"})]
    return words


def with_initiators(sections: dict[str, Section], tree: Tree, wanted: Iterable[Wanted]) -> dict[str, Section]:
    """The sections with what ACPI's SRAT shows of the host's devices, which it knows by the ids that ``tree`` has."""
    rows = [
        {"qom-type": "acpi-generic-initiator", "pci-dev": place.node.id, "node": node}
        for want in wanted
        if "nodes" in want.facts and want.driver.startswith("vfio-pci") and want.facts.get("type") != "mdev"
        for place in tree.places
        if place.node.origin == want.origin
        for node in want.facts["nodes"]
    ]
    if not rows:
        return sections
    from mdtool.commandline.sections import joined  # few guests have one

    return joined(sections, {"features": {"options": {"object": rows}}})


@dataclass(frozen=True)
class Piece:
    """A piece of a guest's memory.

    ``node`` is its NUMA cell; ``whole`` says that it is all of the guest's memory, whose RAM block is then called as
    older machine types called it; ``path`` is a file of its own (nvdimm); ``element`` holds a <source> of its own.
    """

    name: str
    size: int
    node: int | None = None
    whole: bool = False
    path: str | None = None
    element: Element | None = None


def memory_object(guest: Guest, piece: Piece, *, rehearse: bool = False) -> Section:
    """The ``-object`` of a piece of memory as <memoryBacking> wants it behind."""
    if rehearse:  # memory that the host need not have
        return {"qom-type": RAM, "id": piece.name, "size": piece.size, "reserve": False}
    backing = guest.domain.first("memoryBacking")
    own = piece.element if piece.element is not None else _cell_of(guest, piece.node)
    said = "@access" if piece.element is not None else "@memAccess"
    access = (own.get(said) if own is not None else None) or guest.domain.get("memoryBacking/access/@mode")
    discards = (own.get("@discard") if own is not None else None) or (
        "yes" if guest.domain.first("memoryBacking/discard") is not None else None
    )
    pages = _hugepages(guest, backing, piece.node, piece.element) if piece.path is None else None
    kind = guest.domain.get("memoryBacking/source/@type") or "anonymous"
    if piece.path is not None or (pages is not None and kind != "memfd") or (access is not None and kind == "anonymous"):
        kind = "file"  # access: other processes map a file, and nothing else
    file = {"mem-path": piece.path or (FILES if pages is None else _folder(pages or None))} if kind == "file" else {}
    huge: Section = {"prealloc": True} if pages is not None else {}
    if kind == "memfd" and pages is not None:
        huge = {"hugetlb": True, **({"hugetlbsize": pages} if pages else {}), **huge}
    made: Section = {"qom-type": _BACKENDS.get(kind, RAM), "id": piece.name, **file, "size": piece.size, **huge}
    if piece.path is None:
        made |= _host_nodes(guest, piece.node)
    if piece.whole and kind != "anonymous":
        made["x-use-canonical-path-for-ramblock-id"] = False
    if access is not None:
        made["share"] = access == "shared"
    if discards == "yes" and kind == "file":
        made["discard-data"] = True
    if guest.domain.get("memoryBacking/allocation/@mode") == "immediate":
        made["prealloc"] = True
    if threads := number(guest.domain, "memoryBacking/allocation/@threads"):
        made["prealloc-threads"] = threads
    return made


#: <source type=> of <memoryBacking> -> QEMU's type of object
_BACKENDS = {"anonymous": RAM, "file": "memory-backend-file", "memfd": "memory-backend-memfd"}


def memory_words(made: Section) -> list[str]:
    """``-object`` of a piece of memory, behind the one of the threads that fill it, which run where its memory is."""
    context = []
    if {"prealloc", "prealloc-threads", "host-nodes"} <= made.keys():
        name = f"tc-{made['id']}"
        context = ["-object", json.dumps({"qom-type": "thread-context", "id": name, "node-affinity": made["host-nodes"]})]
        made = {**made, "prealloc-context": name}
    return [*context, "-object", json.dumps(made)]


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
    return rounded(total, guest.arch)


def _cell(cell: Element, index: int, arch: str) -> Section:
    number_of = number(cell, "@id")
    cpus = cell.get("@cpus")
    return {
        "id": index if number_of is None else number_of,
        **({"cpus": ranges(numbers_of(cpus)) or cpus} if cpus else {}),
        "memory": rounded(bytes_of(cell.get("@memory") or "0", cell.get("@unit"), cell), arch),
    }


def _fill(cells: Sequence[Section], vcpus: int) -> None:
    """Give the first cell the CPUs that no cell has, as libvirt does."""
    left = set(range(min(vcpus, 1 << 16))).difference(*(numbers_of(str(cell.get("cpus", ""))) for cell in cells))
    if cells and left:
        first = min(cells, key=lambda cell: int(cell["id"]))
        cpus = ranges(sorted(left.union(numbers_of(str(first.get("cpus", ""))))))
        first |= {"cpus": cpus, "memory": first.pop("memory")}


def _cells_by_size(guest: Guest, machine: Machine) -> bool:
    """Whether libvirt gives the cells by size (``mem=``): old machine types, with no memory back end given."""
    domain = guest.domain
    chosen = domain.first("memoryBacking") or domain.first("numatune/memnode") or domain.first("maxMemory")
    return machine.numa_mem and chosen is None


def _distances(domain: Element, ids: Sequence[int]) -> Iterator[Section]:
    """From each cell to each, where one cell says any: what it leaves out is as the way back, 10 to itself, else 20."""
    given = {
        (source, number(sibling, "@id")): number(sibling, "@value")
        for source, cell in zip(ids, domain.all("cpu/numa/cell"), strict=False)
        for sibling in cell.all("distances/sibling")
    }
    for source, target in product(sorted(ids), repeat=2) if given else ():
        value = given.get((source, target), given.get((target, source), 10 if source == target else 20))
        yield {"src": source, "dst": target, "val": value}


#: libvirt's numbers and words of the memory hierarchy -> QEMU's
_LEVELS = {None: "memory", "0": "memory", "1": "first-level", "2": "second-level", "3": "third-level"}
_POLICIES = {"writeback": "write-back", "writethrough": "write-through", "none": "none"}
_ASSOCIATIVITIES = {"direct": "direct", "full": "complex", "none": "none"}


def _chosen(table: Mapping[Any, str], text: str | None, element: Element, what: str) -> str:
    if text not in table:
        known = choices(str(key) for key in table if key is not None)
        raise InputError(f"unknown {what} {text!r}", at=element.position, expected=known, rule="hmat")
    return table[text]


def _links(domain: Element) -> Iterator[tuple[int | None, Section]]:
    """How far memory is from the CPUs: (cell of the memory, a row of ACPI's HMAT in -numa hmat-lb's words)."""
    for link in domain.first("cpu/numa/interconnects") or ():
        if link.tag not in ("latency", "bandwidth"):
            continue
        value = number(link, "@value")
        yield (
            number(link, "@target"),
            {
                "initiator": number(link, "@initiator"),
                "hierarchy": _chosen(_LEVELS, link.get("@cache"), link, "cache level"),
                "data-type": f"{link.get('@type') or 'access'}-{link.tag}",
                link.tag: value
                if link.tag == "latency"
                else f"{bytes_of(link.get('@value'), link.get('@unit'), link) // KIB}K",
            },
        )


def _caches(domain: Element, id: int) -> list[Section]:
    """Caches in front of a cell's memory: rows of ACPI's HMAT, in -numa hmat-cache's words."""
    found = []
    for index, cell in enumerate(domain.all("cpu/numa/cell")):
        own = number(cell, "@id")
        for cache in cell.all("cache") if (index if own is None else own) == id else ():
            size, line = (
                bytes_of(cache.get(f"{name}/@value"), cache.get(f"{name}/@unit"), cache) for name in ("size", "line")
            )
            found.append(
                {
                    "size": f"{size // KIB}K",
                    "level": number(cache, "@level"),
                    "associativity": _chosen(_ASSOCIATIVITIES, cache.get("@associativity"), cache, "associativity"),
                    "policy": _chosen(_POLICIES, cache.get("@policy"), cache, "policy"),
                    "line": line,
                }
            )
    return found


def _initiator(cell: Section, cells: list[Section]) -> Any:
    """The cell whose CPUs are nearest: its own, the one with most bandwidth to it, or the first that has any."""
    if cell.get("cpus"):
        return cell["id"]
    wide = [link for link in cell["links"] if "bandwidth" in link]
    if wide:
        return max(wide, key=lambda link: int(link["bandwidth"][:-1]))["initiator"]
    return next((other["id"] for other in cells if other.get("cpus")), cell["id"])


def _host_nodes(guest: Guest, node: int | None) -> Section:
    """From which of the host's nodes a cell's memory comes: <memnode>, or <memory> for all."""
    tune = guest.domain.first("numatune")
    wish = None
    for row in tune or ():
        if row.tag == "memory" and wish is None:
            wish = row
        if row.tag == "memnode" and number(row, "@cellid") == (node or 0):
            wish = row
    policy = {"strict": "bind", None: "bind", "preferred": "preferred", "interleave": "interleave"}
    if wish is None or not wish.get("@nodeset") or wish.get("@mode") not in policy:
        return {}  # restrictive is a matter of cgroups
    return {"host-nodes": numbers_of(wish.get("@nodeset") or ""), "policy": policy[wish.get("@mode")]}


def _cell_of(guest: Guest, node: int | None) -> Element | None:
    """The <cell> of a NUMA node; None where the memory is of none."""
    for index, cell in enumerate(guest.domain.all("cpu/numa/cell")):
        own = number(cell, "@id")
        if (index if own is None else own) == node:
            return cell
    return None


def _hugepages(guest: Guest, backing: Element | None, node: int | None, element: Element | None) -> int | None:
    """The size of the pages in bytes, 0 for the host's default; None for ordinary pages."""
    own = element.first("source/pagesize") if element is not None else None
    if own is not None:
        size = bytes_of(own.text, own.get("@unit"), own)
        return size if size != PAGE else None
    pages = backing.first("hugepages") if backing is not None else None
    if pages is None:
        return None
    chosen = None
    for page in pages.all("page"):
        if page.get("@nodeset") is None or (node or 0) in numbers_of(page.get("@nodeset") or ""):
            chosen = page
    if chosen is None:
        return 0 if pages.first("page") is None else None
    size = bytes_of(chosen.get("@size"), chosen.get("@unit"), chosen)
    return size if size != PAGE else None


def _folder(size: int | None) -> str:
    """libvirt's and systemd's mount of the default page size, and the one of another size beside it."""
    if size is None or size == 2 * MIB:
        return "/dev/hugepages"
    return f"/dev/hugepages{size // (1024 * MIB)}G" if size % (1024 * MIB) == 0 else f"/dev/hugepages{size // MIB}M"
