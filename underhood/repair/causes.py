"""From a scene to a verdict: every kind of fault looks, every suspect goes to the bench, the rest is ruled out by name.

A cause is what, when undone, makes the bad thing go away, and little else. Cheap and
certain comes before dear and likely: a contradiction in the record, a signature of
values, what moved in the world, the training side. Where no single undo takes it all
away, several are tried together and get their shares (Shapley 1953).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import factorial

from underhood.build.trainset import settle_predicate
from underhood.faults import KINDS
from underhood.faults.kinds import BESIDE, RECORD, Kind, Ruling, Scene, Suspect
from underhood.faults.values import VALUE_KINDS, served_otherwise
from underhood.plan.changes import TRAINING_PARTS, UNTIL
from underhood.plan.exprs import columns_of
from underhood.plan.render import to_sql
from underhood.repair.bench import Ground, Trial, survey
from underhood.repair.diagnosis import (
    CAUSE,
    CERTAIN,
    INFERRED,
    OPEN,
    OUTSIDE,
    UNTOUCHED,
    WORLD,
    Cause,
    Diagnosis,
    as_told,
    proven,
    verdict_of,
)
from underhood.repair.meaning import Meaning
from underhood.repair.neighbourhood import around, around_all, harm_of
from underhood.repair.quiet import Quiet, quiet_times
from underhood.repair.remainder import LEFT, in_question, left_by
from underhood.repair.swaps import reached_by, swap
from underhood.repair.thinned import thinned
from underhood.repair.trace import trace_row

# What a suspect is worth by the stage at which its kind looks, before the bench: the record's
# contradictions are facts, what moved in the world is always a little true.
TRUST: Mapping[int, float] = {1: 1.0, 2: 0.95, 3: 0.9, 4: 0.6, 5: 0.5}
BLAME = 0.3  # the most that a fact's weight loses by what its undoing breaks
GLANCE = 6_000  # decisions of a large record in which a wrong value is looked for before all else
PROVEN = 1  # causes of a large record whose undoing is tried on all of it
PLAIN = 0.85  # weight from which a cause is plain
TOGETHER, SHARE = 4, 0.1  # suspects tried together at most; a smaller share of the repair is nobody's
Say = Callable[[str], None]


def diagnose(scene: Scene, meaning: Meaning, kinds: Sequence[Kind] = KINDS, say: Say = lambda line: None) -> Diagnosis:
    """The verdict on what a complaint means. Needs `set_scene`.

    Order: does the complaint touch decisions at all; contradictions inside the
    record; signatures of values; the training side. Nothing that repairs, and a
    calibrated neighbourhood: nothing is broken.
    """
    if meaning.source_rows and not meaning.ids:
        return _traced(scene, meaning)
    with thinned(scene) as (thin, every):
        if every > 1:
            say(f"looking at every {every}th question, and all that are meant")
            _glance(thin, kinds, say)
        ground = survey(thin)
        rulings, causes = weigh(thin, ground, kinds, say)
        # of a large record, on which a look costs seconds, those in a fact's cohort are taken to be struck by it
        if every == 1 or not any(c.stage <= CERTAIN and c.trial and c.covers > 1 - LEFT for c in causes):
            rulings, causes = _with_the_rest(thin, ground, kinds, rulings, causes, say)
        causes, together = _shared(thin, ground, causes)
        causes = causes if together is not None else as_told(thin, causes)
        causes = [_heard(thin, kinds, c) if n < PROVEN else c for n, c in enumerate(causes)]
    if every > 1:
        say("counting the first cause on all decisions")
        causes = [_proven_on_all(scene, c, every) if n < PROVEN else c for n, c in enumerate(causes)]
    neighbourhood, harm = around(ground) if every == 1 else around_all(scene, ground), harm_of(ground)
    verdict, says = verdict_of(scene, causes, neighbourhood, harm, together)
    if causes and causes[0].quiet and causes[0].quiet.tried and verdict in (CAUSE, WORLD):
        says = f"{says}. False alarms: {causes[0].quiet.says}"
    return Diagnosis(verdict, says, tuple(causes), tuple(rulings), neighbourhood, harm, together=together)


def _glance(scene: Scene, kinds: Sequence[Kind], say: Say) -> None:
    """Says what wrong value shows in some thousands of questions already, so that nobody waits for the first words."""
    with thinned(scene, GLANCE, GLANCE, "few") as (few, _):
        for depth in (RECORD, BESIDE):
            look = replace(few, depth=depth, kept=dict(few.kept))
            for kind in (k for k in kinds if k.name in {v.name for v in VALUE_KINDS}):
                for suspect in kind.suspect(look).suspects:
                    return say(f"it may be: {suspect.says} (at first glance)")


def _heard(scene: Scene, kinds: Sequence[Kind], cause: Cause) -> Cause:
    """A cause with how often the same look cries wolf, if that is not known yet."""
    kind = next((k for k in kinds if k.name == cause.suspect.kind), None)
    if cause.quiet is not None or kind is None:
        return cause
    return replace(cause, quiet=quiet_times(scene, kind, cause.suspect, cause.stage <= CERTAIN))


def _proven_on_all(scene: Scene, cause: Cause, every: int) -> Cause:
    """A cause that was found in a share of the questions, undone for all of them."""
    says = f"{cause.suspect.says} (counted in every {every}th question)"
    suspect = replace(cause.suspect, says=says)
    if cause.trial is None or not is_quick(suspect):
        return replace(cause, suspect=suspect)
    ground = survey(scene, reached_by(scene, suspect.undo))
    return replace(_try(scene, ground, suspect, cause.stage, True), share=cause.share, quiet=cause.quiet)


def weigh(
    scene: Scene,
    ground: Ground,
    kinds: Sequence[Kind],
    say: Say = lambda line: None,
    *,
    trains: bool = True,
    listens: bool = True,
) -> tuple[list[Ruling], list[Cause]]:
    """What every kind says of the scene, in order of looking, and their suspects as causes, the weightiest first.

    An undo that needs a model to be fitted again is not tried unless `trains`. Unless `listens` is false,
    an inference that the same look draws in quiet times too is ruled out.
    """
    rulings: list[Ruling] = []
    causes: list[Cause] = []
    for kind in sorted(kinds, key=lambda k: k.stage):
        near = next((c for c in causes if kind.stage == OUTSIDE and c.weight >= PLAIN), None)
        if near is not None:
            # the world always moves a little: it is asked only where nothing closer explains it
            rulings.append(Ruling(kind.name, (), f"what is closer explains it: {near.suspect.says.partition(':')[0]}"))
            continue
        say(f"looking for: {kind.title}")
        ruling = _without_children(scene, kind.suspect(scene), [c.suspect for c in causes], kind.stage > CERTAIN)
        quiet: tuple[Quiet | None, ...] = (None,) * len(ruling.suspects)
        if listens and any(kind.stage > CERTAIN or s.part in INFERRED for s in ruling.suspects):
            ruling, quiet = _out_of_the_ordinary(scene, kind, ruling)
        rulings.append(ruling)
        for suspect, rate in zip(ruling.suspects, quiet, strict=True):
            say(f"it may be: {suspect.says}")
            if suspect.undo:
                say(f"on the bench: {', '.join(map(str, suspect.undo[:2]))}")
            causes.append(replace(_try(scene, ground, suspect, kind.stage, trains), quiet=rate))
    return rulings, _in_order(causes)


def _with_the_rest(
    scene: Scene, ground: Ground, kinds: Sequence[Kind], rulings: list[Ruling], causes: list[Cause], say: Say
) -> tuple[list[Ruling], list[Cause]]:
    """Rulings and causes with facts that show only among those whom the facts found so far leave as they were.

    Such a fact counts if undoing it turns most of these, or, where nothing undoes it, if it touches nearly all.
    """
    facts = [c for c in causes if c.trial is not None and c.stage <= CERTAIN]
    left = left_by(ground, [c.trial for c in facts if c.trial is not None])
    if not left:
        return rulings, causes
    say(f"{len(left)} of {scene.n_bad} stay as they were: looking at these alone")
    with in_question(scene, left) as rest:
        some, found = weigh(rest, survey(rest), [k for k in kinds if k.stage <= CERTAIN], say, trains=False)
        told = {(c.suspect.kind, c.suspect.part) for c in causes}
        fresh = [c for c in found if (c.suspect.kind, c.suspect.part) not in told and _tells(rest, c)]
    now = {c.suspect.kind: r for c in fresh for r in some if r.kind == c.suspect.kind}
    rulings = [r if r.suspects else now.get(r.kind, r) for r in rulings]
    return rulings, _in_order([*causes, *(_try(scene, ground, c.suspect, c.stage, True) for c in fresh)])


def _tells(scene: Scene, cause: Cause) -> bool:
    return cause.covers >= PLAIN if cause.trial is None else proven(scene, cause.trial) > 0.5


def _in_order(causes: Sequence[Cause]) -> list[Cause]:
    """The weightiest first; the world, whose map does better by many a complaint, behind a fact that covers it all."""
    has_fact = any(c.stage <= CERTAIN and c.suspect.part not in INFERRED and c.covers >= PLAIN for c in causes)
    return sorted(causes, key=lambda c: (has_fact and c.stage == OUTSIDE, -c.weight))


def _out_of_the_ordinary(scene: Scene, kind: Kind, ruling: Ruling) -> tuple[Ruling, tuple[Quiet, ...]]:
    """The ruling without suspects that the same look tells of in quiet times too, and the rates of those that stay."""
    kept, usual, rates = [], [], []
    for suspect in ruling.suspects:
        quiet = quiet_times(scene, kind, suspect)
        if quiet.is_usual:
            usual.append(f"{suspect.says}, but that is nothing out of the ordinary: {quiet.says}")
            continue
        kept.append(suspect)
        rates.append(quiet)
    return Ruling(ruling.kind, tuple(kept), ruling.says if kept or not usual else "; ".join(usual)), tuple(rates)


def _without_children(scene: Scene, ruling: Ruling, before: Sequence[Suspect], is_inferred: bool = False) -> Ruling:
    """The ruling without suspects that only show because of one that was found before, closer to the source.

    A value that was served wrong makes features that no training row has, and so on:
    such a suspect is told as the child that it is. What is wrong with a column in training makes no value wrong.
    `is_inferred`: its kind infers, and infers nothing of a column that a contradiction explains already.
    """
    of_values = [s for s in before if not any(u.part in TRAINING_PARTS for u in s.undo)]
    wrong = {str(c): s for s in of_values for c in s.parameters.get("columns", ())}
    served = set(served_otherwise(scene).differing) & set(wrong) if wrong else set()
    kept, children = [], []
    for suspect in ruling.suspects:
        read = columns_of(suspect.where) if suspect.where is not None else frozenset()
        made_of = {i for c in read for i in _inputs_of(scene, c)}
        cause = next((wrong[c] for c in sorted(made_of) if c in wrong), None)
        # two forms of a value compete, but not with one that contradicts history
        competes = "columns" in suspect.parameters and not (is_inferred and made_of <= served)
        if cause is None or competes:
            kept.append(suspect)
        else:
            children.append(f"{suspect.says}, but only because {cause.says.partition(':')[0]}")
    return Ruling(ruling.kind, tuple(kept), ruling.says if kept or not children else "; ".join(children))


def _inputs_of(scene: Scene, column: str) -> frozenset[str]:
    """The inputs that a column of the view `decisions` is made of."""
    side, _, name = column.partition(".")
    if side == "features" and name in scene.plan.features:
        return frozenset(columns_of(scene.plan.features[name]))
    return frozenset([name]) if side == "row" else frozenset()


def _try(scene: Scene, ground: Ground, suspect: Suspect, stage: int, trains: bool) -> Cause:
    covers = _covers(scene, suspect)
    if not suspect.undo or not (trains or is_quick(suspect)):
        # a fact that nothing undoes is still a fact; an inference that nothing proves is a thought
        shows = stage <= CERTAIN or stage == OUTSIDE
        return Cause(suspect, None, TRUST.get(stage, 0.5) * covers * (0.4 if shows else 0.0), covers, stage)
    trial = swap(scene, ground, *suspect.undo)
    done = proven(scene, trial)
    if any(c.part in TRAINING_PARTS for c in suspect.undo):
        # a model that was taught wrong about some errs about others too
        covers = max(covers, done)
    # a fact is one whomever it served: that others were better off with it says little against it
    blame = min(5 * trial.collateral, BLAME) if stage <= CERTAIN else 5 * trial.collateral
    weight = TRUST.get(stage, 0.5) * covers * (0.4 + 0.6 * done) - blame
    return Cause(suspect, trial, weight, covers, stage)


def _covers(scene: Scene, suspect: Suspect) -> float:
    """Share of the decisions complained about that lie in the suspect's cohort."""
    if suspect.where is None or not scene.n_bad:
        return 1.0
    test = to_sql(settle_predicate(scene.plan, suspect.where))
    return float(scene.engine.rows(f"select avg(({test} is true)::INT) from decisions where bad")[0][0] or 0.0)


