"""A plan in a file: looked at and agreed to now, carried out later, and refused where it is no longer what would happen.

text = saved(revision)                     for mdtool reconcile --dry-run --json -o plan.json
request = request_from_plan(data, access)  what to reconcile again
check_same(data, revision, what)           raises where that comes to something else
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from mdtool.apply.revise import Request, Revision
from mdtool.errors import ConflictError, InputError
from mdtool.machine.document import PLAN, check_kind
from mdtool.reconcile import Options
from mdtool.reconcile.plan import json_from_plan
from mdtool.sources import Access

#: fields of a request that are plain values, and say together what is to be done
_REQUEST = ("guest", "description", "write_xml", "aliases", "machine", "minimal")


def data_from_revision(revision: Revision) -> dict[str, Any]:
    """The plan, the request that it comes of, a hash of the guest XML and of each file as it would be."""
    request, texts = revision.request, revision.texts()
    return {
        **json_from_plan(revision.plan),
        "writes": sorted(texts),
        "request": {
            **{name: getattr(request, name) for name in _REQUEST},
            "options": request.options._asdict(),
            "connect": request.access.connect,
        },
        "guest": hashlib.sha256(revision.guest.source).hexdigest(),
        "results": {path: _hash(text) for path, text in sorted(texts.items())},
    }


def request_from_plan(data: Mapping[str, Any], file: str, access: Access) -> Request:
    """The request of a saved plan; InputError if the file is not a plan, or is one of ``--json`` alone."""
    asked = data.get("request")
    if data.get("mdtool") != "plan/1" or not isinstance(asked, dict):
        remedy = "mdtool reconcile GUEST.xml GUEST.yaml --dry-run --json -o plan.json"
        check_kind(json.dumps(data), file, PLAN)
        raise InputError(f"{file} is not a plan that can be applied", remedy=remedy, rule="plan-file")
    try:
        options = Options(**asked["options"])
        return Request(**{name: asked[name] for name in _REQUEST}, options=options, access=access)
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: the request of the plan is damaged: {error}", rule="plan-file") from None


def check_same(data: Mapping[str, Any], revision: Revision, what: str) -> None:
    """Raise ConflictError where XML or description changed since ``what`` was made, so that something else would happen."""
    now = json.loads(json.dumps(data_from_revision(revision)))
    differing = [name for name in ("steps", "writes", "guest", "results") if data.get(name) != now[name]]
    if differing:
        raise ConflictError(
            f"{what} is no longer what would happen: {revision.request.guest} or {revision.request.target} changed since",
            remedy="make a new plan and review it",
            rule="plan-stale",
        )


def as_shown(revision: Revision) -> Callable[[Revision], None]:
    """What raises ConflictError for a revision that comes to something else than the one that was shown."""
    shown = json.loads(json.dumps(data_from_revision(revision)))
    return lambda now: check_same(shown, now, "the plan that was shown")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
