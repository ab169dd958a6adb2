"""The corpus of command lines, whole: `make corpus`.  Each line's own QEMU is started, paused, with files behind it, and
held against what mdtool makes of the line; what QEMU says of both is compared here, without mdtool's own readers.

    python tests/corpus.py [--jobs N] [--file FILE] [--qemu-root DIR] [NAME...]

For each line: `import` ends with 0; the imported machine, rehearsed, equals the original by `info qtree`, `query-pci`,
`info mtree` and the CPUs; `verify` of the original finds nothing; `dump` of the script equals the dump of its QEMU.  A
difference that the import warned of, and docs/import.md gives the reason of, is explained.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from mdtool.cli import main as mdtool
from mdtool.errors import QemuError
from mdtool.guest.devices import guest_from_file
from mdtool.launch.rehearse import rehearsed
from mdtool.machine.document import tree_from_file
from mdtool.qemu.root import program as rooted_program
from mdtool.qemu.session import Session, session_from_source

CORPUS = Path(__file__).parent / "importer" / "corpus.txt"
#: what the command lines call their folder
FOLDER = "/vm/"
PATIENCE = 60.0
GIB = 1 << 30

# --- the files -----------------------------------------------------------------------------------------------------

#: bytes, by how a name ends; everything else is a disk
_SIZES = {
    ".iso": 4 << 20, "CODE.fd": 3653632, "VARS.fd": 540672, "64.fd": 64 << 20, ".rom": 64 << 10, ".sd": GIB, ".floppy": 1474560, ".256m.fd": 256 << 20,
    ".bin": 4096, ".dtb": 4096, ".txt": 64, "16m.img": 16 << 20, "32m.img": 32 << 20, "8m.img": 8 << 20, "64m.img": 64 << 20,
    "4m.img": 4 << 20, "1m.img": 1 << 20, "512k.img": 512 << 10, ".initrd": 8192,
}  # fmt: skip
#: architecture -> (bits, endian, machine) of an ELF file
_ELF = {
    "x86_64": (32, "<", 3), "i386": (32, "<", 3), "arm": (32, "<", 40), "aarch64": (64, "<", 183), "mips": (32, ">", 8),
    "mipsel": (32, "<", 8), "mips64": (64, ">", 8), "mips64el": (64, "<", 8), "ppc": (32, ">", 20), "ppc64": (64, ">", 21),
    "sparc": (32, ">", 2), "sparc64": (64, ">", 43), "m68k": (32, ">", 4), "riscv32": (32, "<", 243), "riscv64": (64, "<", 243),
    "s390x": (64, ">", 22), "alpha": (64, "<", 0x9026), "hppa": (32, ">", 15), "sh4": (32, "<", 42), "or1k": (32, ">", 92),
    "microblaze": (32, ">", 189), "microblazeel": (32, "<", 189), "xtensa": (32, "<", 94), "loongarch64": (64, "<", 258),
    "avr": (32, "<", 83), "rx": (32, "<", 173), "tricore": (32, "<", 44), "cris": (32, "<", 76), "nios2": (32, "<", 113),
}  # fmt: skip


def elf(arch: str, at: int = 0x10000) -> bytes:
    """A program of one empty page, as a kernel."""
    bits, endian, machine = _ELF[arch]
    ident = b"\x7fELF" + bytes([bits // 32, 1 if endian == "<" else 2, 1]) + bytes(9)
    word, at = ("Q", at) if bits == 64 else ("I", at | (0x80000000 if "mips" in arch else 0))
    head = 64 if bits == 64 else 52
    size = 56 if bits == 64 else 32
    body = ident + struct.pack(
        f"{endian}HHI{word}{word}{word}IHHHHHH", 2, machine, 1, at, head, 0, 0, head, size, 1, 0, 0, 0
    )
    if bits == 64:
        body += struct.pack(f"{endian}IIQQQQQQ", 1, 7, 4096, at, at, 4096, 4096, 4096)
    else:
        body += struct.pack(f"{endian}IIIIIIII", 1, 4096, at, at, 4096, 4096, 7, 4096)
    return body.ljust(4096, b"\0") + bytes(4096)


def bzimage() -> bytes:
    """As much of a Linux image as QEMU reads."""
    head = bytearray(16384)
    head[0x1F1], head[0x1FE:0x200] = 1, b"\x55\xaa"
    head[0x202:0x208] = b"HdrS\x0c\x02"
    head[0x211] = 1
    struct.pack_into("<I", head, 0x22C, 0x7FFFFFFF)
    return bytes(head)


#: in the manner of Incus's qemu.conf
INCUS = """[global]
driver = "ICH9-LPC"
property = "disable_s3"
value = "1"

