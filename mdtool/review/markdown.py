"""A diff for a pull request's comment: a table of what the guest will notice, then all of it, folded."""

from __future__ import annotations

from collections.abc import Iterable

from mdtool.review.diff import ADDED, CHANGED, MOVED, REMOVED, RENAMED, REPLACED, Diff, NodeChange


def markdown(diff: Diff) -> str:
    """GitHub's and GitLab's Markdown; one line where nothing differs."""
    if not diff:
        return "The guest sees the same machine.\n"
    seen = diff.visible
    rest = [change for change in diff.changes if change not in seen]
    lines = [f"**{_cell(diff.summary())}**", ""]
    if seen:
        lines += _table(seen)
    else:
        lines.append("The guest sees the same machine.")
    if rest:
        lines += [
            "",
            f"<details><summary>{len(rest)} more, which no guest notices</summary>",
            "",
            *_table(rest),
            "",
            "</details>",
        ]
    return "\n".join(lines) + "\n"


#: kind of change -> what its two values are
_WHAT = {ADDED: "place", REMOVED: "place", MOVED: "place", REPLACED: "driver", RENAMED: "id", CHANGED: ""}


def _table(changes: Iterable[NodeChange]) -> list[str]:
    rows = ["| | device | what | before | after |", "|---|---|---|---|---|"]
    for change in changes:
        device = f"`{_cell(change.node)}`" + (f" {_cell(change.driver)}" if change.driver else "")
        before, after = ("" if value is None else f"`{_cell(value)}`" for value in (change.old, change.new))
        rows.append(f"| {change.kind} | {device} | {_cell(change.property) or _WHAT[change.kind]} | {before} | {after} |")
    return rows


def _cell(value: object) -> str:
    """Text of a file in a cell: no row, no code and no tag of its own."""
    text = " ".join(str(value).split())
    for char, code in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;"), ("@", "&#64;")):
        text = text.replace(char, code)
    return text
