"""``mdtool hook``"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.cli.options import options, output_arguments
from mdtool.errors import InputError, as_error
from mdtool.files import write_file

if TYPE_CHECKING:
    from mdtool.integrations.hooks import HookAnswer

DOMXML = "_hook_domxml"  # vdsm's variable, in its spelling
EXAMPLE = """\
example:
  mdtool hook libvirt --store /srv/guests -- "$@"            in /etc/libvirt/hooks/qemu
  mdtool hook kubevirt --vmi JSON --domain XML               as onDefineDomain, with the annotation mdtool/hints
  mdtool hook cloudstack --store /var/lib/mdtool             XML to XML
  mdtool hook ovirt --store /var/lib/mdtool                  edits the file of $_hook_domxml

Exit status: 0 go on, 2 do not start this guest. docs/orchestrators.md has the set-up of each.
"""

_CALLERS = {
    "libvirt": "refuse a start whose XML would give the guest other hardware than its committed description",
    "kubevirt": "onDefineDomain: put the devices where they were, by a folder or by the annotation mdtool/hints",
    "cloudstack": "the agent's XML transformer: put the devices where they were",
    "ovirt": "before_vm_start: put the devices where they were, in the file of $_hook_domxml",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    callers = parser.add_subparsers(dest="caller", metavar="CALLER", required=True)
    for name, says in _CALLERS.items():
        caller = callers.add_parser(name, help=says, description=says[0].upper() + says[1:] + ".")
        add = caller.add_argument
        add("--store", metavar="DIR", type=Path, required=name != "kubevirt", help="the folder that keeps each guest")
        says = "what an error means: 'refuse' the start (the default), or 'pass' the XML on as it is"
        add("--on-error", choices=("refuse", "pass"), default="refuse", help=says)
        if name != "libvirt":
            options(caller, "--prefer", help="which one wins where the XML puts a device elsewhere than what is kept")
        else:
            add("--log-only", action="store_true", help="say what differs, and let the guest start")
            add("words", metavar="WORD", nargs="*", help="what libvirt says: NAME OPERATION SUB-OPERATION EXTRA")
        if name == "kubevirt":
            add("--vmi", metavar="JSON", required=True, help="the VirtualMachineInstance")
            add("--domain", metavar="XML", required=True, help="the domain")
        output_arguments(caller)


def run(args: argparse.Namespace) -> int:
    given = _given(args)
    try:
        answer = _answer(args, given)
    except Exception as found:  # an unexpected error must not hold up a start either, where errors are to pass
        error = as_error(found)
        differs = error.rule == "hook-differs"
        _journal(f"{args.caller}: {error}")
        if args.log_only if differs else args.on_error == "pass":
            print(error, file=sys.stderr)
            _put(args, getattr(found, "output", None), given)
            return 0
        raise
    if answer.journal:
        _journal(f"{args.caller}: {answer.journal}")
    if answer.advice:
        print(answer.advice, file=sys.stderr)
    _put(args, answer.output, given)
    return 0


def _given(args: argparse.Namespace) -> bytes:
    """The XML that the caller gives; of oVirt, which names a file, none."""
    if args.caller == "kubevirt":
        return str(args.domain).encode(errors="surrogateescape")
    return sys.stdin.buffer.read() if args.caller in ("libvirt", "cloudstack") else b""


def _put(args: argparse.Namespace, output: str | None, given: bytes) -> None:
    """The answer, written where the caller looks for it; None for the XML as it was given."""
    if args.caller == "ovirt":
        path = Path(os.environ.get(DOMXML, ""))
        if output is not None and output.encode() != path.read_bytes():
            write_file(path, output)
    elif output is not None:
        sys.stdout.buffer.write(output.encode())
    elif args.caller != "libvirt":  # which takes nothing for that
        sys.stdout.buffer.write(given)


def _answer(args: argparse.Namespace, given: bytes) -> HookAnswer:
    from mdtool.integrations import hooks
    from mdtool.integrations.placement import Store

    if args.caller == "kubevirt":
        return hooks.kubevirt(args.vmi, args.domain, Store(args.store) if args.store is not None else None, args.prefer)
    store = Store(args.store)
    if args.caller == "libvirt":
        return hooks.libvirt(args.words, given, store)
    if args.caller == "cloudstack":
        return hooks.cloudstack(given, store, args.prefer)
    path = os.environ.get(DOMXML)
    if not path:
        raise InputError(f"{DOMXML} is not set", remedy="vdsm sets it when it calls a hook")
    return hooks.ovirt(Path(path), store, args.prefer)


def _journal(text: str) -> None:
    """A line in the host's journal, by syslog; without one it is dropped."""
    import syslog

    from mdtool.text import one_line

    syslog.openlog("mdtool", syslog.LOG_PID, syslog.LOG_DAEMON)
    for line in text.split("\n"):
        syslog.syslog(one_line(line))