[device "qemu_pcie0"]
driver = "pcie-root-port"
bus = "pcie.0"
addr = "1.0"
chassis = "0"
multifunction = "on"

[device "qemu_balloon"]
driver = "virtio-balloon-pci"
bus = "qemu_pcie0"
addr = "00.0"
multifunction = "on"

[object "qemu_rng"]
qom-type = "rng-random"
filename = "/dev/urandom"

[device "dev-qemu_rng"]
driver = "virtio-rng-pci"
bus = "qemu_pcie0"
addr = "00.1"
rng = "qemu_rng"

[device "dev-qemu_scsi"]
driver = "virtio-scsi-pci"
bus = "pcie.0"
addr = "2"
"""


def make_files(text: str, arch: str, folder: Path) -> None:
    """What a command line names below its folder."""
    for found in sorted(set(re.findall(re.escape(str(folder)) + r"/[\w./+-]*[\w/]", text))):
        path = Path(found)
        if path.suffix in (".sock", ".pid", ".log") or path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.suffix and path.name.endswith(("share", "folder", "store")):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_file(path, arch)


def _make_file(path: Path, arch: str) -> None:
    size = next((size for end, size in _SIZES.items() if path.name.endswith(end)), 16 * GIB)
    if path.suffix in (".qcow2", ".vmdk", ".vdi"):
        command = ["qemu-img", "create", "-q", "-f", path.suffix[1:], str(path), "1G" if "small" in path.name else "16G"]
        subprocess.run(command, check=True)
    elif path.suffix == ".elf":
        path.write_bytes(elf(arch, 0x80200000 if arch.startswith("riscv") else 0x40010000 if arch == "or1k" else 0x10000))
    elif path.suffix == ".bzImage":
        path.write_bytes(bzimage())
    else:
        with path.open("wb") as file:
            file.truncate(size)
        if path.suffix == ".cfg":
            path.write_text(PVE_Q35 if "pve" in path.name else INCUS)


#: in the manner of Proxmox's pve-q35-4.0.cfg
PVE_Q35 = """[device "ehci"]
  driver = "ich9-usb-ehci1"
  multifunction = "on"
  bus = "pcie.0"
  addr = "1d.7"

[device "uhci-1"]
  driver = "ich9-usb-uhci1"
  multifunction = "on"
  bus = "pcie.0"
  addr = "1d.0"
  masterbus = "ehci.0"
  firstport = "0"

[device "ich9-pcie-port-1"]
  driver = "pcie-root-port"
  x-speed = "16"
  x-width = "32"
  multifunction = "on"
  bus = "pcie.0"
  addr = "1c.0"
  port = "1"
  chassis = "1"

[device "pcidmi"]
  driver = "i82801b11-bridge"
  bus = "pcie.0"
  addr = "1e.0"

[device "pci.0"]
  driver = "pci-bridge"
  bus = "pcidmi"
  addr = "1.0"
  chassis_nr = "1"
