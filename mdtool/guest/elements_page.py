"""docs/elements.md, from the table: what each element and attribute of guest XML becomes.

python -m mdtool.guest.elements_page > docs/elements.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mdtool.errors import Position, Report
from mdtool.guest.elements import ROWS
from mdtool.guest.model import Guest
from mdtool.guest.table import COMMON, ElementContext, ElementRow
from mdtool.guest.xml import Element

INTRO = """\
# Elements

What mdtool makes of each element under `<devices>`, and of each attribute and child of it. Paths are short:
`driver/@queues` is the attribute `queues` of a child `<driver>`, `source/*` is `<source>` with everything inside it.

- A **property** is part of the machine description, and goes to `-device` under the same name. Words in parentheses are
  the drivers that have it; on another driver the attribute is a warning.
- A **driver** such as `virtio-net-*` ends as its transport demands: `-pci`, `-ccw` or, on virtio-mmio, `-device`; a
  transitional model adds `-transitional` or `-non-transitional` on PCI.
- The **host side** is not in the description: `mdtool launch` makes `-blockdev`, `-netdev`, `-chardev` and their like
  from the XML.
- What is **refused** is an error at its line. What is not on this page is a warning, and an error with `--strict`.

This page is generated: `python -m mdtool.guest.elements_page > docs/elements.md`.

Every element may carry:

"""


def page() -> str:
    """The whole page."""
    parts = [INTRO, table(COMMON)]
    for tag in sorted(ROWS):
        parts += [f"\n## `<{tag}>`\n\n", *section(ROWS[tag])]
    return "".join(parts)


def section(row: ElementRow) -> Iterator[str]:
    drivers = drivers_of(row)
    if any(drivers):
        yield from choices(row, drivers)
    for part in row.parts:
        yield from choices(part, drivers_of(part), f"`<{part.element}>` inside: ")
    uses = {path: how for path, how in row.uses.items() if path not in COMMON and not _common_of_part(row, path)}
    if uses:
        yield table(uses)


def choices(row: ElementRow, drivers: Mapping[str, str], prefix: str = "") -> Iterator[str]:
    chooser = row.choose if isinstance(row.choose, str) else ", ".join(f"`{path}`" for path in row.reads[:3])
    by = f" by `{chooser}`" if isinstance(row.choose, str) and chooser else f" by {chooser}" if chooser else ""
    yield f"{prefix}a device{by}:\n\n" if prefix else f"A device{by}:\n\n"
    yield "| choice | driver |\n|---|---|\n"
    for choice, driver in drivers.items():
        shown = f"`{driver}`" if driver else "the machine's own, or none"
        yield f"| {f'`{choice}`' if choice else ''} | {shown} |\n"
    yield "\n"


def drivers_of(row: ElementRow) -> Mapping[str, str]:
    """A row's drivers; where the machine decides, those of an x86 guest."""
    if not callable(row.drivers):
        return row.drivers
    element = Element(row.element, {}, Position("", 1))
    guest = Guest("", Element("domain", {}, Position("", 1)), "", None, "x86_64", "q35", None)
    return row.drivers(ElementContext(guest, element, Report()))


def table(uses: Mapping[str, str]) -> str:
    lines = [f"| `{path}` | {how} |\n" for path, how in sorted(uses.items(), key=lambda use: _order(use[0]))]
    return "".join(["| path | becomes |\n|---|---|\n", *lines])


def _order(path: str) -> tuple[bool, str]:
    """Attributes of the element first, then children by name."""
    return not path.startswith("@"), path.replace("/@", "/")


def _common_of_part(row: ElementRow, path: str) -> bool:
    return any(
        path.startswith(f"{part.element}/") and path.removeprefix(f"{part.element}/") in COMMON for part in row.parts
    )


if __name__ == "__main__":
    print(page(), end="")
