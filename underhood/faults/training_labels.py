"""Faults of the labels that a model learned from: turned round in a cohort, or taken for "no" before they were known.

Two witnesses: history, which has other labels for the same questions than the training set;
and, where history itself was wrong, what became of later decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.faults.outcomes import auc_error_by_chance, auc_of
from underhood.faults.taught import (
    HISTORY,
    PURE,
    Whom,
    Witness,
    later_witness,
    level_expr,
    part_of_whom,
    reach_of,
    sql_of,
    taught_otherwise,
    told,
    whom,
)
from underhood.plan.changes import LABEL, OUTCOME, RECOMPUTED, ROWS, TAUGHT, Change
from underhood.plan.exprs import Expr, col, columns_of, lit, shown
from underhood.plan.render import sql_value

ONE_WAY = 0.95  # share of the changed labels that went the same way
TURNED, UPRIGHT = 0.45, 0.55  # AUC: as good as inverted, and as good as right
SURE = 4.5  # standard errors; with some hundred looks chance gives this once in a thousand scenes
BOTH = 20  # rows of each class that a cohort needs
SPARED = 10  # "no" that a flip of so many labels would have turned as well, were it one
FELL = 0.5  # of the rate before: what the newest training rows lost
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Relabelled:
    """Training rows with another label than history has: how many, how many of them are "no" in training, and whose."""

    n: int
    no: int
    who: Whom

    @property
    def is_late(self) -> bool:
        """Whether it is the newest rows, whose "yes" was not yet known."""
        return self.since is not None and self.no >= ONE_WAY * self.n

    @property
    def since(self) -> datetime | None:
        """The moment from which on labels differ, if one tells them."""
        parts = [self.who.where] if self.who.where is not None else []
        parts = [*parts[0].args] if parts and parts[0].op == "and" else parts
        moments = [p.args[1].args[0] for p in parts if p.op == "ge" and columns_of(p) == {"asked_at"}]
        return moments[0] if moments else None

    @property
    def is_definition(self) -> bool:
        """Whether an outcome tells them: then it is the definition that differs."""
        where = self.who.where
        return where is not None and any(c.startswith("facts.") for c in columns_of(where))


def relabelled(scene: Scene) -> Relabelled | None:
    """The training labels that history contradicts, once for a scene; null if they are too few to teach anything."""
    found: Relabelled | None = scene.once("relabelled", _relabelled)
    return found


def _relabelled(scene: Scene) -> Relabelled | None:
    seen = taught_otherwise(scene)
    if not seen.is_much(seen.relabelled):
        return None
    once = "select key, label from training qualify row_number() over (partition by key order by asked_at) = 1"
    n, no = counted(
        scene.engine,
        f"select count(*), count(*) filter (where not t.label) from ({once}) t join {HISTORY} h on t.key = h.key "
        "where t.label <> h.label",
    )
    could = "h.label" if no >= ONE_WAY * n else "not h.label" if no <= (1 - ONE_WAY) * n else "true"
    rows = f"select h.*, t.label <> h.label as __other from {HISTORY} h join ({once}) t on t.key = h.key where {could}"
    who = whom(scene, rows, "__other", facts=True)
    if who.where is None and not who.is_whole:
        who = part_of_whom(scene, rows, "__other", facts=True)
    return _of_newest(scene, Relabelled(int(n), int(no), who))


def _of_newest(scene: Scene, found: Relabelled) -> Relabelled:
    """The same with the moment from which on labels differ, where only "yes" of a cohort's newest rows became "no".

    Of a few rows one level may hold all, and then no moment tells more. But labels that are turned round turn "no" as
    well: where every "yes" from a moment on was lost and no "no" was touched, what became of them was not known yet.
    """
    if found.since is not None or found.who.where is None or found.is_definition or found.no < ONE_WAY * found.n:
        return found
    once = "select key, label from training qualify row_number() over (partition by key order by asked_at) = 1"
    turned = "h.label and not t.label"
    first, middle = scene.engine.rows(
        f"select (select min(h.asked_at) from {HISTORY} h join ({once}) t on t.key = h.key where {turned}), "
        "min(asked_at) + (max(asked_at) - min(asked_at)) / 2 from training"
    )[0]
    own = sql_of(scene, found.who.where)
    lost, kept, spared = counted(
        scene.engine,
        f"select count(*) filter (where {turned}), count(*) filter (where h.label and t.label), count(*) filter "
        f"(where not h.label and not t.label) from (select * from {HISTORY} where {own}) h join ({once}) t "
        f"on t.key = h.key where h.asked_at >= {sql_value(first)}",
    )
    if first < middle or lost < PURE * (lost + kept) or spared < SPARED:
        return found
    where = found.who.where & (col("asked_at") >= lit(first))
    return replace(found, who=Whom(where, lost / (lost + kept), f" where {shown(where)}"))


def contradicted(scene: Scene, kind: str, says: str, **parameters: object) -> Suspect:
    """The suspect that history is the witness against the training labels: undone by drawing the rows again."""
    found = relabelled(scene)
    assert found is not None
    return Suspect(
        kind,
        f"label {scene.plan.system.label.name} in training",
        f"{says}: {found.n:,} training rows have another label than history has for them{found.who.says}",
        "select t.label as taught, a.label as history, count(*) as training_rows from training t "
        "join asks a on t.key = a.key group by all",
        redrawn(),
        reach_of(scene, found.who.where) if found.who.is_whole else None,
        parameters={"training_rows": found.n, "rows": told(found.who.where), **parameters},
    )


def redrawn() -> tuple[Change, ...]:
    """The training set is drawn again from history, each question once."""
    return (Change(ROWS, "training", RECOMPUTED),)


# --- turned round ---


def inject_taught_flip(where: Expr | None = None, history: str = "") -> tuple[Change, ...]:
    """The label is turned round in the training set, or in all of history that was asked before a moment (UTC)."""
    if not history:
        return (Change(TAUGHT, "label", ~col("label"), where),)
    before = col("asked_at") < lit(datetime.fromisoformat(history))
    return (Change(OUTCOME, "label", ~col("label"), before if where is None else where & before),)


def undo_taught_flip(name: str, where: Expr | None = None) -> tuple[Change, ...]:
    """The label is turned back where it was turned; done twice, nothing has changed."""
    return (Change(LABEL, name, ~col("label"), where),)


def propose_taught_flip(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A labelling job that turned the training labels round, for some or for all."""
    if scene.bundle.model["kind"] == "constant":
        return None
    until = str(scene.bundle.made_from["recipe"]["until"])
    # where history itself is wrong, only a cohort can be told from its neighbours
    history = until if cohort is not None and random.random() < 0.5 else ""
    changes = inject_taught_flip(cohort, history)
    return Injection("label flip", changes, (), {"turned": 1.0}, cohort, retrain=True)


