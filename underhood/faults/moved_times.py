"""Names what was done to a time from two samples of it, as seconds after the moment of asking."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form
from underhood.faults.moved_few import Found
from underhood.faults.moved_forms import CLEAR, FITS, distance_of, missing_move
from underhood.moves.shifts import explain
from underhood.plan.exprs import col, minutes

MANY = 4000  # values of either sample


def time_moves(name: str, before: Array, after: Array) -> Iterator[Found]:
    """Forms of a time, as seconds after the moment of asking. Samples may hold NaN."""
    missing = missing_move(name, np.isnan(before), np.isnan(after))
    if missing is not None:
        yield missing
    one, other = (side[~np.isnan(side)][:MANY] for side in (before, after))
    if min(len(one), len(other)) < 30:
        return
    step = float(np.median(other) - np.median(one))
    total = distance_of(one, other)
    if np.ptp(np.quantile(one, [0.02, 0.98])) > 1:
        found = explain(one, other)
        step = float(found.amount["shift"]) if found.kind == "shift" else 0.0
    step = round(step / 60) * 60.0
    if not step or distance_of(one + step, other) > (1 - FITS) * total or total < CLEAR:
        return
    kind = "time zone" if step % 900 == 0 else "clock skew"
    undo = col(f"row.{name}") - minutes(step / 60)
    yield Found(Form(kind, f"{name} {step / 3600:+g} h", undo, {"shift_s": step}), lambda v: ~np.isnan(v))