def _shared(scene: Scene, ground: Ground, causes: list[Cause]) -> tuple[list[Cause], Trial | None]:
    """The causes with their shares of what all of them repair, and all of them undone together; null if one does it.

    Only suspects whose undo reaches some of the complained-about decisions take part. A
    suspect that adds nothing to the others gets no share.
    """
    able = [c for c in causes if c.trial is not None and c.covers > 0 and c.stage != OUTSIDE and is_quick(c.suspect)]
    able = able[:TOGETHER]
    if len(able) < 2 or (able[0].trial and proven(scene, able[0].trial) >= 0.99):
        return causes, None
    trials: dict[frozenset[int], Trial] = {frozenset([n]): c.trial for n, c in enumerate(able) if c.trial is not None}
    worth: dict[frozenset[int], float] = {frozenset(): 0.0}
    for size in range(1, len(able) + 1):
        for some in map(frozenset, combinations(range(len(able)), size)):
            if some not in trials:
                trials[some] = swap(scene, ground, *(u for n in sorted(some) for u in able[n].suspect.undo))
            worth[some] = proven(scene, trials[some])
    shares = shapley(len(able), worth)
    members = frozenset(n for n, s in enumerate(shares) if s >= SHARE)
    alone = max(worth[frozenset([n])] for n in range(len(able)))
    if len(members) < 2 or worth[members] < alone + SHARE:
        return causes, None
    total = sum(shares[n] for n in members)
    told = {id(able[n].suspect): shares[n] / total for n in members}
    weighed = [replace(c, share=told[id(c.suspect)]) if id(c.suspect) in told else c for c in causes]
    return sorted(weighed, key=lambda c: (id(c.suspect) not in told, -c.weight)), trials[members]


