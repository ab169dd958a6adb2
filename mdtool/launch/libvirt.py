"""``--via libvirt``: the guest XML with every place written down, defined and started through virsh.

libvirt keeps the addresses that an XML has.  What it has no XML for (a property that was set manually, a pinned one
that this QEMU would choose otherwise) goes into ``<qemu:override>``, which libvirt matches by alias, and only by an alias
of the user's (``ua-...``).  The guest is started paused, its QEMU is dumped through libvirt and compared, and only then is
the guest resumed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mdtool.compare import Difference, comparison, guest_visible
from mdtool.errors import ConflictError, MdtoolError, QemuError
from mdtool.guest.alias import USER
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.platform.units import SIZES
from mdtool.guest.secrets import with_secrets
from mdtool.guest.write import xml_with_places
from mdtool.guest.xml import Element, element_from_bytes
from mdtool.launch.run import Differs, Settings, alone, managed_save
from mdtool.launch.signals import signals_end_it
from mdtool.launch.start import Say, silent
from mdtool.machine.buses.arguments import device_arguments
from mdtool.machine.buses.providers import controller_of, libvirt_index
from mdtool.machine.document import tree_with
from mdtool.machine.tree import MANUAL, Tree, Value
from mdtool.machine.values import integer, same
from mdtool.qemu.refusals import error_from_words
from mdtool.qemu.virsh import Virsh

NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
#: id of a device -> property -> value
Overrides = Mapping[str, Mapping[str, Value]]


# --- the XML -------------------------------------------------------------------------------------------------------


def xml_for_libvirt(source: bytes, guest: Guest, tree: Tree, wanted: Sequence[Wanted], overrides: Overrides) -> str:
    """The guest XML with an address for every device, ``<qemu:override>`` for ``overrides``, and ``<qemu:commandline>``
    for devices that only the description has.
    """
    tree = _with_origins(tree)
    text = xml_with_places(source, guest, tree, wanted, aliases="ua")

    def needed(found: re.Match[str]) -> str:
        id = found[1].removeprefix(USER)
        return found[0] if id in overrides or found[1].encode() in source else ""

    text = re.sub(r"\s*<alias name=['\"](ua-[^'\"]*)['\"]\s*/>", needed, text)
    more = [*_manual(tree), *(_overrides(overrides) if overrides else ())]
    end = text.rindex("</domain>")
    return text[:end] + "".join(more) + text[end:] if more else text


def _with_origins(tree: Tree) -> Tree:
    """Ports and controllers of a dumped machine stand for no element yet; libvirt must get them in the XML."""
    return tree_with(
        tree,
        {
            place.name: {"origin": f"controller/{type_}/{index}"}
            for place in tree.places
            if place.node.origin is None and (type_ := controller_of(place.node.driver)[0])
            if (index := libvirt_index(place.node, type_)) is not None
        },
    )


def _manual(tree: Tree) -> Iterator[str]:
    """``-device`` for what no XML element stands for, what provides a bus first: libvirt puts them behind its own."""
    manual = [
        place
        for place in tree.places
        if place.node.origin == MANUAL or (place.node.origin is None and place.node.id is not None)
    ]
    if not manual:
        return
    from xml.sax.saxutils import quoteattr  # all of urllib comes with it

    yield f"  <qemu:commandline xmlns:qemu='{NAMESPACE}'>\n"
    for place in manual:
        made = device_arguments(place.bus.name if place.bus else None, place.node, place.parent)
        yield f"    <qemu:arg value='-device'/>\n    <qemu:arg value={quoteattr(json.dumps(made))}/>\n"
    yield "  </qemu:commandline>\n"


def _overrides(overrides: Overrides) -> Iterator[str]:
    from xml.sax.saxutils import quoteattr

    yield f"  <qemu:override xmlns:qemu='{NAMESPACE}'>\n"
    for id, properties in sorted(overrides.items()):
        yield f"    <qemu:device alias={quoteattr(id if id.startswith(USER) else USER + id)}>\n      <qemu:frontend>\n"
        for name, value in sorted(properties.items()):
            kind, text = _typed(value)
            yield f"        <qemu:property name={quoteattr(name)} type='{kind}' value={quoteattr(text)}/>\n"
        yield "      </qemu:frontend>\n    </qemu:device>\n"
    yield "  </qemu:override>\n"


def _typed(value: Value) -> tuple[str, str]:
    """A value in the words of ``<qemu:property>``."""
    if isinstance(value, bool):
        return "bool", "true" if value else "false"
    if isinstance(value, int):
        return ("unsigned" if value >= 0 else "signed"), str(value)
    return "string", str(value)


def manual_overrides(tree: Tree, wanted: Sequence[Wanted]) -> dict[str, dict[str, Value]]:
    """Alias -> the properties that were set in the description, and that no element of libvirt's says."""
    asked = {want.origin: want.properties for want in wanted}
    found: dict[str, dict[str, Value]] = {}
    for place in tree.places:
        node = place.node
        if node.id is None or node.origin not in asked:
            continue
        xml = {**node.applied, **asked[node.origin]}
        more = {k: v for k, v in node.properties.items() if k not in xml or not same(v, xml[k])}
        if more:
            found[node.id] = more
    return found


