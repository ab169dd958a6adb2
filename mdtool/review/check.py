"""Whether QEMU would take a description, and whether a guest would be well off with it, before anybody starts it.

A check is a row: a name, what it says, the checks that must have passed before it makes sense, and a function that
yields what it finds.  An *error* is what QEMU itself refuses; a *warning* is what QEMU takes and a guest, or the next
reconcile, would stumble over.  The facts were measured on QEMU 7.2: a corpus of edits, each tried on the real one, is
part of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mdtool.errors import Errors, InputError, MdtoolError, Position, Warn
from mdtool.machine.document import Document
from mdtool.machine.positions import Positions, positions
from mdtool.records import NamedTuple, dataclass
from mdtool.review import check_places as at
from mdtool.review import check_values as of
from mdtool.review.findings import Find, Finding, Severity, Subject

if TYPE_CHECKING:
    from mdtool.qemu.introspect import Knowledge


@dataclass(frozen=True, slots=True)
class Check:
    """One row.  ``needs`` names checks that must have found nothing; ``asks`` says that a binary must be known."""

    name: str
    severity: Severity
    says: str
    find: Find
    needs: tuple[str, ...] = ()
    asks: bool = False


class Skipped(NamedTuple):
    """A check that did not run: the prerequisite that found errors, or that could not run itself; "" without a binary."""

    name: str
    failed: str = ""


@dataclass(frozen=True)
class Checked:
    """What all checks found, errors and warnings in the order of the file; and the checks that could not run."""

    errors: tuple[MdtoolError, ...] = ()
    warnings: tuple[Warn, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def done(self, *, strict: bool = False) -> None:
        """Raise Errors where there are any (with ``strict`` where there are warnings as well)."""
        found = [*self.errors]
        if strict:
            found += [InputError(w.what, at=w.at, expected=w.expected, remedy=w.remedy, rule=w.rule) for w in self.warnings]
        if found:
            raise Errors(found)


def checked(document: Document, knowledge: Knowledge | None = None) -> Checked:
    """Run every check over a description that its schema accepts (``document_from_file`` raises where it does not)."""
    run = _Run(document, knowledge)
    for check in CHECKS:
        run.resolve(check)
    order: Callable[[MdtoolError], Any] = lambda error: error.at or Position("", 0)  # noqa: E731
    skipped = tuple(Skipped(check.name, run.why[check.name]) for check in CHECKS if check.name in run.why)
    return Checked(tuple(sorted(run.errors, key=order)), tuple(sorted(run.warnings, key=order)), skipped)


class _Run:
    """One run over a description: a check runs once, after its prerequisites, wherever they stand in the table."""

    def __init__(self, document: Document, knowledge: Knowledge | None) -> None:
        self.document, self.file = document, document.file
        self.subject = Subject(document.tree, knowledge)
        self.errors: list[MdtoolError] = []
        self.warnings: list[Warn] = []
        self.passed: dict[str, bool] = {}
        self.why: dict[str, str] = {}  # check that did not run -> the prerequisite that failed

    @cached_property
    def where(self) -> Positions:
        """Where everything stands, which costs more than all checks that find nothing."""
        return positions(self.document)

    def resolve(self, check: Check) -> bool:
        """Whether a check, with all that it builds on, found no error."""
        if check.name in self.passed:
            return self.passed[check.name]
        failed = next((name for name in check.needs if not self.resolve(BY_NAME[name])), None)
        if failed is not None or (check.asks and self.subject.knowledge is None):
            self.why[check.name] = failed or ""
            self.passed[check.name] = failed is None  # without a binary nothing is known against it
        else:
            self.passed[check.name] = self._found_nothing(check)
        return self.passed[check.name]

    def _found_nothing(self, check: Check) -> bool:
        before = len(self.errors)
        for finding in check.find(self.subject):
            at = _position(self.where, finding, self.file)
            error = {"at": at, "expected": finding.expected, "remedy": finding.remedy, "rule": check.name}
            if check.severity == "error":
                self.errors.append(InputError(finding.what, **error))  # type: ignore[arg-type]
            else:
                self.warnings.append(Warn(finding.what, **error))  # type: ignore[arg-type]
        return len(self.errors) == before


def _position(where: Positions, finding: Finding, file: str) -> Position:
    """The key's position; where the description does not say the key, the node's."""
    for key in (finding.key, finding.key.rstrip(":").rpartition(".")[0], ""):
        if (at := where.get((finding.node, key))) is not None:
            return at
    return Position(file, 1)


#: in the order in which they are listed; each runs after those that it needs
CHECKS: tuple[Check, ...] = (
    Check("machine-versioned", "warning", "the machine type is a versioned one, never an alias", of.machine_versioned),
    Check("machine-known", "error", "the binary has the machine type", of.machine_known, asks=True),
    Check("cpu-topology", "error", "sockets, cores and threads multiply to the number of CPUs", of.cpu_topology),
    Check("id-unique", "error", "no id is given twice", of.id_unique),
    Check("driver-known", "error", "the binary has the driver, and -device takes it", of.driver_known, asks=True),
    Check("bus-known", "error", "the machine type has the bus", at.bus_known),
    Check("bus-provided", "error", "a bus is one that its device provides, named by the device's id", at.bus_provided),
    Check("bus-type", "error", "a bus is of the type that its device makes", at.bus_type, ("bus-provided",)),
    Check("bus-holds", "error", "a device sits on a bus that can hold it", at.bus_holds, ("bus-type",)),
    Check("only-bridges", "error", "a PCI expander holds ports and bridges only", at.only_bridges),
    Check("address-form", "error", "an address is in the notation of its bus", at.address_form, ("bus-holds",)),
    Check("address-range", "error", "a bus has the address", at.address_range, ("address-form", "bus-holds")),
    Check("address-taken", "error", "no two devices are at one address", at.address_taken, ("address-form",)),
    Check("address-shared", "warning", "no two devices answer at one address, where QEMU lets them", at.address_shared),
    Check("address-reserved", "error", "no address of the machine's own devices", at.address_reserved, ("address-form",)),
    Check("multifunction", "error", "function 0 of a shared slot is multifunction", at.multifunction, ("address-taken",)),
    Check("function-zero", "warning", "a slot in use has a function 0", at.function_zero, ("address-form",)),
    Check("port-slot", "warning", "what sits behind a PCI Express port is at slot 00", at.port_slot, ("address-form",)),
    Check("express", "warning", "a PCI Express device sits on a PCI Express bus", at.express, ("bus-holds",)),
    Check("usb-port", "error", "a USB controller or hub has the port", at.usb_port, ("address-form", "bus-holds")),
    Check("usb-speed", "error", "a USB port has a speed that the device can use", at.usb_speed, ("usb-port",)),
    Check("single", "error", "there is one of what a machine can have one of", of.single),
    Check("chassis-unique", "error", "no two PCI Express ports share chassis and slot", of.chassis_unique),
    Check("chassis-given", "error", "a pci-bridge has a chassis number", of.chassis_given),
    Check("bridge-unique", "warning", "no two pci-bridges share a chassis number", of.bridge_unique, ("chassis-given",)),
    Check("bootindex-unique", "error", "no bootindex is given twice", of.bootindex_unique),
    Check("acpi-index-unique", "error", "no acpi-index is given twice", of.acpi_index_unique),
    Check("port-name-unique", "error", "no two virtio-serial ports share a name", of.port_name_unique),
    Check("mac-form", "error", "a MAC is six bytes", of.mac_form),
    Check("block-size", "error", "no logical block is larger than a physical one", of.block_size),
    Check("mac-unique", "warning", "no MAC is given twice", of.mac_unique),
    Check("host-side", "warning", "no host side in the description", of.host_side),
    Check("credential", "warning", "no secret of the guest stands in the description in the clear", of.credential),
    Check("property-known", "error", "the driver has the property", of.property_known, ("driver-known",), asks=True),
    Check("property-value", "error", "the property takes the value", of.property_value, ("driver-known",), asks=True),
    Check("retired-free", "warning", "no device sits at an address that is kept for another", at.retired),
)  # fmt: skip
BY_NAME: Mapping[str, Check] = {check.name: check for check in CHECKS}