"""


# --- what QEMU says ------------------------------------------------------------------------------------------------

#: properties of devices that name something of the host, or say what the next line of QEMU's says as it is
_HOSTS = {
    "drive", "netdev", "chardev", "memdev", "rng", "fsdev", "tpmdev", "audiodev", "cryptodev", "iothread", "hostmem", "canbus",
    "canbus0", "canbus1", "masterbus", "drive0", "drive1", "volatile-memdev", "persistent-memdev", "lsa", "bmc", "chrA", "chrB",
    "rerror", "werror", "write-cache", "port", "devno", "has-usb", *(f"chardev{n}" for n in range(9)),
}  # fmt: skip


class Machine(NamedTuple):
    qtree: list[str]
    pci: list[str]
    mtree: list[str]
    cpus: list[str]


def machine_of(session: Session) -> Machine:
    """What QEMU itself says of a machine, without names and host sides."""
    cpus = [str(sorted((k, v) for k, v in one.items() if k in ("props", "qom-type", "target")))
            for one in session.execute("query-cpus-fast")]  # fmt: skip
    first = session.execute("query-cpus-fast")[0]["qom-path"]
    with contextlib.suppress(Exception):
        cpus.append(str(session.execute("qom-get", {"path": first, "property": "feature-words"})))
    pci = []
    with contextlib.suppress(Exception):
        pci = sorted(_facts(session.execute("query-pci")))
    return Machine(qtree(session.hmp("info qtree")), pci, mtree(session.hmp("info mtree")), cpus)


def qtree(text: str) -> list[str]:
    """Each device with its properties as a line, beside the line of its parent; names and order are not compared."""
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines() if line.strip()]

    def node(at: int) -> tuple[str, int]:
        depth, head = lines[at]
        facts, children = [], []
        at += 1
        while at < len(lines) and lines[at][0] > depth:
            line = lines[at][1]
            if line.startswith(("dev: ", "bus: ")):
                child, at = node(at)
                children.append(child)
                continue
            line = re.sub(r"addr \d+\.\d+, (port .*), name", r"\1, name", line)  # QEMU numbers its USB buses
            line = re.sub(r"/device\[\d+\]", "/device", line)  # and devices without an id
            name = line.partition(" = ")[0]
            if name not in _HOSTS:
                facts.append(line)
            at += 1
        head = re.sub(r', id "[^"]*"', "", head) if head.startswith("dev: ") else "bus"
        body = "".join("\n" + one.replace("\n", "\n  ") for one in [*sorted(facts), *sorted(children)])
        return head + body.replace("\n", "\n  "), at

    return node(0)[0].splitlines()


def _facts(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "qdev_id":
                yield from _facts(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield "+".join(sorted(_facts(item, path)))
    else:
        yield f"{path}={value}"


def mtree(text: str) -> list[str]:
    """The regions, without the names of what is behind memory, and without addresses of the host."""
    found = []
    for line in text.splitlines():
        line = re.sub(r"\((prio -?\d+, (?:ram|romd?|nv-ramd?)(?: alias)?)\): .*", r"(\1)", line.rstrip())
        line = re.sub(r"^(address-space|memory-region|\s+\S+-\S+ \(prio[^)]*\)): .*@?", r"\1", line)
        found.append(line)
    return sorted(found)


def differences(one: Machine, other: Machine) -> list[str]:
    found = []
    for name, left, right in zip(Machine._fields, one, other, strict=True):
        a, b = Counter(left), Counter(right)
        found += [f"{name}: original has {line.strip()}" for line in (a - b).elements()]
        found += [f"{name}: import has {line.strip()}" for line in (b - a).elements()]
        if left != right and a == b:
            moved = difflib.unified_diff(left, right, n=0, lineterm="")
            found += [f"{name}: moved {line}" for line in moved if line[:2] not in ("--", "++", "@@")]
    return found


# --- one line ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def original(words: Sequence[str], folder: Path) -> Iterator[tuple[Session | None, str, int]]:
    """The QEMU of a command line, paused, with a monitor; (None, what it says) where it does not start."""
    socket = folder / "original.qmp"
    more = ["-S", "-qmp", f"unix:{socket},server=on,wait=off"]
    if not {"-display", "-nographic", "-vnc", "-spice", "-curses", "-sdl"} & set(words):
        more += ["-display", "none"]
    log = (folder / "original.log").open("w+")
    command = [word for word in words if word != "-daemonize"]  # or nobody would end it
    process = subprocess.Popen([*command, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        while not socket.exists() or not _answers(socket):
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            log.seek(0)
            yield None, log.read(), process.pid
            return
        with session_from_source(str(socket)) as session:
            yield session, "", process.pid
    finally:
        process.kill()
        process.wait()
        log.close()


def _answers(socket: Path) -> bool:
    try:
        session_from_source(str(socket)).close()
    except Exception:
        return False
    return True


def said(*words: object) -> tuple[int, str, str]:
    """mdtool in this process: its exit status and what it says."""
    out, error = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = mdtool([str(word) for word in words])
    return status, *(one.buffer.getvalue().decode() for one in (out, error))  # type: ignore[attr-defined]


#: what a warning of the import's says -> the differences that it explains, and docs/import.md with it
EXPLAINED = (("subchannels are numbered", r'qtree: moved [-+] *subch_id = "[0-9a-f.]+"'),)


class Outcome(NamedTuple):
    name: str
    status: str
    said: list[str]


def outcome(name: str, text: str, root: str | None = None) -> Outcome:
    """What becomes of one command line; with the QEMU of a root folder where one is given."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as made:
        folder = Path(made)
        text = text.replace(FOLDER, f"{folder}/")
        words = shlex.split(text)
        program = words[0]
        try:
            words[0] = rooted_program(program, root) if root else program
        except QemuError as error:
            return Outcome(name, "skipped", [error.what])
        if shutil.which(words[0]) is None:
            return Outcome(name, "skipped", [f"{program} is not here"])
        make_files(text, program.removeprefix("qemu-system-"), folder)
        try:
            return _outcome(name, words, folder)
        except Exception:
            return Outcome(name, "crashed", traceback.format_exc().splitlines()[-6:])


