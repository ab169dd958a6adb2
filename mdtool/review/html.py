"""The machine as a page: one file without references, to search and to walk through with the keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from mdtool.review.diff import SYMBOLS
from mdtool.review.show import ChangeLine, Item, shown
from mdtool.review.svg import drawing, style


def html(items: Sequence[Item], headline: str, changes: Sequence[ChangeLine] = ()) -> str:
    """The whole page; of a change it opens on the list of ``changes``.

    Names and values come from files: everything is escaped, and a policy forbids all else.
    """
    body, width, height = drawing(items)
    only_changes = any(item.is_marked for item in items)
    tree = "".join(_branch(item, 1, only_changes=only_changes) for item in items)
    data = json.dumps(dict(_details(items)), ensure_ascii=True).replace("<", "\\u003c")
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    page = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(headline),
        policy=policy,
        style=style(),
        tree=tree,
        changes=_changes(changes),
        data=data,
        svg=f'<svg class="mdtool" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(headline)}">{body}</svg>',
    )


def _changes(changes: Sequence[ChangeLine]) -> str:
    if not changes:
        return ""
    rows = (f'<li class="{line.mark}" data-name="{escape(line.node)}">{escape(line.text)}</li>' for line in changes)
    return f'<section id="changes" aria-label="Changes"><ul>{"".join(rows)}</ul></section>'


def _details(items: Sequence[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in items:
        if item.kind != "bus":
            yield (
                item.name,
                {
                    "driver": item.driver,
                    "address": item.address,
                    "origin": item.origin,
                    "called": item.called,
                    "notes": list(item.notes),
                    "properties": {key: shown(value) for key, value in item.properties.items()},
                    "pins": {key: shown(value) for key, value in item.pins.items()},
                },
            )
        yield from _details(item.children)


def _branch(item: Item, level: int, *, only_changes: bool) -> str:
    children = item.children
    if item.kind != "bus" and len(children) == 1:
        children = children[0].children
    inner = "".join(_branch(child, level + 1, only_changes=only_changes) for child in children)
    group = f'<ul role="group">{inner}</ul>' if inner else ""
    expanded = f' aria-expanded="{str(item.is_marked or not only_changes).lower()}"' if inner else ""
    is_named = item.kind == "bus" or not (item.name.startswith(f"{item.driver}@") or item.name == item.driver)
    classes = " ".join(filter(None, (item.kind, "builtin" if item.builtin else "", item.mark)))
    words = " ".join((item.name, item.driver, item.address, item.what, item.origin, item.called, *item.notes)).lower()
    mark = f'<b class="mark">{SYMBOLS[item.mark]}</b>' if item.mark else ""
    address = f"<code>{escape(item.address)}</code>" if item.address else ""
    name = f"<strong>{escape(item.name)}</strong>" if is_named else ""
    what = f"<span>{escape(item.what if item.kind == 'bus' else item.driver)}</span>"
    return (
        f'<li role="treeitem" tabindex="-1"{expanded} class="{classes}" data-name="{escape(item.name)}" '
        f'data-words="{escape(words)}"><div class="row">{mark}{address}{name}{what}</div>{group}</li>'
    )
