"""What a backend is: the host side of one device.

A backend function is pure: it names files, sockets, descriptors and processes, and opens none of them, so that ``launch
--print`` touches nothing of the host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mdtool.commandline.companion import Process
from mdtool.errors import InputError
from mdtool.guest.model import Guest
from mdtool.guest.xml import Element
from mdtool.machine.tree import Node
from mdtool.machine.values import decimal, integer
from mdtool.records import dataclass, field
from mdtool.text import pattern

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Secret:
    """Something that must not be on a command line: QEMU reads it from the descriptor ``<fd:NAME>``.

    ``value`` where the XML itself holds it (a VNC password); otherwise ``key`` is what the XML calls it: libvirt's uuid
    or usage of the secret, and ``kind`` libvirt's word for its kind (ceph, iscsi, passphrase, tls).
    """

    name: str
    value: str | None = field(default=None, repr=False)
    key: str | None = None
    kind: str | None = None

    @property
    def placeholder(self) -> str:
        return f"/dev/fd/<fd:{self.name}>"


@dataclass(frozen=True, slots=True)
class Backend:
    """The host side of one device.

    ``options``     words for QEMU, in pairs: ``("-netdev", '{"type": "user", "id": "hostnet0"}')``
    ``properties``  host-side properties of its -device: ``{"netdev": "hostnet0"}``
    ``secrets``     descriptors that ``options`` name by ``<fd:NAME>``
    ``processes``   what must run beside QEMU
    ``machine``     machine properties: ``{"pcspk-audiodev": "audio1"}``
    ``substitute``  only in a rehearsal: the driver that takes the place of one that cannot be had without its host side
    ``environment`` variables that QEMU needs
    ``spawns``      whether QEMU itself starts a program (the bridge helper), which a sandbox must then allow
    """

    options: tuple[str, ...] = ()
    properties: Properties = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    processes: tuple[Process, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    substitute: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    spawns: bool = False

    def __add__(self, other: Backend) -> Backend:
        return Backend(
            self.options + other.options,
            {**self.properties, **other.properties},
            self.secrets + other.secrets,
            self.processes + other.processes,
            {**self.machine, **other.machine},
            self.substitute or other.substitute,
            {**self.environment, **other.environment},
            self.spawns or other.spawns,
        )


NOTHING = Backend()


#: what else is in a guest's private folder
_OWN_FILES = frozenset({"qmp", "qemu.log", "machine.cfg", "swtpm.sock", "swtpm.log", "vnc.sock", "spice.sock"})


@dataclass(frozen=True, slots=True)
class Host:
    """What backend functions know beside their element.

    ``runtime``   the guest's private folder, for sockets that the XML leaves to us; need not exist yet
    ``version``   QEMU's, ``(7, 2)``; some options are spelled otherwise in a newer one
    ``port``      a free TCP port from the given one up; the identity where nothing of the host may be touched
    """

    guest: Guest
    runtime: Path
    port: Callable[[int], int] = int
    version: tuple[int, ...] = (7, 2)

    def file(self, name: str) -> Path:
        """A file of the guest's private folder, for sockets; text that is no plain name of a file is hashed.

        >>> Host(None, Path("/run/a")).file("org.qemu.guest_agent.0")
        PosixPath('/run/a/org.qemu.guest_agent.0')
        >>> Host(None, Path("/run/a")).file("../../victim").parent
        PosixPath('/run/a')
        """
        if re.fullmatch(r"[A-Za-z0-9_][\w.:-]{0,63}", name, re.ASCII) and name not in _OWN_FILES:
            return self.runtime / name
        from hashlib import sha256  # slow to import, and rarely needed

        return self.runtime / sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]

    @property
    def is_kvm(self) -> bool:
        return self.guest.domain.get("@type") == "kvm"


#: (element, its node or None for a built-in or no device at all, the host) -> its host side
Make = Callable[[Element, Node | None, Host], Backend]


def option(flag: str, **values: Any) -> tuple[str, str]:
    """``-blockdev`` and its like in JSON; ``_`` in a name is ``-``, a None is left out.

    >>> option("-object", qom_type="rng-random", id="objrng0", filename="/dev/urandom")
    ('-object', '{"qom-type": "rng-random", "id": "objrng0", "filename": "/dev/urandom"}')
    """
    return flag, json.dumps({key.replace("_", "-"): value for key, value in values.items() if value is not None})


def listed(flag: str, *words: str | None, **values: Any) -> tuple[str, str]:
    """An option in key=value notation, for those that take no JSON; ``_`` in a name is ``-``, a None is left out.

    The one key that QEMU spells with an underscore is security_model.

    >>> listed("-chardev", "socket", id="charserial0", path="/tmp/a,b")
    ('-chardev', 'socket,id=charserial0,path=/tmp/a,,b')
    """
    said = [word for word in words if word is not None]
    said += [f"{_key(key)}={plain(value)}" for key, value in values.items() if value is not None]
    return flag, ",".join(said)


def _key(name: str) -> str:
    return name if name == "security_model" else name.replace("_", "-")


def reconnecting(seconds: str | None, host: Host) -> dict[str, int]:
    """How often a socket chardev tries again; QEMU 9.2 counts milliseconds, and 10 knows nothing else."""
    if (found := decimal(seconds or "")) is None:
        return {}
    return {"reconnect-ms": found * 1000} if host.version >= (9, 2) else {"reconnect": found}


def threads(element: Element, host: Host, *, mapped_since: tuple[int, int] = (9, 0)) -> dict[str, Any]:
    """The I/O thread that serves a device, or several with the virtqueues of each (none: shared out among them).

    Several are for virtio-blk since QEMU 9.0 and for virtio-scsi since 10.0; raises InputError before ``mapped_since``.
    """
    one, several = element.get("driver/@iothread"), element.first("driver/iothreads")
    if several is None:
        return {"iothread": f"iothread{one}"} if one else {}
    if host.version < mapped_since:
        what = f"<{element.tag}>: several I/O threads need QEMU {'.'.join(map(str, mapped_since))}"
        raise InputError(what, at=several.position, remedy="name one: <driver iothread='1'/>", rule="host-side")
    rows = []
    for thread in several.all("iothread"):
        queues = [whole(queue, "@id") for queue in thread.all("queue")]
        rows.append({"iothread": f"iothread{given(thread, '@id')}", **({"vqs": queues} if queues else {})})
    return {"iothread-vq-mapping": rows}


def plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def secret_object(secret: Secret) -> tuple[str, str]:
    return option("-object", qom_type="secret", id=secret.name, file=secret.placeholder)


#: how every word begins that may hold a placeholder: no text of a guest, whose quotes JSON escapes, can begin so
SECRET_WORD = '{"qom-type": "secret"'
_PLACEHOLDER = pattern(r"(?<=/dev/fd/)<fd:([^>]+)>")


def numbered(word: str, numbers: Mapping[str, int]) -> str:
    """A word with the descriptors' numbers in place of ``<fd:NAME>``; a text that merely looks so stays as it is.

    >>> word = secret_object(Secret("vnc"))[1]
    >>> numbered(word, {"vnc": 5})
    '{"qom-type": "secret", "id": "vnc", "file": "/dev/fd/5"}'
    >>> numbered("guest=/dev/fd/<fd:vnc>", {"vnc": 5})
    'guest=/dev/fd/<fd:vnc>'
    """
    if not word.startswith(SECRET_WORD):
        return word
    return _PLACEHOLDER.sub(lambda found: str(numbers.get(found[1], found[0])), word)


def refused(element: Element, what: str, *, path: str = "@type") -> InputError:
    """What direct launch does not know; libvirt does."""
    return InputError(
        f"<{element.tag}>: direct launch cannot set up {what}",
        at=element.at(path) if element.tag != path else element.position,
        remedy="start the guest with --via libvirt",
        rule="host-side",
    )


def switch(element: Element, path: str) -> bool | None:
    """on/yes is True, anything else that is there False, absent None."""
    text = element.get(path)
    return None if text is None else text in ("on", "yes")


def whole(element: Element, path: str) -> int | None:
    """A number; None where it is absent; raises InputError if it is not a number."""
    text = element.get(path)
    if text is None or text == "":
        return None
    try:
        return integer(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number", at=element.at(path), expected="a number", rule="number") from None


def given(element: Element, path: str) -> str:
    """An attribute that must be there; raises InputError where it is not."""
    text = element.get(path)
    if not text:
        raise InputError(f"<{element.tag}> without {path}", at=element.at(path), expected=path, rule="missing")
    return text