def taught_flips(scene: Scene) -> tuple[tuple[Suspect, ...], str]:
    """Suspects of the kind "label flip" on the training side, and one sentence if there is none.

    A contradiction with history first; else a cohort in which the training rows rank the
    wrong way round, by what later decisions teach, while its own later decisions rank right.
    Concept drift changes a ranking too, but hardly ever turns it round.
    """
    found = relabelled(scene)
    if found is not None:
        if found.is_late or found.is_definition:
            return (), "training labels differ from history, but not by a flip"
        says = "labels were turned round when the model was taught"
        return (contradicted(scene, "label flip", says, turned=round(found.who.share, 3)),), ""
    witness = later_witness(scene)
    if witness is None:
        return (), "too few outcomes of later decisions are known to check the training labels by"
    turned = _turned(scene, witness)
    if turned is None:
        area = auc_of(witness.training["label"], witness.training["score"])
        return (), f"training rows rank as later decisions say they should (AUC {area:.2f}), in every cohort looked at"
    return (_flip_suspect(scene, *turned),), ""


def _turned(scene: Scene, witness: Witness) -> tuple[Expr | None, float, float, int] | None:
    """The cohort whose training labels are inverted: predicate, AUC in training, AUC of its decisions, rows."""
    label, score = witness.training["label"] > 0, witness.training["score"]
    evidence = np.where(label, -1, 1) * (np.log(score) - np.log1p(-score))
    everyone = np.ones(len(label), dtype=bool)
    best: tuple[float, Expr | None, Array, Array] | None = None
    if evidence.sum() > 0:
        best = (float(evidence.sum()), None, everyone, np.ones(len(witness.decisions["label"]), dtype=bool))
    for name in witness.names:
        taught, lived = witness.training[f"level {name}"], witness.decisions[f"level {name}"]
        levels, place = np.unique(taught.astype(str), return_inverse=True)
        gains = np.bincount(place, weights=evidence)
        for at in np.flatnonzero(gains > (best[0] if best else 0.0)):
            if levels[at] == "None":
                continue
            own, later = place == at, lived == levels[at]
            if _is_turned(label[own], score[own]) and (best is None or gains[at] > best[0]):
                best = (float(gains[at]), level_expr(scene, name, str(levels[at])), own, later)
    if best is None or not _is_turned(label[best[2]], score[best[2]]):
        return None
    later_label, later_score = witness.decisions["label"][best[3]], witness.decisions["score"][best[3]]
    lived_area, error = auc_of(later_label, later_score), auc_error_by_chance(later_label)
    if not lived_area > max(UPRIGHT, 0.5 + 2 * error):
        return None
    return best[1], auc_of(label[best[2]], score[best[2]]), lived_area, int(best[2].sum()) * witness.step


