"""<memory>: DIMMs and other memory devices; the backends are the host's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mdtool.guest.choices import has_added_cell
from mdtool.guest.convert import number, switch
from mdtool.guest.host import carried, idle
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop
from mdtool.machine.values import uuid_from_text
from mdtool.records import replace

UNITS: Mapping[str, int] = {
    "b": 1, "bytes": 1, "KB": 10**3, "k": 2**10, "KiB": 2**10, "MB": 10**6, "M": 2**20, "MiB": 2**20, "GB": 10**9,
    "G": 2**30, "GiB": 2**30, "TB": 10**12, "T": 2**40, "TiB": 2**40, "PB": 10**15, "P": 2**50, "PiB": 2**50,
}  # fmt: skip


def size(context: ElementContext, path: str) -> int | None:
    """A size in bytes; libvirt's unit is KiB where the XML names none."""
    value = context.get(path)
    unit = context.get(f"{path}/@unit") or "KiB"
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", value) or unit not in UNITS:
        context.error(path, f"{path} is '{value} {unit}'", expected="a number and a unit", rule="value-valid")
        return None
    return int(value) * UNITS[unit]


def _shape(context: ElementContext, wanted: Wanted) -> Wanted | None:
    model = wanted.facts["choice"]
    if not wanted.driver:
        return None  # enclave memory belongs to the machine
    properties: dict[str, Any] = dict(wanted.properties)
    sizes = {
        "block-size": size(context, "target/block") if model == "virtio-mem" else None,
        "requested-size": size(context, "target/requested") if model == "virtio-mem" else None,
        "label-size": size(context, "target/label/size") if model == "nvdimm" else None,
    }
    properties |= {name: value for name, value in sizes.items() if value is not None}
    if wanted.address is not None and wanted.address.type == "dimm" and "base" in wanted.address.numbers:
        properties["addr"] = wanted.address["base"]
    if model == "nvdimm" and context.element.first("target/readonly") is not None:
        properties["unarmed"] = True
    if "node" in properties and model == "virtio-pmem":
        properties.pop("node")
    if model != "virtio-pmem" and "node" not in properties and has_added_cell(context.guest):
        properties["node"] = 0
    whole = size(context, "target/size") or 0
    facts = {**wanted.facts, "model": model, "size": whole}
    return replace(wanted, origin=f"{wanted.kind}/{model}/{whole}", properties=properties, facts=facts)


MEMORY = ElementRow(
    "memory",
    choose="@model",
    drivers={
        "dimm": "pc-dimm",
        "nvdimm": "nvdimm",
        "virtio-pmem": "virtio-pmem-*",
        "virtio-mem": "virtio-mem-*",
        "sgx-epc": "",
    },
    props={
        "node": Prop("target/node", number),
        "uuid": Prop("uuid", uuid_from_text, drivers=("nvdimm",)),
        "dynamic-memslots": Prop("target/@dynamicMemslots", switch, ("virtio-mem-*",)),
        "memaddr": Prop("target/address/@base", number, ("virtio-mem-*", "virtio-pmem-*")),
        **VIRTIO,
    },
    facts={"node": Prop("target/node", number)},
    alias={
        "dimm": "dimm",
        "nvdimm": "nvdimm",
        "virtio-pmem": "virtiopmem",
        "virtio-mem": "virtiomem",
        "sgx-epc": "sgx",
    },
    reads=(
        "target/size",
        "target/size/@unit",
        "target/block",
        "target/block/@unit",
        "target/requested",
        "target/requested/@unit",
        "target/label/size",
        "target/label/size/@unit",
        "target/readonly",
    ),
    host={
        "@access": carried("misc", "the backend"),
        "@discard": carried("misc", "the backend"),
        "source/*": carried("misc", "the backend"),
        "target/current": idle("what the guest has taken so far"),
        "target/current/@unit": idle("what the guest has taken so far"),
    },
    shape=_shape,
)
