"""Bars as SVG, for the pictures in docs/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b6992d", "#9c755f")
_LEFT, _WIDTH, _ROW = 190, 560, 30


def bars(title: str, rows: Mapping[str, Mapping[str, float]], unit: str, notes: Sequence[str] = ()) -> str:
    """One bar a row, in parts one behind the other; every part has its colour in the legend."""
    parts = list(dict.fromkeys(name for row in rows.values() for name in row))
    most = max(sum(row.values()) for row in rows.values())
    lines = [f'<text x="8" y="20" font-size="15">{escape(title)}</text>']
    for index, (name, row) in enumerate(rows.items()):
        top, at = 34 + index * _ROW, float(_LEFT)
        lines.append(f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>')
        for part, value in row.items():
            width = value / most * _WIDTH
            colour = COLOURS[parts.index(part) % len(COLOURS)]
            lines.append(f'<rect x="{at:.1f}" y="{top}" width="{width:.1f}" height="20" fill="{colour}"/>')
            at += width
        lines.append(f'<text x="{at + 6:.1f}" y="{top + 15}">{sum(row.values()):.3g} {unit}</text>')
    below = 34 + len(rows) * _ROW + 6
    for index, part in enumerate(parts if len(parts) > 1 else ()):
        left = _LEFT + index * 118
        lines.append(f'<rect x="{left}" y="{below}" width="12" height="12" fill="{COLOURS[index % len(COLOURS)]}"/>')
        lines.append(f'<text x="{left + 17}" y="{below + 11}">{escape(part)}</text>')
    for index, note in enumerate(notes):
        lines.append(f'<text x="8" y="{below + 34 + index * 16}" fill="#555">{escape(note)}</text>')
    width, height = _LEFT + _WIDTH + 100, below + 34 + len(notes) * 16
    size = f'width="{width}" height="{height}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *lines, "</svg>\n"])