def _is_turned(label: Array, score: Array) -> bool:
    if min(label.sum(), (~label).sum()) < BOTH:
        return False
    area = auc_of(label, score)
    return area <= TURNED and 0.5 - area > SURE * auc_error_by_chance(label)


def _flip_suspect(scene: Scene, where: Expr | None, taught: float, lived: float, rows: int) -> Suspect:
    name, until = scene.plan.system.label.name, str(scene.bundle.made_from["recipe"]["until"])
    who = "the training rows" if where is None else f"the training rows where {where}"
    before = col("asked_at") < lit(datetime.fromisoformat(until))
    return Suspect(
        "label flip",
        f"label {name} in training",
        f"{who} have their labels turned round: they rank the wrong way (AUC {taught:.2f}) by what later decisions "
        f"teach, and those of the same cohort rank right (AUC {lived:.2f})".replace("row.", ""),
        f"select 'training' as side, avg(label::INT) as positive, count(*) as n from training where "
        f"{sql_of(scene, where)} union all select 'decisions', avg(label::INT), count(label) from decisions where "
        f"{sql_of(scene, where)}",
        undo_taught_flip(name, before if where is None else where & before),
        reach_of(scene, where),
        parameters={"training_rows": rows, "rows": told(where), "turned": 1.0},
    )


# --- not yet known, taken for no ---


def inject_censored(since: Expr) -> tuple[Change, ...]:
    """The newest training rows are taught "no": what happened to them was not known yet."""
    return (Change(TAUGHT, "label", False, since),)


def undo_censored(where: Expr) -> tuple[Change, ...]:
    """Rows whose outcome could not be known yet are left out."""
    return (Change(ROWS, "training", "left out", where),)


