"""A number comes a hundred times too large: the simple form, one function."""

from underhood.faults.kinds import Injection
from underhood.plan.changes import INPUT, Change
from underhood.plan.exprs import col


def inject(scene, random, cohort):
    """One number that features are made of, drawn at random; None if this system has none."""
    numbers = sorted(n for n, kind in scene.plan.inputs.items() if kind == "number" and n in scene.plan.features)
    if not numbers:
        return None
    name = numbers[int(random.integers(len(numbers)))]
    change = Change(INPUT, name, col(f"row.{name}") * 100, cohort)
    return Injection("unit change", (change,), (name,), {"factor": 100.0}, cohort)
