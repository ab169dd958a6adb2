"""A libvirtd of the tests' own, which the machine's libvirt does not see and which does not see it.

The test run (its first process, before there are others) enters a mount namespace in which libvirt's folders are empty
and in memory: ``qemu:///system`` is then this libvirtd for every command that a test starts, and as many test runs as one
likes go on at the same time.  It starts with the first test that asks for it, and ends with the test run, however that
ends: a keeper outlives the test run, is the parent of everything that libvirtd starts, and ends it all.

    python tests/libvirtd.py COMMAND...     runs a command beside such a libvirtd
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

URI = "qemu:///system"
_DISPLAY = 10000 + os.getpid() % 500 * 100  # the machine's guests have the usual ports
#: in the environment: the process whose end ends libvirtd; or, after a "-", why there is none
VARIABLE = "MDTOOL_TEST_LIBVIRTD"
RUN = Path("/run/libvirt")
FOLDERS = (RUN, *map(Path, ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")))
CONFIGURATION = {
    "libvirtd.conf": 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n',
    # As root, since tests' files are root's.  No namespaces, since a root folder that is no mount point cannot have them;
    # no cgroups and no virtlogd, since both are the machine's.
    "qemu.conf": 'security_driver = "none"\nuser = "root"\ngroup = "root"\nnamespaces = []\ncgroup_controllers = []\n'
    'stdio_handler = "file"\nremember_owner = 0\n'
    f"remote_display_port_min = {_DISPLAY}\nremote_display_port_max = {_DISPLAY + 99}\n",
}
#: libvirt looks for hooks when it starts, once: this one passes on to what a test puts beside it
HOOKS = Path("/etc/libvirt/hooks")
HOOK = '#!/bin/sh\n[ ! -x /etc/libvirt/hooks/own ] || exec /etc/libvirt/hooks/own "$@"\n'
SECONDS = 600.0  # only so that a hanging libvirtd ends the test run at last

_NEWNS, _BIND, _REC, _PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18
_NOSUID_NODEV = 2 | 4
_PDEATHSIG, _SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def isolate(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give this process and those that it starts libvirt folders of their own; what to add to the environment."""
    found = {"LIBVIRT_DEFAULT_URI": URI, "VIRSH_DEFAULT_CONNECT_URI": URI}
    if VARIABLE in environment:
        return {**found, VARIABLE: environment[VARIABLE]}
    if os.geteuid():
        return {**found, VARIABLE: "-run the tests as root, for a libvirtd of their own"}
    if _program("libvirtd") is None or _program("virsh") is None:
        return {**found, VARIABLE: "-apt-get install libvirt-daemon-system libvirt-clients"}
    try:
        _call(_libc.unshare, _NEWNS)
        _keep_mounts_private()
        for folder in FOLDERS:
            folder.mkdir(parents=True, exist_ok=True)
            _mount(b"tmpfs", folder, b"tmpfs", _NOSUID_NODEV)
            folder.chmod(0o755)
    except OSError as error:
        return {**found, VARIABLE: f"-run the tests where root may mount ({error.strerror})"}
    for name, text in CONFIGURATION.items():
        Path("/etc/libvirt", name).write_text(text)
    with Path("/etc/libvirt/libvirtd.conf").open("a") as file:
        file.write(f'host_uuid = "{uuid.uuid4()}"\n')  # another host than this one, so that guests can migrate
    HOOKS.mkdir()
    (HOOKS / "qemu").write_text(HOOK)
    (HOOKS / "qemu").chmod(0o755)
    return {**found, VARIABLE: str(os.getpid())}


def start() -> str:
    """Start libvirtd, where it does not run yet; why it does not run, or ''."""
    owner = os.environ.get(VARIABLE, "-isolate() comes first")
    if owner.startswith("-"):
        return owner[1:]
    with (RUN / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = RUN / "tests.state"
        if not state.exists():
            words = [sys.executable, __file__, "--keep", owner]
            keeper = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, text=True
            )
            assert keeper.stdout is not None
            state.write_text(keeper.stdout.read())
        return state.read_text().strip()


