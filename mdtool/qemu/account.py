"""The user that QEMU runs as (``--user``), with that user's groups and no others: what QEMU's own ``-runas`` gives."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

from mdtool.errors import QemuError
from mdtool.records import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """``name`` as the user wrote it, and the rights of its processes."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def take(self, *paths: Path) -> None:
        """Give files of mdtool's to this user.  Raises QemuError where that is not allowed."""
        try:
            for path in paths:
                os.chown(path, self.uid, self.gid)
        except OSError as error:
            what = f"--user {self.name}: {error.strerror}"
            raise QemuError(what, remedy="only root may run QEMU as somebody else", rule="user") from None


def account(text: str) -> Account:
    """The account of a user's name, of a uid that has a name, or of ``UID:GID``, which is in no other group.

    Raises QemuError where there is no such user, and where mdtool may not become another one.
    """
    found = _found(text)
    if os.geteuid() and found.uid != os.geteuid():
        what = f"--user {text}: only root may run QEMU as somebody else"
        raise QemuError(what, remedy="leave it out, or run mdtool as root", rule="user")
    return found


def _found(text: str) -> Account:
    """
    >>> _found("65534:65533")
    Account(name='65534:65533', uid=65534, gid=65533, groups=(65533,))
    """
    if found := re.fullmatch(r"(\d{1,9}):(\d{1,9})", text):
        uid, gid = int(found[1]), int(found[2])
        return Account(text, uid, gid, (gid,))
    try:
        entry = pwd.getpwuid(int(text)) if re.fullmatch(r"\d{1,9}", text) else pwd.getpwnam(text)
    except (KeyError, ValueError):
        remedy = "name one, or give UID:GID"
        raise QemuError(f"--user {text}: there is no such user", remedy=remedy, rule="user") from None
    return Account(text, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))
