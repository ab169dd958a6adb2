"""Fresh guest XML put back in its place: what every hook in a start path does.

    placement = placed(xml, "web01", Store(Path("/var/lib/mdtool")))
    placement.xml          with the address of every device
    placement.differs      whether the guest would see other hardware than before

A store is a folder with a description or hints for each guest, or the text of hints that the caller keeps.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from mdtool.errors import InputError, Report
from mdtool.files import bytes_from_file, locked, text_from_file, write_file
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.write import xml_with_places
from mdtool.launch.hints import fitted, hints_from_text, hints_from_tree
from mdtool.limits import MAX_BYTES
from mdtool.machine.document import document_from_file, document_from_known_text
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Tree
from mdtool.reconcile import Options, reconcile
from mdtool.reconcile.plan import Plan
from mdtool.records import dataclass, replace
from mdtool.text import pattern

#: how long a start waits for another one of the same guest
LOCK_SECONDS = 10.0
#: names that are a file's name as they stand; others are replaced by their hash
_FILE_NAME = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class Placement:
    """What became of a guest XML.

    ``old``   what was kept of the guest; None at its first start
    ``tree``  what is to be kept of it now; ``plan`` what changed
    ``xml``   the XML with every address
    """

    xml: str
    tree: Tree
    plan: Plan
    old: Tree | None

    @property
    def differs(self) -> bool:
        """Whether the guest sees other hardware than what was kept of it; not at a first start."""
        return self.old is not None and self.plan.is_seen


def placed(
    data: bytes,
    file: str,
    old: Tree | None,
    *,
    described: bool = False,
    migratable: bool = False,
    prefer: str | None = None,
) -> Placement:
    """The XML with the addresses that ``old`` has; at a first start with its own, and those that libvirt would choose.

    ``described``: old is a description, and no hints; ``migratable`` is ``Guest``'s, ``prefer`` is ``Options``'.  Raises
    what reading and reconciling raise.
    """
    guest = replace(guest_from_bytes(data, file), migratable=migratable, places_only=not described)
    old = fitted(old, guest) if old is not None and not described else old
    result = reconcile(guest, old, Options(prefer))
    xml = xml_with_places(guest.source, guest, result.tree, wanted_from_guest(guest, Report()))
    return Placement(xml, result.tree, result.plan, old)


def _file_name(name: str) -> str:
    return name if _FILE_NAME.fullmatch(name) else hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]


def _is_there(path: Path) -> bool:
    """Whether there is a file.  Raises InputError for anything else: a pipe in its place would hold a start up for ever."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", rule="store") from None
    if kind != stat.S_IFREG:
        raise InputError(f"{path} is not a file", remedy="move it out of the store", rule="store")
    return True


@dataclass(frozen=True)
class Store:
    """A folder with what is kept of each guest: ``NAME.yaml``, a description, or ``NAME.hints``."""

    folder: Path

    def path(self, *names: str) -> Path:
        """The file of a guest by one of its names: its description where there is one, else its hints."""
        files = [self.folder / (_file_name(name) + suffix) for suffix in (".yaml", ".hints") for name in names]
        return next((path for path in files if _is_there(path)), files[-len(names)])

    def check(self) -> None:
        """Raise InputError where the folder is not there: not mounted, for one."""
        if not self.folder.is_dir():
            raise InputError(
                f"{self.folder} is not a directory", remedy="make it, or name another with --store", rule="store"
            )

    @contextmanager
    def held(self, *names: str) -> Iterator[Path]:
        """The file of a guest, with the right to rewrite it: two starts of one guest wait for each other."""
        self.check()
        with locked(self.path(*names), seconds=LOCK_SECONDS):
            yield self.path(*names)

    def read(self, path: Path) -> Tree | None:
        """What is kept in a file of the store; None if there is none yet."""
        if not _is_there(path):
            return None
        return document_from_file(path).tree if path.suffix == ".yaml" else hints_from_text(text_from_file(path), str(path))

    def committed(self, name: str, uuid: str | None) -> tuple[Path, Tree] | None:
        """The description of a guest and its file, by its name, or its uuid where it was renamed; None if there is none.

        As it was committed to git, without edits since then; as it is if it was never committed.
        """
        from mdtool.review.git import committed_text

        named = self.folder / f"{_file_name(name)}.yaml"
        for path in chain([named], self._with(uuid) if uuid else ()):
            text = committed_text(path) or (text_from_file(path) if _is_there(path) else None)
            if text is not None:
                return path, document_from_known_text(text, str(path)).tree
        return None

    def _with(self, uuid: str) -> Iterator[Path]:
        """The descriptions that have a uuid in them; what is no file, or too large for one, is no guest's.

        Raises InputError where one cannot be read: it may be the guest's.
        """
        try:
            files = [path for path in sorted(self.folder.iterdir()) if path.suffix == ".yaml" and path.is_file()]
            files = [path for path in files if path.stat().st_size <= MAX_BYTES]
        except OSError as error:
            raise InputError(f"cannot read {error.filename}: {error.strerror}", rule="store") from None
        yield from (path for path in files if uuid.encode() in bytes_from_file(path))

    def write(self, path: Path, tree: Tree) -> bool:
        """Keep what a guest is now; whether that changed the file."""
        if path.suffix == ".yaml":
            document = document_from_file(path)
            text, old = rewritten(document, tree), document.text
        else:
            text, old = hints_from_tree(tree), text_from_file(path) if _is_there(path) else ""
        if text != old:
            write_file(path, text)
        return text != old