def dropped(given: bytes, kept: bytes) -> list[str]:
    """What the XML said and libvirt did not keep, ``devices/interface/foo@bar=1``; numbers and sizes by their value."""
    before, after = (Counter(_facts(element_from_bytes(text, "XML"), "")) for text in (given, kept))
    return sorted((before - after).elements())


#: what libvirt writes in its own words, by its path: the sizes are rounded, and an <alias> of its own is its own affair
_CANONICAL = frozenset({"memory", "currentMemory", "maxMemory", "memtune", "uuid", "description"})
_SIZES = frozenset({"memory", "size", "block", "requested", "current", "label"})  # in bytes where there is a @unit


def _facts(element: Element, path: str) -> Iterator[str]:
    for child in element:
        here = f"{path}/{child.tag}".removeprefix("/")
        if here in _CANONICAL or child.tag == "alias":
            continue
        unit = child.attributes.get("unit")
        for name, value in child.attributes.items():
            if name != "unit":
                yield f"{here}@{name}={_plain(value, unit if name in _SIZES else None)}"
        if child.text:
            yield f"{here}={_plain(child.text, unit)}"
        elif not child.attributes and not child.children:
            yield here
        yield from _facts(child, here)


def _plain(text: str, unit: str | None) -> str:
    """A number in decimal, a size in bytes, anything else as it is.

    >>> _plain("0x10", None), _plain("1", "MiB"), _plain("on", None)
    ('16', '1048576', 'on')
    """
    with suppress(ValueError):
        return str(integer(text) * SIZES.get((unit or "b").lower(), 1))
    return text


# --- the launch ----------------------------------------------------------------------------------------------------


def launched_by_libvirt(
    guest: Guest,
    tree: Tree,
    wanted: Sequence[Wanted],
    *,
    connect: str | None = None,
    settings: Settings | None = None,
) -> None:
    """Define, start paused, compare, resume.  Raises Differs where the machine is another one, after it was ended.

    A property that libvirt's QEMU has otherwise than the description is overridden, and the guest started once more.
    Where it fails, what libvirt had under the name before is put back.  Refuses a guest whose memory libvirt has saved.
    """
    with signals_end_it(), alone(guest):
        _launched(Virsh(connect), guest, tree, wanted, settings or Settings())


def xml_to_define(guest: Guest, tree: Tree, wanted: Sequence[Wanted], uuid: object) -> Callable[..., str]:
    """What makes the XML for libvirt from overrides; ``uuid`` is the guest's where its XML does not have it."""

    def text(overrides: Overrides) -> str:
        made = xml_for_libvirt(guest.source, guest, tree, wanted, overrides)
        # libvirt would think of another one, and the guest sees it
        return with_uuid(made.encode(), str(uuid)).decode() if guest.uuid is None and uuid else made

    return text


def check_before(virsh: Virsh, guest: Guest) -> str | None:
    """libvirt's XML of the guest that is to be started, None where it has none.

    Raises ConflictError where it runs, and where its memory is saved.
    """
    if not virsh.knows(guest.name):
        return None
    domain = virsh.named(guest.name)
    if virsh.state(domain) != "shut off":
        remedy = f"virsh shutdown {guest.name}"
        raise ConflictError(f"libvirt runs guest '{guest.name}' already", remedy=remedy, rule="already-runs")
    if virsh.facts(domain).get("Managed save") == "yes":
        raise managed_save(guest.name)
    return virsh.xml(domain, "--inactive")


def _launched(virsh: Virsh, guest: Guest, tree: Tree, wanted: Sequence[Wanted], settings: Settings) -> None:
    before = check_before(virsh, guest)
    known = tree.guest.get("uuid") or (_uuid(before) if before else None)
    text = xml_to_define(guest, tree, wanted, known)
    overrides = manual_overrides(tree, wanted)
    begun = False
    say = settings.say
    try:
        domain = _defined(virsh, guest, text(overrides), say)
        begun = True  # from here on a guest of this name that runs is ours
        found = _started(virsh, guest, tree, wanted, say)
        if more := _overridable(found, tree):
            merged = {id: {**overrides.get(id, {}), **more.get(id, {})} for id in {*overrides, *more}}
            say("pinned by <qemu:override>: " + ", ".join(f"{i}.{name}" for i in more for name in more[i]))
            virsh("destroy", domain)
            _defined(virsh, guest, text(merged), silent)
            found = _started(virsh, guest, tree, wanted, silent)
        if guest_visible(found):
            raise Differs(found)
        settings.checked()
        for difference in found:
            say(f"warning: {difference} ({difference.severity})")
        if not settings.paused:
            virsh("resume", domain)
    except BaseException:
        if begun:
            with suppress(MdtoolError):
                virsh("destroy", domain)
        with suppress(MdtoolError):
            _put_back(virsh, guest.name, before)
        raise
    settings.runs()


