"""``--via file``: the machine as a file that QEMU reads itself (Solution 4 of 2009, ``-readconfig``).

    [device "net0"]
      driver = "virtio-net-pci"
      bus = "pci.1"
      addr = "0x0"
      mac = "52:54:00:11:22:33"

QEMU's reader takes lines of less than 1,024 characters, values without a quote, and the groups of
``commandline.table.GROUPS``; it takes some more groups and ignores them (``smbios``, ``msg``, ``overcommit``), so these
stay options.  Secrets never enter the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdtool.commandline.option import Option, is_flat, plain_text
from mdtool.commandline.table import GROUPS
from mdtool.launch.device import Handover

#: groups that QEMU keeps one of, without an id
_SINGLE = frozenset({"name", "machine", "m", "smp", "boot", "rtc"})
_LINE = 1000  # QEMU's buffer is 1,024 bytes a line
#: -netdev types whose options are a list of sockets, which only JSON can say
_NESTED = frozenset({"stream", "dgram"})


def handover(options: Sequence[Option]) -> Handover:
    """What can be in the file is in the file; the rest keeps its order on the command line."""
    held: dict[str, list[Option]] = {name: [] for name in GROUPS}
    rest: list[Option] = []
    left_buses: set[str] = set()  # buses of devices that stay options: what sits on them must come after them
    for option in options:
        if _fits(option) and not _sits_on(option, left_buses):
            held[option.name].append(option)
        else:
            if option.name == "device" and option.id is not None:
                left_buses.add(option.id)
            rest.append(option)
    text = "".join(group for name, found in held.items() for group in _groups(name, found))
    return Handover(tuple(rest), config=text)


def _fits(option: Option) -> bool:
    if option.name not in GROUPS:
        return False
    bag = option.bag
    return (
        is_flat(bag)
        and not str(bag.get("qom-type", "")).startswith("secret")
        and not (option.name == "netdev" and bag.get("type") in _NESTED)
        and "password" not in bag
        and all(_writable(key, value) for key, value in bag.items())
    )


def _writable(key: str, value: Any) -> bool:
    text = plain_text(value)
    if key == "id" and not 0 < len(text.encode(errors="surrogatepass")) < 64:
        return False
    fits = len(key.encode(errors="surrogatepass")) < 64 and len(text.encode(errors="surrogatepass")) < _LINE
    return fits and not set(text) & set('"\n') and not set(key) & set("= \t")


def _sits_on(option: Option, ids: set[str]) -> bool:
    bus = str(option.bag.get("bus", "")) if option.name == "device" else ""
    return bus in ids or bus.rpartition(".")[0] in ids


def _groups(name: str, options: Sequence[Option]) -> list[str]:
    if name in _SINGLE and options:
        merged: dict[str, Any] = {}
        for option in options:
            merged |= option.bag
        return [group(GROUPS[name], None, merged)]
    found = []
    for option in options:
        bag = dict(option.bag)
        id = bag.pop("id", None)
        found.append(group(GROUPS[name], id, bag))
    return found


def group(kind: str, id: str | None, bag: Mapping[str, Any]) -> str:
    """One group of the file.

    >>> print(group("device", "net0", {"driver": "e1000", "addr": "0x3"}), end="")
    [device "net0"]
      driver = "e1000"
      addr = "0x3"
    <BLANKLINE>
    """
    head = f'[{kind} "{id}"]' if id is not None else f"[{kind}]"
    lines = [f'  {key} = "{plain_text(value)}"' for key, value in bag.items()]
    return "\n".join([head, *lines, "", ""])
