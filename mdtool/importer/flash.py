"""The firmware's flash: <loader> and <nvram>, or, where those cannot express it, the options that it came with.

    flash_xml         <loader type='pflash'> and <nvram>; "" where the flash stays in options
    flash_options     the options of both banks, with absolute paths; none where the XML says it all

A key of the format layer that shapes what the guest sees (``size``, ``offset``) has no place in the XML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mdtool.commandline.option import Option, block_keys, text_from_bag
from mdtool.commandline.placeholder.flash import path_of
from mdtool.commandline.placeholder.hostside import HostSide, OptionBag
from mdtool.errors import Report
from mdtool.importer.markup import text, yes
from mdtool.importer.option_list import OptionList

_BANKS = ("pflash0", "pflash1")
#: keys of a format that change how large the flash is, or what is in it
_SHAPES = frozenset({"size", "offset"})


def flash_xml(scripted: OptionList, host: HostSide, absolute: Callable[[str], str], report: Report) -> str:
    found = _banks(scripted, host)
    if "pflash0" not in found or _is_shaped(found, host):
        return ""
    return "".join(_element(bank, given, scripted, host, absolute, report) for bank, given in found.items())


def flash_options(scripted: OptionList, host: HostSide, absolute: Callable[[str], str]) -> list[Option]:
    found = _banks(scripted, host)
    if not found or not _is_shaped(found, host):
        return []
    options = [option for bank, given in found.items() for option in _as_options(bank, given, host, absolute)]
    secure = [option for option in scripted.all("global") if option.bag.get("driver") == "cfi.pflash01"]
    return [*options, *secure]


def _globals(scripted: OptionList) -> Iterator[tuple[str, str]]:
    for option in scripted.all("global"):
        bag = option.bag
        yield f"{bag.get('driver')}.{bag.get('property')}", str(bag.get("value", "on"))


def _banks(scripted: OptionList, host: HostSide) -> dict[str, OptionBag]:
    """The banks with their -drive or -blockdev, the first one first."""
    found = {bank: host.flash[bank] for bank in _BANKS if bank in host.flash}
    for bank in _BANKS:
        if (node := scripted.bag("machine").get(bank)) is not None and node in host.drives:
            found[bank] = host.drives[node]
    return {bank: found[bank] for bank in _BANKS if bank in found}


def _is_shaped(banks: Mapping[str, OptionBag], host: HostSide) -> bool:
    """Whether the XML has no words for a bank."""
    return host.bare_flash or any(_SHAPES & layer.keys() for given in banks.values() for layer in _layers(given.bag, host))


def _layers(bag: Mapping[str, Any], host: HostSide) -> Iterator[Mapping[str, Any]]:
    """A node and what it is made of, written inside or by name."""
    bag = block_keys(bag)
    yield bag
    below = bag.get("file")
    if isinstance(below, Mapping):
        yield from _layers(below, host)
    elif isinstance(below, str) and bag.get("if") is None and below in host.drives:
        yield from _layers(host.drives[below].bag, host)


def _element(
    bank: str, given: OptionBag, scripted: OptionList, host: HostSide, absolute: Callable[[str], str], report: Report
) -> str:
    path = path_of(given.bag, host)
    if path is None:
        return ""
    form = str(given.bag.get("format") or given.bag.get("driver") or "raw")
    form = "raw" if form in ("file", "host_device") else form
    said_form = form if form != "raw" else None
    if bank == "pflash1":
        return text("nvram", absolute(path), format=said_form)
    if not any(str(given.bag.get(key)) in ("on", "True", "true") for key in ("readonly", "read-only")):
        what = f"-{given.option.name}: the firmware's flash is opened read-only from now on"
        remedy = "keep the guest's own settings in a second flash, which is <nvram>"
        report.warn(what, at=given.option.position, remedy=remedy, rule="firmware")
    secure = any(name == "cfi.pflash01.secure" and value == "on" for name, value in _globals(scripted))
    return text("loader", absolute(path), readonly="yes", secure=yes(secure or None), type_="pflash", format=said_form)


def _as_options(bank: str, given: OptionBag, host: HostSide, absolute: Callable[[str], str]) -> Iterator[Option]:
    if given.option.name != "blockdev":
        bag = {key: value for key, value in given.bag.items() if key not in ("index", "unit")}
        bag = {"if": "pflash", "unit": bank[-1], **_with_paths(bag, host, absolute)}
        yield Option("drive", text_from_bag(bag), given.option.position)
        return
    yield from _nodes(given, host, absolute)
    yield Option("machine", f"{bank}={given.option.id}")


def _nodes(given: OptionBag, host: HostSide, absolute: Callable[[str], str]) -> Iterator[Option]:
    """A -blockdev after those that it names."""
    below = given.bag.get("file")
    if isinstance(below, str) and below in host.drives:
        yield from _nodes(host.drives[below], host, absolute)
    yield given.option.with_bag(_with_paths(given.option.bag, host, absolute))


def _with_paths(bag: Mapping[str, Any], host: HostSide, absolute: Callable[[str], str]) -> dict[str, Any]:
    """A node's keys with absolute paths of its files."""
    found: dict[str, Any] = {}
    for key, value in bag.items():
        name = key.rpartition(".")[2]
        if isinstance(value, Mapping):
            found[key] = _with_paths(value, host, absolute)
        elif name == "filename" or (name == "file" and value not in host.drives and ":" not in str(value)):
            found[key] = absolute(str(value))
        else:
            found[key] = value
    return found
