"""The cut of one action is another one than the policy says: the full form, a Kind of one's own."""

from underhood.faults.kinds import Injection, Kind, Ruling
from underhood.plan.changes import THRESHOLD, Change


def inject(action, cut, where=None):
    """The cut of one action is moved."""
    return (Change(THRESHOLD, action, cut, where),)


def propose(scene, random, cohort):
    """The lowest cut goes up by half to twice its height."""
    action, cut = min(scene.bundle.policy.cuts, key=lambda each: each[1])
    moved = round(float(cut * random.uniform(1.5, 2)), 3)
    return Injection("wrong threshold", inject(action, moved, cohort), (), {"cut": moved}, cohort)


def suspect(scene):
    """Nobody looks for it by this name: the catalogue must find it."""
    return Ruling("moved cut", ())


FAULTS = (Kind("moved cut", "a cut was moved", 9, inject, suspect, inject, propose),)