def is_quick(suspect: Suspect) -> bool:
    """Whether undoing it needs no training: only then every combination can be tried."""
    return not any(u.part in (*TRAINING_PARTS, UNTIL) for u in suspect.undo)


def shapley(n: int, worth: Mapping[frozenset[int], float]) -> list[float]:
    """Each one's share of what all `n` are worth together: its gain averaged over all orders (Shapley 1953).

    `worth` has every subset of range(n).
    """
    shares = []
    for one in range(n):
        others, share = [m for m in range(n) if m != one], 0.0
        for size in range(n):
            times = factorial(size) * factorial(n - size - 1) / factorial(n)
            for some in map(frozenset, combinations(others, size)):
                share += times * (worth[some | {one}] - worth[some])
        shares.append(share)
    return shares


def _traced(scene: Scene, meaning: Meaning) -> Diagnosis:
    training = scene.bundle.made_from["training"]
    traces = tuple(
        trace_row(scene.engine, scene.plan, scene.record, training, source, column, row, key, value)
        for source, column, row, key, value in meaning.source_rows
    )
    decisions = sum(t.decisions for t in traces)
    first = traces[0]
    says = f"{first.source}.{first.column} = {first.value:g} at {first.key} is in the source"
    says += f" ({first.cleaned})" if first.cleaned else ""
    says += (
        f"; {sum(t.questions for t in traces):,} questions, {decisions:,} decisions and "
        f"{sum(t.training for t in traces):,} training rows used it"
    )
    return Diagnosis(UNTOUCHED if not decisions else OPEN, says, (), (), None, None, traces)