def _outcome(name: str, words: list[str], folder: Path) -> Outcome:
    script, xml, yaml = folder / "start.sh", folder / "guest.xml", folder / "guest.yaml"
    script.write_text(shlex.join(words) + "\n")
    upstream = folder / "upstream.sh"
    plain = shlex.split(re.sub(r" -id \d+|\+pve\d+", "", shlex.join(words)))  # what only Proxmox's QEMU knows
    upstream.write_text(shlex.join(plain) + "\n")
    with original(plain, folder) as (session, why, _):
        if session is None:
            return Outcome(name, "refused", why.strip().splitlines()[-2:])
        status, _, warned = said("import", "--upstream", script, "--xml", xml, "-o", yaml)
        if status != 0:
            return Outcome(name, "not imported", warned.splitlines()[:6])
        problems = [
            f"import: {line}" for line in warned.splitlines() if "launch ends with" in line or "could not be tr" in line
        ]
        want = machine_of(session)
        tree = tree_from_file(yaml)
        try:
            with rehearsed(guest_from_file(xml), tree) as other:
                problems += differences(want, machine_of(other))
        except Exception as error:
            problems.append(f"rehearsal: {error}")
        session.close()
        socket = folder / "original.qmp"
        status, out, error = said("verify", yaml, socket)
        if status != 0:
            problems += [f"verify: {line}" for line in (out + error).splitlines()[:8]]
        dumps = [said("dump", upstream), said("dump", socket)]
        if any(one[0] for one in dumps):
            problems += [f"dump: {line}" for one in dumps if one[0] for line in one[2].splitlines()[:4]]
        elif dumps[0][1] != dumps[1][1]:
            a, b = (one[1].splitlines() for one in dumps)
            lines = [
                line
                for line in difflib.unified_diff(a, b, "script", "socket", n=0, lineterm="")
                if line[:2] not in ("--", "++", "@@")
            ]
            problems += [f"dump: {line[:200]}" for line in lines]
    reasons = [line for warning, line in EXPLAINED if warning in warned]
    explained = all(any(re.fullmatch(line, problem) for line in reasons) for problem in problems)
    return Outcome(name, "same" if not problems else "explained" if explained else "differs", problems)


def lines_of(file: Path) -> dict[str, str]:
    lines = file.read_text().replace("\\\n", "").splitlines()
    return dict(line.split(": ", 1) for line in lines if line and line[0] != "#")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--file", type=Path, default=CORPUS)
    parser.add_argument("--more", type=int, default=6, help="lines of each problem")
    parser.add_argument("--qemu-root", metavar="DIR", help="a folder made by debootstrap, whose QEMU is taken")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    lines = {name.lstrip("*"): text for name, text in lines_of(args.file).items()}
    corpus = {name: text for name, text in lines.items() if not args.names or name in args.names}
    count: Counter[str] = Counter()
    with ProcessPoolExecutor(args.jobs) as pool:
        for one in pool.map(outcome, corpus, corpus.values(), repeat(args.qemu_root)):
            count[one.status] += 1
            print(f"{one.name}: {one.status}", flush=True)
            for line in one.said[: args.more]:
                print(f"    {line}")
            if len(one.said) > args.more:
                print(f"    ... {len(one.said) - args.more} more")
    started = sum(count.values()) - count["skipped"] - count["refused"]
    taken = started - count["not imported"] - count["crashed"]
    print(f"{len(corpus)} command lines, of which QEMU starts {started}: {taken} are imported, {count['same']} are the same machine everywhere, {count['explained']} but for what is explained; "
          + ", ".join(f"{n} {status}" for status, n in count.items()))  # fmt: skip
    return 0 if count["same"] >= 0.95 * started and not count["differs"] + count["crashed"] else 1


if __name__ == "__main__":
    sys.exit(main())
