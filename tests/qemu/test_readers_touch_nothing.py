"""Every reader, tried on a running guest with every kind of host side: nothing of the guest's is touched.

The guest has server and client sockets, pipes, files, logs, a TPM, shared memory, networks, an NBD export, displays and a
pid file.  Before and after: the files of its folder (inode, mode, size, content), the descriptors of its process, what its
sockets are connected to, how often somebody connected to the peers of its client sockets, and that its clients are still
served.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mdtool.commandline.option import options_from_words, words_from_options
from mdtool.launch.file import handover
from mdtool.qemu.session import session_from_source
from tests.support import run_mdtool
from tests.support_waiting import reserved_ports, until

pytestmark = pytest.mark.usefixtures("qemu")

QEMU = "qemu-system-x86_64"
KINDS = ("server", "telnet", "websocket", "client", "reconnect", "file", "pipe", "pty", "udp", "logged")


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    return listener


class Busy:
    """A QEMU with every kind of host side, and the peers of its client sockets."""

    def __init__(self, folder: Path, stack: ExitStack, how: str) -> None:
        self.folder, self.ports = folder, stack.enter_context(reserved_ports(5))
        self.qmp, self.second = folder / "qmp", folder / "qmp2"
        self.peers = {name: stack.enter_context(listening(folder / name)) for name in ("client", "reconnect", "hub")}
        self.taken: dict[str, list[socket.socket]] = {name: [] for name in self.peers}
        self._files()
        self._tpm(stack)
        words = [*self._machine(), *self._characters(), *self._networks(), *self._disks(), *self._rest()]
        if how == "file":  # what mdtool launch does by default
            made = handover(options_from_words(words))
            (folder / "machine.cfg").write_text(made.config)
            words = [*words_from_options(made.options), "-readconfig", str(folder / "machine.cfg")]
        self.process = subprocess.Popen([QEMU, *words], cwd=folder, stderr=(folder / "said").open("wb"))
        stack.callback(self._end)
        self._accept()
        until(self._greets, of=self.process, told=lambda: (folder / "said").read_text())
        self._export()
        self.clients = {name: stack.enter_context(self._client(name)) for name in ("server", "channel", "monitor")}

    # --- how it is made ------------------------------------------------------------------------------------------

    def _files(self) -> None:
        for name in ("disk", "shared", "floppy"):
            with (self.folder / name).open("wb") as file:
                file.truncate(1440 << 10 if name == "floppy" else 1 << 20)
        for name in ("pipe.in", "pipe.out"):
            os.mkfifo(self.folder / name)
        (self.folder / "dir").mkdir()
        (self.folder / "dir" / "inside").write_text("of the guest's")

    def _tpm(self, stack: ExitStack) -> None:
        self.has_tpm = shutil.which("swtpm") is not None
        if not self.has_tpm:
            return
        state = self.folder / "tpm"
        state.mkdir()
        words = ["socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={self.folder}/tpm.sock"]
        process = subprocess.Popen(["swtpm", *words])
        stack.callback(process.wait)
        stack.callback(process.terminate)
        until((self.folder / "tpm.sock").exists, of=process)

    def _machine(self) -> list[str]:
        uuid = "8e0f7c1e-7f3a-4c55-8f4d-0f4c14ad1a77"
        # Paused: what the firmware writes to logs and networks would hide what readers do.
        words = [
            "-S",
            "-nodefaults",
            "-no-user-config",
            "-machine",
            "pc-q35-7.2,accel=tcg",
            "-m",
            "64",
            "-name",
            "busy",
            "-uuid",
        ]
        words += [uuid, "-pidfile", f"{self.folder}/pid", "-D", f"{self.folder}/qemu.log", "-d", "guest_errors"]
        for path in (self.qmp, self.second):
            words += ["-qmp", f"unix:{path},server=on,wait=off"]
        return [*words, "-monitor", f"unix:{self.folder}/monitor,server=on,wait=off"]

    def _characters(self) -> list[str]:
        at, ports = self.folder, self.ports
        kinds = {
            "server": f"socket,path={at}/server,server=on,wait=off",
            "telnet": f"socket,host=127.0.0.1,port={ports[0]},server=on,wait=off,telnet=on",
            "websocket": f"socket,host=127.0.0.1,port={ports[1]},server=on,wait=off,websocket=on",
            "client": f"socket,path={at}/client",
            "reconnect": f"socket,path={at}/reconnect,reconnect=1",
            "file": f"file,path={at}/output",
            "pipe": f"pipe,path={at}/pipe",
            "pty": "pty",
            "udp": f"udp,host=127.0.0.1,port={ports[2]},localaddr=127.0.0.1,localport={ports[3]}",
            "logged": f"null,logfile={at}/serial.log",
        }
        assert tuple(kinds) == KINDS
        words = ["-device", "virtio-serial-pci,id=vs0,max_ports=16"]
        for number, (name, text) in enumerate(kinds.items(), 1):
            backend, _, rest = text.partition(",")
            words += ["-chardev", f"{backend},id=c-{name}{',' if rest else ''}{rest}"]
            words += ["-device", f"virtserialport,bus=vs0.0,nr={number},chardev=c-{name},id=p-{name},name=org.{name}"]
        words += ["-chardev", f"socket,id=c-serial,path={at}/channel,server=on,wait=off,logfile={at}/channel.log"]
        return [*words, "-device", "isa-serial,chardev=c-serial,id=serial0"]

    def _networks(self) -> list[str]:
        words = []
        kinds = (
            f"user,id=n0,hostfwd=tcp:127.0.0.1:{self.ports[4]}-:22",
            f"stream,id=n1,server=off,addr.type=unix,addr.path={self.folder}/hub",
            f"dgram,id=n2,local.type=unix,local.path={self.folder}/dgram,remote.type=unix,remote.path={self.folder}/far",
            "hubport,id=n3,hubid=0",
        )
        for number, text in enumerate(kinds):
            words += [
                "-netdev",
                text,
                "-device",
                f"virtio-net-pci,netdev=n{number},id=net{number},mac=52:54:00:00:00:0{number}",
            ]
        return [*words, "-object", f"filter-dump,id=dump0,netdev=n0,file={self.folder}/traffic.pcap"]

    def _disks(self) -> list[str]:
        at = self.folder
        words = ["-blockdev", json.dumps({"driver": "file", "node-name": "d0", "filename": f"{at}/disk"})]
        words += ["-device", "virtio-blk-pci,drive=d0,id=disk0", "-device", "virtio-scsi-pci,id=scsi0"]
        words += ["-drive", f"if=none,id=d1,format=raw,file={at}/floppy", "-device", "scsi-hd,drive=d1,bus=scsi0.0,id=hd1"]
        words += ["-fsdev", f"local,id=f0,path={at}/dir,security_model=none"]
        return [*words, "-device", "virtio-9p-pci,fsdev=f0,mount_tag=dir,id=fs0"]

    def _rest(self) -> list[str]:
        at = self.folder
        words = ["-object", f"memory-backend-file,id=m0,size=1M,mem-path={at}/shared,share=on"]
        words += ["-device", "ivshmem-plain,memdev=m0,id=shm0", "-object", "rng-random,id=r0,filename=/dev/urandom"]
        words += ["-device", "virtio-rng-pci,rng=r0,id=rng0", "-vnc", f"unix:{at}/vnc", "-device", "VGA,id=vga0"]
        if self.has_tpm:
            words += ["-chardev", f"socket,id=c-tpm,path={at}/tpm.sock", "-tpmdev", "emulator,id=t0,chardev=c-tpm"]
            words += ["-device", "tpm-crb,tpmdev=t0,id=tpm0"]
        return words

    def _export(self) -> None:
        with session_from_source(str(self.qmp)) as session:
            address = {"type": "unix", "data": {"path": str(self.folder / "nbd")}}
            session.execute("nbd-server-start", {"addr": address})
            session.execute("block-export-add", {"type": "nbd", "id": "e0", "node-name": "d0"})

    def _accept(self) -> None:
        for name, listener in self.peers.items():
            until(lambda listener=listener: select.select([listener], [], [], 0.1)[0], of=self.process)  # type: ignore[misc]
            self.taken[name].append(listener.accept()[0])

    def _greets(self) -> bool:
        return self.qmp.exists() and (self.folder / "pid").exists()

    def _client(self, name: str) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.folder / name))
        return client

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()

    # --- what must stay ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"files": dict(self._held()), "descriptors": self._descriptors(), "connected": self._connected()}

    def _held(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for path in sorted(self.folder.rglob("*")):
            held = path.lstat()
            text = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(held.st_mode) else ""
            name = str(path.relative_to(self.folder))
            yield name, (held.st_ino, held.st_mode, held.st_uid, held.st_gid, held.st_size, held.st_mtime_ns, text)

    def _descriptors(self) -> list[str]:
        """What the process has open; the passing connection of a monitor has gone when this is asked again."""
        found = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found.append(os.readlink(entry))
            except FileNotFoundError:
                continue
        return sorted(found)

    def monitored(self) -> bool:
        """Whether QEMU still has somebody at one of its QMP monitors; it notices late who has gone."""
        connected = "03"
        rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
        return any(row[5] == connected and row[7:] in ([str(self.qmp)], [str(self.second)]) for row in rows)

    def _connected(self) -> dict[str, int]:
        """How many came to the peers of the guest's client sockets since they were accepted."""
        return {name: len(select.select([peer], [], [], 0)[0]) for name, peer in self.peers.items()}

    def serves(self) -> None:
        """Every connection that there was is there still: no end of it to be read."""
        everyone = [*self.clients.values(), *(one for taken in self.taken.values() for one in taken)]
        for client in everyone:
            ready = select.select([client], [], [], 0)[0]
            assert not ready or client.recv(1, socket.MSG_PEEK), "a connection of the guest's was closed"
        assert self.process.poll() is None
        with session_from_source(str(self.second)) as session:
            assert session.execute("query-status")["status"] == "prelaunch"
            exports = session.execute("query-block-exports")
        assert [one["id"] for one in exports] == ["e0"]