def _uuid(text: str) -> str | None:
    return element_from_bytes(text.encode(), "libvirt").get("uuid")


def with_uuid(source: bytes, uuid: str) -> bytes:
    """A guest XML that has no <uuid>, with one after its <name>.

    >>> with_uuid(b"<domain><name>a</name></domain>", "1b")
    b'<domain><name>a</name><uuid>1b</uuid></domain>'
    """
    name = element_from_bytes(source, "XML").first("name")
    end = name.span[1] if name is not None else source.index(b">", source.index(b"<domain")) + 1
    return source[:end] + f"<uuid>{uuid}</uuid>".encode() + source[end:]


def define_with_secrets(virsh: Virsh, name: str, text: str, say: Say) -> None:
    """Define a guest; secrets that libvirt has of it and does not show (a VNC password) stay."""
    if virsh.knows(name):
        domain = virsh.named(name)
        public, full = (xml.encode() for xml in (virsh.public_xml(domain), virsh.xml(domain, "--inactive")))
        text, lost = with_secrets(text.encode(), public, full)
        for what in lost:
            say(f"warning: libvirt loses {what}")
    virsh.define(text)


def _defined(virsh: Virsh, guest: Guest, text: str, say: Say) -> str:
    """Define the guest; what stands for it in virsh's commands."""
    define_with_secrets(virsh, guest.name, text, say)
    domain = virsh.named(guest.name)
    for fact in dropped(text.encode(), virsh.xml(domain, "--inactive").encode()):
        say(f"warning: libvirt did not keep {fact}")
    return domain


def _started(virsh: Virsh, guest: Guest, tree: Tree, wanted: Sequence[Wanted], say: Say) -> list[Difference]:
    """Start paused; what the machine then has otherwise than the description."""
    from mdtool.qemu.dump import dump
    from mdtool.qemu.session import session_from_source

    try:
        virsh("start", "--paused", virsh.named(guest.name))
    except QemuError as error:
        raise refusal(error, guest, tree, wanted) from None
    with session_from_source(f"libvirt:{guest.name}", connect=virsh.connect) as session:
        found, compared = comparison(tree, dump(session))
    say(f"{guest.name}: {compared}")
    return found


def refusal(error: QemuError, guest: Guest, tree: Tree, wanted: Sequence[Wanted]) -> QemuError:
    """libvirt's refusal at the XML's line of the device that it, or QEMU through it, speaks about."""
    if words := re.search(r"\S*qemu-system-\S+: .*", error.what):
        lines = {want.origin: want.position for want in wanted if want.position is not None}
        at = {place.node.id: lines[o] for place in tree.places if place.node.id and (o := place.node.origin) in lines}
        behind = {f"{kind}{id}": position for id, position in at.items() for kind in ("char", "host", "drive-")}
        screens = {f"-{one.get('@type')}": one.position for one in guest.devices if one.tag == "graphics"}
        return error_from_words(words[0], {**screens, **behind, **at})
    named = set(re.findall(r"'([^']+)'", error.what)) - {guest.name}
    found = next((one for one in guest.devices if named & set(_values(one))), None)
    return QemuError(error.what, at=found.position if found is not None else None, rule=error.rule)


def _values(element: Element) -> Iterator[str]:
    yield from element.attributes.values()
    for child in element:
        yield from _values(child)


def _overridable(found: Sequence[Difference], tree: Tree) -> dict[str, dict[str, Any]]:
    more: dict[str, dict[str, Any]] = {}
    for difference in guest_visible(found):
        place = tree.by_name.get(difference.node)
        is_property = difference.property not in ("", "address", "driver", "type", "id")
        if place is not None and place.node.id == difference.node and is_property:
            more.setdefault(difference.node, {})[difference.property] = difference.want
    return more


def _put_back(virsh: Virsh, name: str, before: str | None) -> None:
    if before is not None:
        virsh.define(before)
        return
    domain = virsh.named(name)
    try:  # UEFI variables and the TPM's state are the guest's: it may have had them from launches of ours
        virsh("undefine", "--keep-nvram", "--keep-tpm", domain)
    except QemuError:  # libvirt before 8.9 knows no --keep-tpm
        virsh("undefine", "--keep-nvram", domain)