def propose_censored(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """The last fifth to third of the training span labelled before it was ripe."""
    first, last = scene.engine.rows("select min(asked_at), max(asked_at) from training")[0]
    if scene.bundle.model["kind"] == "constant" or first is None or last - first < timedelta(days=20):
        return None
    days = round((last - first) / timedelta(days=1) * float(random.uniform(0.2, 0.35)))
    where = col("asked_at") >= lit(last - timedelta(days=days))
    where = where if cohort is None else cohort & where
    if random.random() < 0.5 and cohort is None:
        before = lit(datetime.fromisoformat(str(scene.bundle.made_from["recipe"]["until"])))
        changes: tuple[Change, ...] = (Change(OUTCOME, "label", False, where & (col("asked_at") < before)),)
    else:
        changes = inject_censored(where)
    return Injection(CENSORED.name, changes, (), {"days": days}, cohort, retrain=True)


def suspect_censored(scene: Scene) -> Ruling:
    """The newest training rows have hardly any "yes", though rows before them and decisions after them do.

    A season that goes down keeps down in the decisions that follow; what was only not yet known comes back.
    """
    kind = CENSORED.name
    found = relabelled(scene)
    last = scene.engine.rows("select max(asked_at) from training")[0][0]
    if found is not None and found.is_late and found.since is not None:
        days = round((last - found.since) / timedelta(days=1), 1)
        says = f"the label took 'not yet known' for 'no' in the last {days:g} days of training"
        return Ruling(kind, (contradicted(scene, kind, says, days=days),))
    if found is not None:
        return Ruling(kind, (), "training labels differ from history, but not those of the newest rows only")
    witness = later_witness(scene)
    if witness is None:
        return Ruling(kind, (), "too few outcomes of later decisions are known to say what the newest rows should be")
    days, ratio, before = _fall(witness)
    if not days:
        return Ruling(
            kind,
            (),
            f"training has {ratio:.2f} times the 'yes' that later decisions lead to expect, its newest rows no less",
        )
    return Ruling(kind, (_censored(scene, last - timedelta(days=days), days, ratio, before),))


def _fall(witness: Witness) -> tuple[int, float, float]:
    """The span (days) in which 'yes' falls away at the end of training, what is left of it there and was before it.

    Rates are against what later decisions lead to expect of each row; 0 days if it does not fall, more surely than by
    chance (Poisson) and farther than it ever fell before for as long: days come in storms and lulls, too. Of the
    spans that fall, the one whose two rates make what was taught the likeliest; none if not one of them falls more
    surely than days differ anyway: where many are asked at once, there are few days.
    """
    asked, label, expected = witness.training["__asked"], witness.training["label"], witness.training["score"]
    ago = ((asked.max() - asked) / DAY_US).astype(int)
    usual = float(label.sum() / expected.sum())
    yes, told = np.bincount(ago, label), np.bincount(ago, expected)
    miss = np.bincount(ago, label - usual * expected) if len(yes) else yes
    found: list[tuple[float, int, float, float]] = []
    is_sure = False
    for days in range(1, len(yes) // 2 + 1):
        late, early = (float(yes[:days].sum()), float(told[:days].sum())), (yes[days:].sum(), told[days:].sum())
        if min(late[1], early[1]) < BOTH:
            continue
        ratio, before = late[0] / late[1], float(early[0] / early[1])
        lost, lowest = before * late[1] - late[0], _lowest(yes[days:], told[days:], min(days, len(yes) // 4))
        if ratio <= FELL * min(1.0, before, lowest) and lost > SURE * np.sqrt(before * late[1]):
            spread = np.sqrt((miss[:days] - (before - usual) * told[:days]).var() + 1)
            is_sure |= bool(lost > SURE * (np.sqrt(late[1]) + spread * np.sqrt(days)))
            worth = sum(float(k) * np.log(max(k, 1e-9) / e) for k, e in (late, early))
            found.append((worth, days, ratio, before))
    return max(found)[1:] if is_sure else (0, usual, 1.0)


def _lowest(yes: Array, told: Array, days: int) -> float:
    """The lowest rate of any so many days on end, of those that lead to expect enough; infinite if none do."""
    k, n = (np.convolve(side, np.ones(max(1, days)), "valid") for side in (yes, told))
    return float((k[n >= BOTH] / n[n >= BOTH]).min(initial=np.inf))


def _censored(scene: Scene, since: object, days: float, ratio: float, before: float) -> Suspect:
    where = col("asked_at") >= lit(since)
    return Suspect(
        CENSORED.name,
        f"label {scene.plan.system.label.name} in training",
        f"the last {days:g} days of training have {ratio:.0%} of the 'yes' that later decisions lead to expect, "
        f"the rows before them {before:.0%}: what was not yet known was taken for 'no'",
        "select asked_at::DATE as day, avg(label::INT) as positive, count(*) as n from training "
        "group by day order by day",
        undo_censored(where),
        parameters={"days": days},
    )


CENSORED = Kind(
    "right censoring",
    "what was not yet known was taught as 'no'",
    2,
    inject_censored,
    suspect_censored,
    undo_censored,
    propose_censored,
    needs=("inputs", "outcome", "training table"),
)