class Readers:
    """The readers' command lines: by the process, by the monitor, and beside a description of the guest."""

    @classmethod
    def of(cls, pid: str, qmp: str, yaml: str) -> list[list[str]]:
        return [
            ["dump", pid], ["dump", qmp], ["dump", qmp, "-o", "again.yaml"], ["verify", yaml, pid], ["verify", yaml, qmp],
            ["verify", yaml, qmp, "--migration"], ["diff", yaml, pid], ["diff", qmp, pid], ["show", pid],
            ["show", qmp, "--html", "page.html"], ["names", pid], ["names", yaml, "--against", qmp], ["check", pid],
            ["check", yaml], ["audit", yaml, "--qemu", QEMU], ["audit", pid, "--qemu", QEMU], ["fingerprint", pid],
            ["fingerprint", yaml], ["import", pid, "--xml", "imported.xml", "-o", "imported.yaml"],
            ["hints", "export", yaml],
        ]  # fmt: skip


@pytest.fixture(params=["options", "file"])
def busy(request: pytest.FixtureRequest) -> Iterator[Busy]:
    with tempfile.TemporaryDirectory(prefix="md") as folder, ExitStack() as stack:  # short: sockets go in there
        yield Busy(Path(folder), stack, request.param)


def test_readers_touch_nothing(busy: Busy, tmp_path: Path) -> None:
    pid, qmp = f"pid:{busy.process.pid}", str(busy.qmp)
    run_mdtool("dump", qmp, "-o", "g.yaml", cwd=tmp_path)
    busy.serves()
    until(lambda: not busy.monitored())
    before = busy.state()
    worked = set()
    for words in Readers.of(pid, qmp, "g.yaml"):
        done = run_mdtool(*words, cwd=tmp_path)
        assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2), done.stderr
        if done.returncode < 2:
            worked.add(words[0])
        until(
            lambda: busy._descriptors() == before["descriptors"],
            told=lambda words=words: (
                words,
                sorted(set(busy._descriptors()) ^ set(before["descriptors"])),
                len(busy._descriptors()),
                len(before["descriptors"]),
            ),
        )  # type: ignore[misc]
        assert changed(before, busy.state()) == [], words
        busy.serves()
    with busy._client("nbd") as client:  # which QEMU greets
        assert client.recv(8) == b"NBDMAGIC"
    assert worked >= {"dump", "verify", "diff", "show", "names", "check", "audit", "fingerprint", "hints"}, worked


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What is otherwise than before, a row each."""
    rows = []
    for kind, was in before.items():
        now = after[kind]
        if isinstance(was, dict):
            rows += [(name, was.get(name), now.get(name)) for name in sorted(was | now) if was.get(name) != now.get(name)]
        elif was != now:
            rows.append((kind, sorted(set(was) ^ set(now))))
    return rows
