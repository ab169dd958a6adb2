"""A script that is run, with programs in QEMU's place that record their arguments: ``mdtool import --run SCRIPT``.

Everything else that the script does, it does: it is run in an empty folder of its own, without a terminal, and what it
would do as root (``sudo``, ``doas``, ``pkexec``) it does as who runs mdtool.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote

from mdtool.commandline.script import Command, Word
from mdtool.errors import InputError, Position, Report, Warned
from mdtool.files import bytes_from_file, on_path
from mdtool.text import pattern

SECONDS = 60
_PROGRAMS = ("qemu-kvm", "kvm", "qemu")
#: what keeps a script from finding the programs in QEMU's place: a whole path, another PATH, a shell that makes its own
_ELSEWHERE = pattern(
    r"(?<![\w$}*])(/[\w./+-]*/(?:qemu-system-[\w-]+|qemu-kvm|kvm)(?![\w/.-]))"
    r"|(?<![\w$])PATH=([^\s;&|]*)|\b(?:ba|da|z)?sh[ \t]+(?:-\w*l|--login)|\benv[ \t]+-i"
)
#: writes the folder, standard input where QEMU reads it, and the words, each with a NUL behind it
_RECORD = """#!/bin/sh
before=; for word; do case "$word" in
  -version|--version|-help|--help|-h) exec {real} "$word" ;;
  help|*,help|\\?) case "$before" in -name|-append|[!-]*) ;; -*) exec {real} "$before" "$word" ;; esac ;;
esac; before=$word; done
for word; do [ "$word" != /dev/stdin ] || cat > "{folder}/$$.stdin"; done
{{ printf '%s\\0' "$PWD" "{name}"; for word; do printf '%s\\0' "$word"; done; }} > "{folder}/$$.part"
mv "{folder}/$$.part" "{folder}/$$.words"
"""
#: programs that may not be here, may not be run by anyone, or start others elsewhere, where they are not found by PATH
_WRAPPERS = ("numactl", "taskset", "chrt", "cgexec", "systemd-run", "firejail", "setpriv", "su", "runuser", "screen", "gdb",
             "ip", "unshare", "nsenter")  # fmt: skip
_WRAPPER = """#!/bin/sh
before=; n=0; for word; do n=$((n + 1)); case "$before {name}" in "-c su"|"-c runuser") exec sh -c "$word" ;; esac
before=$word; case "${{word##*/}}" in qemu-system-*|qemu-kvm|kvm|qemu)
  [ ! -x "{programs}/${{word##*/}}" ] || {{ shift $n; exec "{programs}/${{word##*/}}" "$@"; }} ;;
esac; done
exec {real} "$@"
"""
_AS_ROOT = """#!/bin/sh
while :; do case "$1" in
  -u|-g|-U|-C|-h|-p) shift 2 ;;
  -*|*=*) case "$1" in *=*) export "$1" ;; esac; shift ;;
  *) break ;;
