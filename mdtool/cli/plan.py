"""A plan as commands show it: as text, as JSON, or as findings at the lines of the XML."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mdtool.cli.output import coloured
from mdtool.files import is_standard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mdtool.apply.live import Outcome
    from mdtool.apply.revise import Revision
    from mdtool.cli.findings import Reported
    from mdtool.reconcile.plan import Plan, Step


def plan_text(revision: Revision, colour: Callable[[str, str], str] = lambda text, _: text, *, kept: bool = False) -> str:
    """The plan with a line a device, and with the names that a Linux guest gives to what moves."""
    from mdtool.review.plan import text_from_plan

    return text_from_plan(_named(revision), colour, kept=kept)


def _named(revision: Revision) -> Plan:
    from mdtool.review.plan import with_names

    return with_names(revision.plan, revision.before, revision.tree) if revision.plan else revision.plan


def show_plan(
    args: argparse.Namespace,
    revision: Revision,
    texts: Mapping[str, str],
    outcomes: Sequence[Outcome] | None = None,
    *,
    seen: bool = False,
) -> None:
    """The plan and what became of it, in the format of ``args``: on stdout, or on stderr where stdout has a document.

    A person who has ``seen`` the plan is shown what became of it alone.
    """
    dry_run = getattr(args, "dry_run", False)
    stream = sys.stderr if not dry_run and any(map(is_standard, texts)) else sys.stdout
    rebase = revision.rebase
    same = dry_run and not revision.plan and revision.old is not None
    recorded = _recorded(revision.request.target, texts) if same else {}
    if args.json:
        from mdtool.reconcile.plan import json_from_plan

        more: dict[str, Any] = {"writes": sorted(path for path in texts if not is_standard(path))}
        more |= {} if outcomes is None else {"live": [outcome.data() for outcome in outcomes]}
        more |= {"machine": [one.data() for one in rebase.differences]} if rebase else {}
        print(json.dumps({**json_from_plan(_named(revision)), **more}, indent=2), file=stream)
        return
    if args.output_format != "text":
        from mdtool.cli.findings import Reported, write
        from mdtool.errors import Position

        found = [_finding(step) for step in _named(revision).changes]
        found += [Reported("warning", what, "plan-record", Position(path, 1)) for path, what in recorded.items()]
        write(found, args.output_format)
        return
    if not seen:
        verbose = getattr(args, "verbose", False)
        print(plan_text(revision, lambda text, colour: coloured(text, colour, stream), kept=verbose), file=stream)
        for path, what in recorded.items():
            print(f"{path} {what}", file=stream)
    for one in rebase.differences if rebase else ():
        print(f"!  {one}", file=stream)
    for outcome in outcomes or ():
        print(outcome, file=stream)


def _recorded(target: str, texts: Mapping[str, str]) -> dict[str, str]:
    """File -> why a real run would write it, where the plan has no change."""
    same = "would be rewritten: the hardware is the same, what is recorded of it is not"
    return {path: same if path == target else "would be written" for path in texts if not is_standard(path)}


def _finding(step: Step) -> Reported:
    """A change at its element; what a surviving device would see is an error, other changes are warnings."""
    from mdtool.cli.findings import Reported
    from mdtool.review.plan import text_from_step

    severity = "error" if step.notices else "warning"
    return Reported(severity, " ".join(text_from_step(step).split()), f"plan-{step.action.name.lower()}", step.at)