def stop() -> None:
    """End libvirtd and its guests, at the end of the process that isolated itself."""
    if os.environ.get(VARIABLE) != str(os.getpid()):
        return
    with suppress(OSError, ValueError), open(os.pidfd_open(int((RUN / "tests.pid").read_text())), "rb") as keeper:
        signal.pidfd_send_signal(keeper.fileno(), signal.SIGTERM)
        select.select([keeper], [], [], SECONDS)


def keep(owner: int) -> None:
    """Run libvirtd until the owner ends; the keeper's standard output is closed when it answers, or says why not."""
    (RUN / "tests.pid").write_text(str(os.getpid()))
    _call(_libc.prctl, _SUBREAPER, 1, 0, 0, 0)  # QEMU is a daemon: its parent is this process then, and not init
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=_end_with, args=(owner,), daemon=True).start()
    try:
        _own_run()
        log = Path("/var/log/libvirt/libvirtd.log")
        with log.open("w") as file:
            daemon = subprocess.Popen(
                [_program("libvirtd") or "libvirtd", "--pid-file", str(RUN / "libvirtd.pid")],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                preexec_fn=lambda: _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
            )
        answers = _answers(daemon)
        if not answers:
            print("libvirtd does not answer:", " ".join(log.read_text().split())[-500:])
        sys.stdout.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        while answers and os.waitpid(-1, 0)[0] != daemon.pid:
            pass
    finally:
        while children := _children():
            for child in children:
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            for child in children:
                with suppress(OSError):
                    os.waitpid(child, 0)


def _answers(daemon: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + SECONDS
    while daemon.poll() is None and time.monotonic() < deadline:
        if subprocess.run(["virsh", "-q", "-c", URI, "list"], capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.05)
    return False


def _end_with(owner: int) -> None:
    with suppress(OSError), open(os.pidfd_open(owner), "rb") as process:
        select.select([process], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def _children() -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def _own_run() -> None:
    """Beside libvirt's folder, /run is empty for libvirtd: it finds no systemd, D-Bus or udev of the machine there."""
    _call(_libc.unshare, _NEWNS)
    aside = Path("/var/lib/libvirt/run")
    aside.mkdir()
    _mount(bytes(RUN), aside, None, _BIND)
    _mount(b"tmpfs", Path("/run"), b"tmpfs", _NOSUID_NODEV)
    Path("/run").chmod(0o755)
    RUN.mkdir()
    _mount(bytes(aside), RUN, None, _BIND)


def _keep_mounts_private() -> None:
    """What is mounted from here on shows in this namespace alone."""
    try:
        _mount(None, Path("/"), None, _REC | _PRIVATE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _from_real_root(lambda: _mount(None, Path("/"), None, _REC | _PRIVATE))


def _from_real_root(work: Callable[[], None]) -> None:
    """The root folder of this process is no mount point (chroot): do it from the one that is, and come back."""
    here, root = (os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (".", "/"))
    below = tempfile.mkdtemp()
    try:
        os.chdir("/")
        os.chroot(below)  # the folder of this process is now outside of its root, and ".." leads all the way up
        while not os.path.samefile(".", ".."):
            os.chdir("..")
        os.chroot(".")
        work()
    finally:
        os.chdir(root)
        os.chroot(".")
        os.chdir(here)
        os.rmdir(below)
        os.close(here)
        os.close(root)


def _mount(source: bytes | None, target: Path, kind: bytes | None, flags: int) -> None:
    _call(_libc.mount, source, bytes(target), kind, ctypes.c_ulong(flags), None)


def _call(function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def main(words: list[str]) -> int:
    """The command's exit status, 125 where there is no libvirtd for it."""
    if words[:1] == ["--keep"]:
        keep(int(words[1]))
        return 0
    os.environ.update(isolate())
    if lacks := start():
        print(f"no libvirtd: {lacks}", file=sys.stderr)
        return 125
    try:
        return subprocess.run(words, check=False).returncode
    finally:
        stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
