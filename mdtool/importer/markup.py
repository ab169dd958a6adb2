"""XML as text, and an option's keys, each of which is taken once: what is not taken, the XML cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape


class NoWords(Exception):
    """The XML cannot say it; ``str`` of it is what."""


def tag(name: str, /, *inner: str, **attributes: Any) -> str:
    """An element; an attribute that is None is left out, and ``type_`` is ``type``.

    >>> tag("target", dev="vda", bus=None)
    "<target dev='vda'/>"
    """
    words = "".join(
        f" {key.rstrip('_')}='{escape(str(value), _QUOTES)}'" for key, value in attributes.items() if value is not None
    )
    return f"<{name}{words}>{''.join(inner)}</{name}>" if any(inner) else f"<{name}{words}/>"


def text(name: str, value: Any, /, **attributes: Any) -> str:
    """An element around a text; "" without a text."""
    return tag(name, escape(str(value)), **attributes) if value not in (None, "") else ""


_QUOTES = {"'": "&apos;", "\n": "&#10;", "\t": "&#9;"}
SWITCH = {True: True, "on": True, "yes": True, "true": True, False: False, "off": False, "no": False, "false": False}


class Keys:
    """What an option says, to be taken key by key.

    >>> keys = Keys({"type": "user", "net": "10.0.0.0/24"})
    >>> keys.take("type"), keys.take("mac")
    ('user', None)
    >>> keys.done()
    Traceback (most recent call last):
    mdtool.importer.markup.NoWords: net
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.left = dict(given)

    def take(self, name: str, absent: Any = None) -> Any:
        return self.left.pop(name, absent)

    def switch(self, name: str, absent: bool | None = None) -> bool | None:
        """A switch as a bool; raises NoWords for another word (``auto``)."""
        value = self.left.pop(name, None)
        if value is None:
            return absent
        try:
            return SWITCH[value]
        except (KeyError, TypeError):
            raise NoWords(f"{name}={value}") from None

    def one_of(self, table: Mapping[str, str], name: str) -> str | None:
        """A word of a table, translated; raises NoWords for another one."""
        value = self.left.pop(name, None)
        if value is not None and str(value) not in table:
            raise NoWords(f"{name}={value}")
        return None if value is None else table[str(value)]

    def done(self) -> None:
        """Raises NoWords where something is left."""
        if self.left:
            raise NoWords(", ".join(map(str, self.left)))


def yes(value: bool | None) -> str | None:
    """libvirt's yes and no."""
    return None if value is None else "yes" if value else "no"


def on(value: bool | None) -> str | None:
    """libvirt's on and off."""
    return None if value is None else "on" if value else "off"
