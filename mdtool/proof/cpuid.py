"""CPUID words, with the names of their bits.

``feature-words`` is what the guest gets, ``filtered-features`` what was asked for and the accelerator lacks.  A
fingerprint is taken under TCG, which lacks much of what KVM has: what counts is what the machine asks for, which is
both together. Names are QEMU's own; bits after the Intel SDM, volume 2 (CPUID), and the AMD APM, volume 3, appendix E.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdtool.qemu.session import Refused, Session

#: (leaf, subleaf or None, register): bits from 0 up, "-" where nothing is
NAMES: Mapping[tuple[int, int | None, str], str] = {
    (
        0x1,
        None,
        "EDX",
    ): "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds acpi "
    "mmx fxsr sse sse2 ss ht tm ia64 pbe",
    (0x1, None, "ECX"): "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm - pcid dca "
    "sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave osxsave avx f16c rdrand hypervisor",
    (0x7, 0, "EBX"): "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - avx512f avx512dq "
    "rdseed adx smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni "
    "avx512bw avx512vl",
    (0x7, 0, "ECX"): "- avx512vbmi umip pku ospke waitpkg avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - "
    "avx512-vpopcntdq - la57 - - - - - rdpid - bus-lock-detect cldemote - movdiri movdir64b - sgxlc "
    "pks",
    (0x7, 0, "EDX"): "- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - "
    "tsx-ldtrk - - arch-lbr - - amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp flush-l1d "
    "arch-capabilities core-capability ssbd",
    (0xD, 1, "EAX"): "xsaveopt xsavec xgetbv1 xsaves xfd",
    (0x6, None, "EAX"): "- - arat",
    (
        0x80000001,
        None,
        "EDX",
    ): "fpu vme de pse tsc msr pae mce cx8 apic - syscall mtrr pge mca cmov pat pse36 - - nx - mmxext "
    "mmx fxsr fxsr-opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    (
        0x80000001,
        None,
        "ECX",
    ): "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit "
    "wdt - lwp fma4 tce - nodeid-msr - tbm topoext perfctr-core perfctr-nb",
    (0x80000007, None, "EDX"): "- - - - - - - - invtsc",
    (
        0x80000008,
        None,
        "EBX",
    ): "clzero - xsaveerptr - - - - - - wbnoinvd - - ibpb - ibrs amd-stibp - - - - - - - - amd-ssbd "
    "virt-ssbd amd-no-ssb - amd-psfd",
    (
        0x8000000A,
        None,
        "EDX",
    ): "npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists - - pause-filter - "
    "pfthreshold avic - v-vmsave-vmload vgif",
    (
        0x40000001,
        None,
        "EAX",
    ): "kvmclock kvm-nopiodelay kvm-mmu kvmclock2 kvm-asyncpf kvm-steal-time kvm-pv-eoi kvm-pv-unhalt - "
    "kvm-pv-tlb-flush kvm-asyncpf-vmexit kvm-pv-ipi kvm-poll-control kvm-pv-sched-yield "
    "kvm-asyncpf-int kvm-msi-ext-dest-id - - - - - - - - kvmclock-stable-bit",
}
#: (word, bit): the vendor spared.  CPUID sets these where a package has several threads; QEMU before 10.0 does so when the
#: guest asks, and they are in no feature word.
PACKAGE: Mapping[tuple[str, int], str] = {("1 EDX", 28): "", ("80000001 ECX", 1): "GenuineIntel"}
#: what identifies the CPU besides its features
PROPERTIES = ("vendor", "family", "model", "stepping", "model-id", "level", "xlevel", "xlevel2", "phys-bits", "apic-id")


def facts(session: Session) -> dict[str, dict[str, str]]:
    """``{"cpu": {"type": ..., "cpus": ..., "family": ...}, "1 EDX": {"bits": "0x783fbfd", "names": "fpu vme ..."}}``.

    Words of a machine that is no x86 are absent.
    """
    cpus = session.execute("query-cpus-fast")
    if not cpus:
        return {}
    path = cpus[0]["qom-path"]
    found: dict[str, dict[str, str]] = {}
    found["cpu"] = {"type": str(_property(session, path, "type")), "cpus": str(len(cpus))}
    for name in PROPERTIES:
        value = _property(session, path, name)
        if value is not None:
            found["cpu"][name] = str(value)
    asked: dict[str, int] = {}
    for source in ("feature-words", "filtered-features"):
        for word in _property(session, path, source) or ():
            name = word_name(word)
            asked[name] = asked.get(name, 0) | int(word["features"])
    if _threads(session) > 1 and asked:
        for (name, bit), spared in PACKAGE.items():
            if found["cpu"].get("vendor") != spared:
                asked[name] = asked.get(name, 0) | 1 << bit
    rows = {_name(*key): names.split() for key, names in NAMES.items()}
    for name, bits in asked.items():
        if bits:
            found[name] = {"bits": f"{bits:#x}", "names": " ".join(bit_names(bits, rows.get(name, [])))}
    return found


def _threads(session: Session) -> int:
    """Threads in one CPU package."""
    smp = _property(session, "/machine", "smp") or {}
    return int(smp.get("cores", 1)) * int(smp.get("threads", 1))


def _property(session: Session, path: str, name: str) -> Any:
    try:
        return session.execute("qom-get", {"path": path, "property": name})
    except Refused:
        return None  # not this architecture's


def word_name(word: Mapping[str, Any]) -> str:
    """The name of one entry of ``feature-words``: ``7.0 EBX``, ``80000001 EDX``."""
    return _name(word["cpuid-input-eax"], word.get("cpuid-input-ecx"), word["cpuid-register"])


def _name(leaf: int, subleaf: int | None, register: str) -> str:
    return f"{leaf:x}{'' if subleaf is None else f'.{subleaf:x}'} {register}"


def bit_names(bits: int, names: list[str]) -> list[str]:
    """
    >>> bit_names(0b101, ["fpu", "vme"])
    ['fpu', 'bit-2']
    """
    known = dict(enumerate(names))
    return [
        known[bit] if known.get(bit, "-") != "-" else f"bit-{bit}" for bit in range(bits.bit_length()) if bits >> bit & 1
    ]
