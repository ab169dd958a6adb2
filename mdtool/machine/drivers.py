"""Names of drivers: QEMU takes several for some, and shows one (the alias table of its qdev monitor)."""

from __future__ import annotations

from mdtool.text import pattern

_VIRTIO = ("9p", "balloon", "blk", "crypto", "gpu", "gpu-gl", "input-host", "iommu", "keyboard", "mouse", "net", "rng",
           "scsi", "serial", "sound", "tablet")  # fmt: skip
#: names that QEMU takes for a driver, and the driver
ALIASES = {
    "lsi": "lsi53c895a",
    "ahci": "ich9-ahci",
    "hda": "intel-hda",
    "e1000-82540em": "e1000",
    "ac97": "AC97",
    "es1370": "ES1370",
    "kvm-pci-assign": "pci-assign",
    **{f"virtio-{kind}": f"virtio-{kind}-pci" for kind in _VIRTIO},
}


def canonical_driver(name: str) -> str:
    """The name that QEMU shows.

    >>> canonical_driver("lsi")
    'lsi53c895a'
    """
    return ALIASES.get(name, name)


def same_driver(one: str, other: str) -> bool:
    """Whether QEMU takes two names for one driver; of CPUs, for one model.

    >>> same_driver("ahci", "ich9-ahci"), same_driver("EPYC-x86_64-cpu", "EPYC-v1-x86_64-cpu")
    (True, True)
    """
    if one == other or canonical_driver(one) == canonical_driver(other):
        return True
    kinds = [_CPU.fullmatch(name) for name in (one, other)]
    first, second = kinds
    return bool(first and second and first["kind"] == second["kind"] and same_cpu_model(first["model"], second["model"]))


_CPU = pattern(r"(?P<model>.+?)-(?P<kind>(x86_64|i386|arm|s390x|powerpc64|powerpc|riscv|loongarch)-cpu|spapr-cpu-core)")

#: names of x86 CPU models by the version that each is (query-cpu-definitions, alias-of); any other one is its own -v1
CPU_VERSIONS = {
    "Westmere-IBRS": "Westmere-v2",
    "Skylake-Server-noTSX-IBRS": "Skylake-Server-v3",
    "Skylake-Server-IBRS": "Skylake-Server-v2",
    "Skylake-Client-noTSX-IBRS": "Skylake-Client-v3",
    "Skylake-Client-IBRS": "Skylake-Client-v2",
    "SandyBridge-IBRS": "SandyBridge-v2",
    "Nehalem-IBRS": "Nehalem-v2",
    "IvyBridge-IBRS": "IvyBridge-v2",
    "Icelake-Server-noTSX": "Icelake-Server-v2",
    "Haswell-noTSX-IBRS": "Haswell-v4",
    "Haswell-noTSX": "Haswell-v2",
    "Haswell-IBRS": "Haswell-v3",
    "EPYC-IBPB": "EPYC-v2",
    "Cascadelake-Server-noTSX": "Cascadelake-Server-v3",
    "Broadwell-noTSX-IBRS": "Broadwell-v4",
    "Broadwell-noTSX": "Broadwell-v2",
    "Broadwell-IBRS": "Broadwell-v3",
}


#: the names by which libvirt calls a POWER machine's default CPU
_POWER = {
    "power8_v2.0": "POWER8",
    "power9_v2.0": "POWER9",
    "power9_v2.2": "POWER9",
    "power10_v2.0": "POWER10",
    "power11_v2.0": "POWER11",
}


def cpu_model_name(model: str | None) -> str | None:
    """What libvirt calls a model that QEMU names by its version."""
    return _POWER.get(model, model) if model is not None else None


def same_cpu_model(one: str, other: str) -> bool:
    """Whether two names are one CPU model.

    >>> same_cpu_model("EPYC", "EPYC-v1"), same_cpu_model("POWER9", "power9_v2.0"), same_cpu_model("EPYC", "max")
    (True, True, False)
    """
    names = [_POWER.get(name, CPU_VERSIONS.get(name, name)).removesuffix("-v1").lower() for name in (one, other)]
    return names[0] == names[1]
