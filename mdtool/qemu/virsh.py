"""libvirt's command line: the only place that runs virsh.

virsh = Virsh(connect)
virsh("dumpxml", "--inactive", virsh.named("web01"))
"""

from __future__ import annotations

import os
import subprocess

from mdtool.errors import MonitorError, QemuError
from mdtool.records import NamedTuple, dataclass

SECONDS = 90.0  # a start of a guest with much memory takes its time


#: libvirt's states of a guest that has a QEMU
RUNS = ("running", "paused", "idle", "in shutdown", "pmsuspended")
_AT_ONCE = 100  # guests that one virsh is asked for


_ASKED = ("domstate", "dumpxml --inactive", "dumpxml")


class Held(NamedTuple):
    """What libvirt has of a guest, without secrets: the XML of its next start, and of the guest that runs."""

    state: str
    kept: str
    live: str


@dataclass(frozen=True)
class Virsh:
    """virsh for one connection; ``connect`` is its URI, None for libvirt's own default."""

    connect: str | None = None

    def __call__(self, *words: str, text: str | None = None, timeout: float = SECONDS) -> str:
        """What a command prints; ``text`` is its standard input.

        Raises QemuError with libvirt's message where it refuses, MonitorError where it cannot be asked.
        """
        done = self.run(*words, text=text, timeout=timeout)
        if done.returncode:
            raise QemuError(f"libvirt: {words[0]}: {message(done)}", rule="libvirt-refuses")
        return done.stdout.decode(errors="replace")

    def run(
        self, *words: str, text: str | None = None, timeout: float = SECONDS, what: str | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """The ended virsh, whatever its exit status; raises MonitorError where it is not there or does not end.

        ``what`` says in the error what was waited for.
        """
        command = ["virsh", "--quiet", *(["--connect", self.connect] if self.connect else []), *words]
        plain = {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": ""}  # states and fields are read here, in any locale
        try:
            return subprocess.run(
                command, input=(text or "").encode(), capture_output=True, timeout=timeout, check=False, env=plain
            )
        except FileNotFoundError:
            raise MonitorError("virsh is not installed", remedy="install libvirt's clients (libvirt-clients)") from None
        except subprocess.TimeoutExpired:
            raise MonitorError(f"{what or f'virsh {words[0]}: no answer'} within {timeout:g} s") from None

    # --- guests --------------------------------------------------------------------------------------------------

    def named(self, name: str) -> str:
        """What stands for a guest in a command: its name, or its uuid where virsh could take the name for another guest.

        A name of digits is an id to virsh, one of 36 characters a uuid, and one with a dash in front an option.
        Raises QemuError where there is no such guest.
        """
        if not name:
            raise QemuError("no guest is named", expected="libvirt:NAME", remedy="virsh list --all shows the names")
        if not (name.isdigit() or name.startswith("-") or len(name) == 36):
            return name
        if (uuid := self.uuids().get(name)) is not None:
            return uuid
        raise QemuError(f"libvirt has no guest '{name}'", remedy="virsh list --all shows the names", rule="libvirt-refuses")

    def uuids(self) -> dict[str, str]:
        """The uuid of each guest that libvirt has, running or not, by its name."""
        rows = (line.strip().partition(" ") for line in self("list", "--all", "--uuid", "--name").splitlines())
        return {name.strip(): uuid for uuid, _, name in rows if name.strip()}

    def held(self) -> dict[str, Held]:
        """What libvirt has of all of its guests; a virsh takes longer to start than to answer, so one asks for many."""
        rows = [*self.uuids().items()]
        end = os.urandom(8).hex()  # nothing that an XML has in it
        found: dict[str, Held] = {}
        for first in range(0, len(rows), _AT_ONCE):
            part = rows[first : first + _AT_ONCE]
            asked = (f"{command} {uuid}; echo {end}" for _, uuid in part for command in _ASKED)
            replies = self("; ".join(asked)).split(end)
            for number, (name, _) in enumerate(part):
                state, kept, live = replies[number * len(_ASKED) : (number + 1) * len(_ASKED)]
                if state.strip():  # it may be gone since
                    found[name] = Held(state.strip(), kept, live)
        return found

    def knows(self, name: str) -> bool:
        return name in self("list", "--all", "--name").split("\n")

    def state(self, domain: str) -> str:
        """libvirt's word for it: ``running``, ``paused``, ``shut off``, ..."""
        return self("domstate", domain).strip()

    def facts(self, domain: str) -> dict[str, str]:
        """What ``virsh dominfo`` shows: ``{"Managed save": "no", "Persistent": "yes", ...}``."""
        rows = (line.partition(":") for line in self("dominfo", domain).splitlines())
        return {name.strip(): value.strip() for name, _, value in rows if value.strip()}

    def xml(self, domain: str, *flags: str) -> str:
        """The domain XML, secrets included; ``--inactive`` for the one of its next start."""
        return self("dumpxml", *flags, "--security-info", domain)

    def public_xml(self, domain: str) -> str:
        """The domain XML of the next start, without secrets."""
        return self("dumpxml", "--inactive", domain)

    def xml_for_file(self, domain: str) -> str:
        """The same, with an empty text where a secret is."""
        from mdtool.guest.secrets import without_secrets

        return without_secrets(self.public_xml(domain).encode(), self.xml(domain, "--inactive").encode())

    def define(self, xml: str) -> None:
        """Give libvirt an XML; a guest that runs has it from its next start on."""
        self("define", "/dev/stdin", text=xml)

    @property
    def is_local(self) -> bool:
        """Whether the guests run on this host, so that their files are this host's."""
        uri = self.connect or os.environ.get("VIRSH_DEFAULT_CONNECT_URI") or os.environ.get("LIBVIRT_DEFAULT_URI") or ""
        return "://" not in uri or uri.partition("://")[2].startswith("/")


def message(done: subprocess.CompletedProcess[bytes]) -> str:
    """virsh's message about a failure, on one line.

    >>> message(subprocess.CompletedProcess([], 1, b"", b"error: Failed to start\\nerror: no file"))
    'Failed to start; no file'
    """
    lines = done.stderr.decode(errors="replace").splitlines()
    return "; ".join(line.removeprefix("error: ") for line in lines if line.strip())
