"""mdtool: machine descriptions for QEMU.

    document = mdtool.load("web01.yaml")
    result = mdtool.reconcile_guest(mdtool.load_guest("web01.xml"), document.tree)
    print(result.plan.to_json(), mdtool.dumps(result.tree, document))

docs/api.md has all of it, with examples.  Nothing is imported before it is used: ``import mdtool`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mdtool.api import (
        Checked,
        Comparison,
        Difference,
        Document,
        Guest,
        MdtoolError,
        Options,
        Plan,
        Reconciled,
        Step,
        Tree,
        Warn,
        check,
        compare_trees,
        dump,
        dumps,
        load,
        load_guest,
        loads,
        loads_guest,
        reconcile_guest,
    )

__all__ = [
    "Checked",
    "Comparison",
    "Difference",
    "Document",
    "Guest",
    "MdtoolError",
    "Options",
    "Plan",
    "Reconciled",
    "Step",
    "Tree",
    "Warn",
    "__version__",
    "check",
    "compare_trees",
    "dump",
    "dumps",
    "load",
    "load_guest",
    "loads",
    "loads_guest",
    "reconcile_guest",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mdtool' has no attribute '{name}'")
    from mdtool import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
