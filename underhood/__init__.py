"""Underhood, the workbench of the ML mechanic: from messy tables to a cause proven on the bench.

    import underhood as uh

    print(uh.look("flights.csv"))
    with uh.open_workbench("departures.py") as bench:
        case = uh.open_case(bench, "complaint.eml")
        print(uh.diagnose_case(bench).says)

Names are loaded when first used, so that `import underhood` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from underhood.faces.reading import compare, look
    from underhood.plan import cleaning as clean
    from underhood.plan.exprs import date, days, minutes, when
    from underhood.plan.steps import (
        costs,
        count,
        goal,
        label,
        mean,
        share,
        source,
        system,
        threshold,
        total,
    )
    from underhood.repair.workbench import (
        build_system,
        decide_history,
        diagnose_case,
        fix_case,
        open_case,
        open_decision,
        open_workbench,
        replay_decision,
    )

_HOMES = {
    "underhood.faces.reading": "compare look",
    "underhood.plan.exprs": "date days minutes when",
    "underhood.plan.steps": ("costs count goal label mean share source system threshold total"),
    "underhood.repair.workbench": (
        "build_system decide_history diagnose_case fix_case open_case open_decision open_workbench replay_decision"
    ),
}
_MODULES = {"clean": "underhood.plan.cleaning"}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "build_system",
    "clean",
    "compare",
    "costs",
    "count",
    "date",
    "days",
    "decide_history",
    "diagnose_case",
    "fix_case",
    "goal",
    "label",
    "look",
    "mean",
    "minutes",
    "open_case",
    "open_decision",
    "open_workbench",
    "replay_decision",
    "share",
    "source",
    "system",
    "threshold",
    "total",
    "when",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOME_OF:
        raise AttributeError(f"underhood has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
