"""What of a survivor follows from its place, and what of it the XML says."""

from __future__ import annotations

from mdtool.guest.allocation.needs import need_of
from mdtool.guest.model import Address, Wanted
from mdtool.machine.buses.addresses import key_names
from mdtool.machine.buses.kinds import kind_of_driver
from mdtool.machine.drivers import same_driver
from mdtool.machine.tree import Node, Properties
from mdtool.records import replace


def with_facts(have: Address | None, want: Address | None) -> Address | None:
    """The place of a survivor, with what the XML says of it beside its numbers: ``multifunction``, a DIMM's base."""
    if have is None or want is None or have.type != want.type:
        return have
    more = {name: value for name, value in want.numbers.items() if name not in key_names(have.type)}
    numbers = {name: value for name, value in have.numbers.items() if name != "alone" or "multifunction" not in more}
    return Address(have.type, {**numbers, **more})


def computed_properties(w: Wanted, node: Node) -> frozenset[str]:
    """The properties that follow from the place, and that no person wrote; that a slot is shared is a fact all the same."""
    needed = {"multifunction"} if node.properties.get("multifunction") is True else set()
    return frozenset(node.properties.keys() - w.properties.keys() - needed)


#: what is recorded of the XML beside properties, and what an XML with addresses filled in says otherwise than one without
_OF_THE_XML = ("@address", "@implied")


def recorded_again(now: Properties, before: Properties) -> Properties:
    """The record of a device that stays as it is: an XML with every address filled in and one without are the same guest.

    It stays recorded where it last gave an address, and that a controller, which the other one lists, was implied.
    """
    return {**now, **{name: before[name] for name in _OF_THE_XML if name in before and name not in now}}


def same_slot(w: Wanted, node: Node) -> bool:
    """Whether the model that is wanted goes where the other one is: not from USB to SCSI, nor from PCI Express to PCI.

    libvirt distinguishes the latter two; QEMU, which alone places a device of ``<qemu:commandline>``, does not.
    """
    if same_driver(node.driver, w.driver):
        return True
    if kind_of_driver(node.driver) is not kind_of_driver(w.driver):
        return False
    return w.kind == "commandline" or need_of(w) == need_of(replace(w, driver=node.driver))


def is_renamed(new: Node, old: Node) -> bool:
    """Whether a device of another model has another id, since its kind is named after its place."""
    return not same_driver(new.driver, old.driver) and new.id != old.id