esac; done
exec "$@"
"""


def command_by_running(path: str, report: Report, say: Warned) -> Command:
    """QEMU's command line, from a run of the script; ``say`` is called before it is run.

    Raises InputError where the script starts no QEMU, does not end, or would start QEMU itself.
    """
    text = bytes_from_file(path).decode(errors="replace")
    for found in _ELSEWHERE.finditer(text):
        if not found[1] or _is_program(found[1]) if not found[2] else _hides(found[2]):
            at = Position(path, text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start()))
            what = (
                f"{found[0].strip()} would start QEMU itself: a script that is run must find it by its name, first on PATH"
            )
            raise InputError(what, at=at, rule="script-run")
    with tempfile.TemporaryDirectory(prefix="mdtool-run-") as name:
        folder = Path(name)
        for part in ("bin", "words", "run"):
            (folder / part).mkdir()
        _programs(folder)
        say(f"running {path} in {folder / 'run'}, with programs in QEMU's place that start nothing")
        _run(path, folder)
        found_words = sorted((folder / "words").glob("*.words"), key=lambda file: file.stat().st_mtime_ns)
        if not found_words:
            raise InputError(f"{path} was run and started no QEMU", at=Position(path, 1), rule="script-qemu")
        if len(found_words) > 1:
            what = f"the script starts {len(found_words)} QEMUs, and the first was taken"
            report.warn(what, at=Position(path, 1), rule="script-qemu")
        return _command(found_words[0], path, str(folder / "run"))


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _hides(value: str) -> bool:
    """Whether a QEMU may be found in a PATH before the programs in its place.

    >>> _hides("$PATH:/opt"), _hides("/nowhere:${PATH}"), _hides("$HOME/bin:$PATH")
    (False, False, True)
    """
    for folder in value.strip("\"'").split(":"):
        if folder in ("$PATH", "${PATH}", ""):
            return False
        if "$" in folder or any(map(_is_program, map(str, Path(folder).glob("*[qk][ev]m*")))):
            return True
    return False


def _programs(folder: Path) -> None:
    """The programs in place of others, first on PATH."""
    names = {*_PROGRAMS, *_on_path()}
    texts = {
        name: _RECORD.format(real=quote(on_path(name) or "false"), folder=folder / "words", name=name) for name in names
    }
    texts |= {
        name: _WRAPPER.format(name=name, real=quote(on_path(name) or "false"), programs=folder / "bin")
        for name in _WRAPPERS
    }
    texts |= dict.fromkeys(("sudo", "doas", "pkexec"), _AS_ROOT)
    for name, text in texts.items():
        file = folder / "bin" / name
        file.write_text(text)
        file.chmod(0o755)


#: architectures of QEMU whose programs a script may name though this host has none of them
_ARCHS = ("aarch64", "arm", "i386", "loongarch64", "m68k", "mips", "mips64", "mips64el", "mipsel", "ppc", "ppc64",
          "riscv32", "riscv64", "s390x", "sparc", "sparc64", "x86_64")  # fmt: skip


def _on_path() -> Iterator[str]:
    yield from (f"qemu-system-{arch}" for arch in _ARCHS)
    for folder in os.get_exec_path():
        if os.path.isdir(folder):
            yield from (name for name in os.listdir(folder) if name.startswith("qemu-system-"))


def _run(path: str, folder: Path) -> None:
    """Run it in a session of its own, which ends with it."""
    script = os.path.abspath(path)
    with open(script, "rb") as file:
        line = file.readline(200)
    shell = line[2:].decode(errors="replace").split() if line.startswith(b"#!") else ["bash"]
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', os.defpath)}"}
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(
            [*shell, script],
            cwd=folder / "run",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        process.wait(SECONDS)
        _in_the_background(process.pid, folder / "words")
    except subprocess.TimeoutExpired:
        if not any((folder / "words").glob("*.words")):
            what = f"{path} did not end within {SECONDS} s, and started no QEMU"
            raise InputError(what, at=Position(path, 1), rule="script-run") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _in_the_background(group: int, words: Path) -> None:
    """Wait until a QEMU that the script left behind has written its words, or nothing of the script runs any more."""
    last = time.monotonic() + SECONDS / 6
    with suppress(ProcessLookupError):
        while not any(words.glob("*.words")) and time.monotonic() < last:
            os.killpg(group, 0)
            time.sleep(0.02)


def _command(words: Path, path: str, scratch: str) -> Command:
    folder, *said = words.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    if folder == scratch:  # where the script was run, and did not go elsewhere: where it is run from
        folder = os.getcwd()
    at = Position(path, 1)
    stdin = words.with_suffix(".stdin")
    given = Word(stdin.read_text(errors="replace"), at) if stdin.exists() else None
    return Command(tuple(Word(text.replace(scratch, os.getcwd()), at) for text in said), folder, stdin=given)
