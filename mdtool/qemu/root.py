"""Running the QEMU of another root folder, without being root and without chroot.

A folder made by debootstrap (or an unpacked container image) holds a QEMU with its own libraries, firmware and modules.
Its own dynamic loader starts it here, with its own library path: guest files, sockets and file descriptors keep their
names, which a chroot would take away.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from mdtool.cache import cached, keep
from mdtool.errors import QemuError

#: where distributions keep what QEMU loads: firmware, option ROMs, keymaps
DATA = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu", "usr/share/qemu-firmware", "usr/share/ipxe/qemu")
ELF_INTERPRETER = 3  # PT_INTERP


def rooted(argv: Sequence[str], root: str | Path | None) -> tuple[list[str], dict[str, str]]:
    """The command line and environment that run ``argv`` with the QEMU of ``root``; unchanged where ``root`` is None.

    >>> rooted(["/usr/bin/qemu-system-x86_64", "-S"], None)[0]
    ['/usr/bin/qemu-system-x86_64', '-S']
    """
    environment = dict(os.environ)
    if root is None:
        return list(argv), environment
    folder = Path(root).resolve()
    binary = binary_in(folder, argv[0])
    loader = _inside(folder, interpreter(binary))
    libraries = list(library_folders(folder))
    environment["QEMU_MODULE_DIR"] = module_folder(folder, libraries)
    command = [str(loader), "--library-path", ":".join(map(str, libraries)), "--argv0", argv[0], str(binary)]
    for data in DATA:
        if (folder / data).is_dir():
            command += ["-L", str(folder / data)]
    return command + list(argv[1:]), environment


def module_folder(folder: Path, libraries: Sequence[Path], host: Path = Path("/")) -> str:
    """The folder of modules for a QEMU of this root; "" where the root has none.

    QEMU looks for a module that is not there in the folder that it was built for, which is here the host's: a module of
    another build, over which QEMU 11.1 aborts.  So where the host has modules that the root lacks, this is a folder of
    links: to the root's modules, and for the others to themselves, since QEMU goes on to its own folder only where
    nothing has the name at all.
    """
    own = next((path / "qemu" for path in libraries if (path / "qemu").is_dir()), None)
    if own is None:
        return ""
    modules = {path.name for path in own.glob("*.so")}
    lacking = {path.name for path in (host / own.relative_to(folder)).glob("*.so")} - modules
    if not lacking:
        return str(own)
    key = hashlib.sha256("\0".join([str(own), *sorted(modules), "", *sorted(lacking)]).encode()).hexdigest()[:16]
    links = Path(cached("roots", f"modules-{key}"))
    try:
        links.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in {*modules, *lacking}.difference(os.listdir(links)):
            with suppress(FileExistsError):  # another process makes the same folder
                (links / name).symlink_to(own / name if name in modules else name)
    except OSError:  # a cache that cannot be written
        return str(own)
    return str(links)


def program(name: str, root: str | Path) -> str:
    """A program that is the QEMU ``name`` of ``root``, for everything that takes a binary's path.

    It is a short shell script, kept among what may be forgotten, and another one for each build of that QEMU: so what is
    cached of a binary holds for this one too.
    """
    command, environment = rooted([name], root)
    held = binary_in(Path(root).resolve(), name).stat()
    modules = environment["QEMU_MODULE_DIR"]
    key = hashlib.sha256(f"{command}\0{modules}\0{held.st_size}\0{held.st_mtime_ns}".encode()).hexdigest()[:16]
    path = Path(cached("roots", key, os.path.basename(name)))
    if not os.access(path, os.X_OK):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep(str(path), f'#!/bin/sh\nQEMU_MODULE_DIR={shlex.quote(modules)} exec {shlex.join(command)} "$@"\n')
        path.chmod(0o700)
    return str(path)


def binary_in(folder: Path, name: str) -> Path:
    """The file that ``name`` (a path inside the root, or a bare name) is; QemuError where the root lacks it."""
    inside = name.removeprefix(str(folder))
    candidates = [inside] if "/" in inside else [f"usr/bin/{inside}", f"usr/local/bin/{inside}"]
    for candidate in candidates:
        path = _inside(folder, candidate)
        if path.is_file():
            return path
    raise QemuError(
        f"{name} is not in {folder}",
        remedy=f"install it there (chroot {folder} apt-get install qemu-system-x86), or name another --qemu",
    )


def _inside(folder: Path, name: str) -> Path:
    """``name`` below ``folder``, with symbolic links read as the root would read them."""
    path = folder / name.lstrip("/")
    for _ in range(40):
        if not path.is_symlink():
            parent = path.parent
            if parent in (folder, *folder.parents) or not parent.is_symlink():
                return path
            path = _inside(folder, str(parent.relative_to(folder))) / path.name
            continue
        target = os.readlink(path)
        path = folder / target.lstrip("/") if target.startswith("/") else path.parent / target
    return path


def interpreter(binary: Path) -> str:
    """The dynamic loader that an ELF file names: ``/lib64/ld-linux-x86-64.so.2``."""
    data = binary.read_bytes()[:4096]
    if data[:4] != b"\x7fELF" or data[4] != 2:
        raise QemuError(f"{binary} is not a 64-bit program", remedy="name the QEMU binary itself, not its wrapper")
    order = "little" if data[5] == 1 else "big"

    def number(offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], order)  # type: ignore[arg-type]

    table, entry, count = number(32, 8), number(54, 2), number(56, 2)
    for start in range(table, table + entry * count, entry):
        if number(start, 4) == ELF_INTERPRETER:
            offset, size = number(start + 8, 8), number(start + 32, 8)
            return data[offset : offset + size].rstrip(b"\0").decode()
    raise QemuError(f"{binary} is linked statically; it needs no --qemu-root")


def library_folders(folder: Path) -> Iterator[Path]:
    """Where the root's loader would look: its ld.so.conf, then the usual places."""
    seen: set[Path] = set()
    named: list[str] = []
    for conf in sorted((folder / "etc/ld.so.conf.d").glob("*.conf")):
        named += [line.strip() for line in conf.read_text(errors="replace").splitlines() if line.startswith("/")]
    for name in [*named, "/lib64", "/usr/lib64", "/lib", "/usr/lib"]:
        path = _inside(folder, name).resolve()
        if path.is_dir() and path not in seen and path.is_relative_to(folder):
            seen.add(path)
            yield path
