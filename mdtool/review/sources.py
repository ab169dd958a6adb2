"""A machine from wherever it is: a description, a git revision of one, a running QEMU, a guest XML."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mdtool.errors import InputError
from mdtool.files import text_from_bytes
from mdtool.machine.document import Document, document_from_file, document_from_text
from mdtool.machine.tree import Tree

RUNNING = ("tcp", "pid", "libvirt")


def tree_from_source(source: str, *, connect: str | None = None) -> Tree:
    """The tree that ``source`` names.

    A file is a description, or a guest XML (rehearsed and dumped); a socket, ``tcp:``, ``pid:`` and ``libvirt:`` are
    running machines; ``REV:PATH`` is a description as git has it (``HEAD:web01.yaml``, ``main~3:./web01.yaml``).
    """
    scheme, colon, _ = source.partition(":")
    if scheme in RUNNING or (os.path.exists(source) and not os.path.isfile(source) and not os.path.isdir(source)):
        return _running(source, connect)
    if os.path.isfile(source):
        return _rehearsed(source) if source.endswith(".xml") else document_from_file(source).tree
    if colon and scheme:
        return document_from_git(source).tree
    return document_from_file(source).tree  # which says that it is not there


def document_from_git(revision: str) -> Document:
    """``REV:PATH`` as git has it; raises InputError with git's own words."""
    path = revision.partition(":")[2]
    named = revision if path.startswith("./") or not Path(path).exists() else f"{revision.partition(':')[0]}:./{path}"
    try:
        done = subprocess.run(["git", "show", "--end-of-options", named], capture_output=True, check=False)
    except FileNotFoundError:
        raise InputError(f"{revision}: git is not installed", remedy="name a file, a socket or libvirt:NAME") from None
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
        raise InputError(
            f"{revision}: {words}", expected="a file, REV:PATH, a socket, tcp:HOST:PORT, pid:N or libvirt:NAME"
        )
    return document_from_text(text_from_bytes(done.stdout, revision), revision)


def _running(source: str, connect: str | None) -> Tree:
    from mdtool.qemu.arguments import completed
    from mdtool.qemu.dump import dump
    from mdtool.qemu.session import session_from_source

    with session_from_source(source, connect=connect) as session:
        return completed(dump(session), session, lambda _: None)


def _rehearsed(source: str) -> Tree:
    """As ``mdtool dump`` has it: with origins, and a device that a rehearsal replaces as it was planned."""
    from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
    from mdtool.qemu.dump import as_planned, dump

    plan = prepared_rehearsal(source)
    with rehearsal(plan) as qemu:
        return as_planned(dump(qemu.session), plan.tree, plan.stands_in)
