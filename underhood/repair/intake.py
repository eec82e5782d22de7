"""What a complaint means in the record: which decisions, what happened, how many, which source value.

Every word that was understood is kept with what it was taken for, so a person can
correct it. Words match what the record holds (levels, keys, column and action
names), by the same rule for every project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

from underhood.build.trainset import settle_predicate
from underhood.ground.errors import ComplaintError, SourceError, nearest
from underhood.plan.exprs import Expr, col
from underhood.plan.joins import Plan
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.repair.complaint import Complaint, Spoken, alike, dayless, is_denied, spoken_at, spoken_days, tokens
from underhood.repair.meaning import Meaning, Mention, cohort_of
from underhood.tables.local import Engine

MOST_LEVELS = 12  # a late text with more levels describes, it is not an outcome
FEW = 20  # a sentence that fits more decisions than this names a group, not decisions
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.]*\w)")
_OTHERS = re.compile(r"\b(\d[\d,]*)\s+(?:more|others?|other)\b", re.I)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s?(?:%|per\s?cent|percent)", re.I)
_CLOCK = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def understand(
    engine: Engine, plan: Plan, complaint: Complaint, *, where: str = "", happened: str = "", told: str = ""
) -> Meaning:
    """The meaning of a complaint in the record. Needs the views `decisions` and the sources.

    A person may say better what was meant: `where`, a SQL predicate over `decisions`;
    `happened`, a flag that became known later, or the label; `told`, the action
    complained about. Raises ComplaintError, with what was understood, if nothing can be found.
    """
    meaning = _Reader(engine, plan, complaint).meaning()
    if told:
        meaning = replace(meaning, told=_known(told, plan.system.goal.costs.of, "--told"))
    if happened:
        flags = [n for n, t in plan.facts.items() if t == FLAG]
        name = _known(happened, [*flags, plan.system.label.name], "--happened")
        meaning = replace(meaning, harm=col(f"facts.{name}") if name in flags else col("label"))
    if where:
        ids = _where(engine, where)
        said = Mention(where, "the decisions meant")
        meaning = replace(meaning, named=(), cohort=None, ids=ids, source_rows=(), mentions=(*meaning.mentions, said))
    elif (told or happened) and meaning.cohort is not None and meaning.day:
        meaning = _narrowed(engine, plan, meaning)
    if not meaning.ids and not meaning.source_rows:
        understood = "; ".join(f"“{m.words}” is {m.meant}" for m in meaning.mentions) or "nothing"
        raise ComplaintError(
            f"no decision fits it (understood: {understood})",
            "complaint",
            f"name a key or a day{_as_in(engine)}",
        )
    return meaning


def _where(engine: Engine, where: str) -> tuple[str, ...]:
    """The ids of the decisions for which a predicate holds. Raises SourceError if it cannot be asked."""
    try:
        found = engine.query(f"select id from decisions where {where} order by id")
    except SourceError as error:
        raise SourceError(error.what, "--where", error.hint) from error
    return tuple(str(row["id"]) for row in found)


def _as_in(engine: Engine) -> str:
    """The rest of the hint, from the newest decision of this very record: its key, its day, and a predicate for it."""
    newest = engine.query("select * from decisions order by asked_at desc, id limit 1")
    if not newest:
        return "; nothing has been decided yet: underhood decide"
    one, kinds = newest[0], engine.schema("select * from decisions")
    texts = [c for c, kind in kinds.items() if c.startswith("row.") and kind == TEXT and one[c] is not None]
    counted = ", ".join(f"approx_count_distinct({quoted(c)})" for c in texts)
    levels = engine.rows(f"select {counted} from decisions")[0] if texts else ()
    few = [(n, c) for n, c in zip(levels, texts, strict=True) if n > 1]  # what tells most decisions apart names none
    said = f"action = {sql_value(one['action'])}"
    if few:
        column = min(few)[1]
        said = f"{quoted(column)} = {sql_value(one[column])} and {said}"
    told = said.replace('"', '\\"')
    return f' ({one["key"]}, {one["day"]}), or say which are meant, as in --where "{told}"'


def _known(name: str, names: Iterable[str], where: str) -> str:
    if name not in names:
        raise ComplaintError(f"there is no {name!r}", where, nearest(name, names))
    return name


def _narrowed(engine: Engine, plan: Plan, meaning: Meaning) -> Meaning:
    """The group of a day again, with what happened and what was told as a person said it."""
    cohort = cohort_of(meaning.day, meaning.harm, meaning.told)
    sql = to_sql(settle_predicate(plan, cohort))
    ids = [i for (i,) in engine.rows(f"select id from decisions where {sql} order by id")]
    return replace(meaning, cohort=cohort, ids=tuple(dict.fromkeys([*meaning.named, *ids])))


class _Reader:
    """Reads one complaint against one record; keeps what it understood on the way."""

    def __init__(self, engine: Engine, plan: Plan, complaint: Complaint) -> None:
        self.engine, self.plan, self.complaint = engine, plan, complaint
        self.mentions: dict[str, str] = {}
        self.text = complaint.words
        self.sentences = [s for s in _SENTENCE.split(self.text) if s.strip()]

    def meaning(self) -> Meaning:
        days = self._days()
        told, harm = self._told(), self._harm()
        named = self._named(days)
        claimed = self._claimed()
        source_rows = () if named or claimed else self._source_rows()
        parts = tuple(p for p in self.plan.sources if p != self.plan.system.asks.source.name and self._says(p))
        for part in parts:
            self._note(part, f"the source {part}")
        day = self._day_of(named, days)
        if named:
            told = self._compared(named, told)
        cohort = None
        if day and not source_rows and (claimed > 1 or not named):
            cohort = cohort_of(day, harm, told)
            for expr in () if named else self._phrases(day):
                narrower = cohort & expr
                cohort = narrower if self._ids([], narrower) else cohort
        ids = self._ids(named, cohort)
        made = tuple(Mention(w, m) for w, m in self.mentions.items())
        return Meaning(tuple(named), cohort, tuple(ids), harm, told, claimed, day, parts, source_rows, made)

    def _note(self, words: str, meant: str) -> None:
        self.mentions.setdefault(words.strip(" .,;:!?"), meant)

    def _says(self, word: str) -> bool:
        return any(alike(t, word) for t in tokens(self.text))

    # days

    def _days(self) -> list[date]:
        low, high = self.engine.rows("select min(day), max(day) from decisions")[0]
        sent = self.complaint.sent_at
        if low is None and sent is None:
            return []
        first = int(low[:4]) if low else sent.year - 1  # type: ignore[union-attr]
        last = int(high[:4]) if high else sent.year  # type: ignore[union-attr]
        found = []
        for spoken in spoken_days(self.text):
            day = self._day(spoken, range(min(first, last), max(first, last) + 1))
            words = self.text[slice(*spoken.span)]
            if day is None:
                self._note(words, "a day that had not come when this was written")
            else:
                found.append(day)
                self._note(words, f"the day {day.isoformat()}")
        return found

    def _day(self, spoken: Spoken, years: range) -> date | None:
        sent = self.complaint.sent_at
        dates = [d for d in spoken.dates(years) if sent is None or d <= sent.date()]
        held = [d for d in dates if self.engine.rows(f"select 1 from decisions where day = '{d}' limit 1")]
        return next(iter(held or dates), None)

    def _day_of(self, named: Sequence[str], days: Sequence[date]) -> str:
        if named:
            return str(self.engine.rows(f"select day from decisions where id = {sql_value(named[0])}")[0][0])
        return days[0].isoformat() if days else ""

    # decisions that a sentence singles out

    def _named(self, days: Sequence[date]) -> list[str]:
        within = " and ".join(["true", *([f"day in ({', '.join(sql_value(str(d)) for d in days)})"] if days else [])])
        named: list[str] = []
        for sentence in self.sentences:
            values = self._values(sentence, within)
            if not any(self._is_key(c) for columns in values.values() for c in columns) and len(values) < 2:
                continue
            found = self._fit(values, within, sentence)
            if found:
                named += [i for i in found if i not in named]
        return named

    def _values(self, sentence: str, within: str) -> dict[str, list[tuple[str, object]]]:
        """Words of the sentence that are values of input columns: word → (column, value) pairs."""
        plain = self._without_days(sentence)
        words = list(dict.fromkeys(w for t in tokens(plain) for w in [t, *re.split(r"[-/]", t)] if w))
        found: dict[str, list[tuple[str, object]]] = {}
        for column, kind in self.plan.inputs.items():
            name = quoted("row." + column)
            if kind == TEXT:
                wanted = {w for w in words if len(w) > 1 or self._beside(plain, column, w)}
                if not wanted:
                    continue
                listed = ", ".join(sql_value(w) for w in wanted)
                rows = self.engine.rows(
                    f"select distinct {name} from decisions where {within} and ({name} in ({listed}) or "
                    f"(length({name}) > 3 and lower({name}) in ({listed.lower()})))"
                )
                for (value,) in rows:
                    word = next(w for w in wanted if w == value or w.lower() == value.lower())
                    found.setdefault(word, []).append((column, value))
            elif kind == NUMBER and (self._is_key((column, 0)) or self._beside_any(plain, column)):
                for word in self._numbers(plain):
                    if self._is_key((column, 0)) or self._beside(plain, column, word):
                        found.setdefault(word, []).append((column, float(word.replace(",", ""))))
        listed = ", ".join(sql_value(w) for w in words) or "NULL"
        keyed = self.engine.rows(
            f"select distinct unnest([key, id]) as name from decisions where key in ({listed}) or id in ({listed})"
        )
        for (name,) in keyed:
            if name in words:
                found[name] = [("key", name), ("id", name)]
        return found

    def _fit(self, values: dict[str, list[tuple[str, object]]], within: str, sentence: str) -> list[str]:
        """Ids of the few decisions that hold the most of the named values; none if they are many."""
        if not values:
            return []
        tests = [self._test(pairs) for pairs in values.values()]
        keyed = [self._test(own) for pairs in values.values() if (own := [p for p in pairs if self._is_key(p)])]
        best = self.engine.rows(
            f"select hits, count(*), list(id order by id) from (select id, {' + '.join(keyed) or 0} as keys, "
            f"{' + '.join(tests)} as hits from decisions where {within}) "
            "group by keys, hits order by keys desc, hits desc limit 1"
        )
        if not best or best[0][1] > FEW or (best[0][0] < min(2, len(tests)) and best[0][1] > len(keyed)):
            return []
        ids: list[str] = list(best[0][2])
        ids = self._at_clock(ids, sentence)
        for word, pairs in values.items():
            tested = ", ".join(f"coalesce({self._column(c)} = {sql_value(v)}, false)" for c, v in pairs)
            holds = self.engine.rows(f"select {tested} from decisions where id = {sql_value(ids[0])}")[0]
            said = [c for (c, _), true in zip(pairs, holds, strict=True) if true]
            if said:
                self._note(word, " or ".join(dict.fromkeys(said)))
        return ids

    def _test(self, pairs: Sequence[tuple[str, object]]) -> str:
        """1 for a decision that holds one of these values, else 0."""
        holds = " or ".join(f"{self._column(c)} = {sql_value(v)}" for c, v in pairs)
        return f"coalesce({holds}, false)::INT"

    def _at_clock(self, ids: list[str], sentence: str) -> list[str]:
        match = _CLOCK.search(sentence)
        if not match:
            return ids
        listed = ", ".join(sql_value(i) for i in ids)
        rows = self.engine.rows(
            f"select id from decisions where id in ({listed}) and hour(local) = {int(match[1])} "
            f"and minute(local) = {int(match[2])} order by id"
        )
        if rows:
            self._note(match[0], "the time of day")
        return [r[0] for r in rows] or ids

    def _column(self, name: str) -> str:
        return name if name in ("key", "id") else quoted("row." + name)

    def _is_key(self, pair: tuple[str, object]) -> bool:
        return pair[0] in ("key", "id") or pair[0] in self.plan.system.asks.source.key

    def _without_days(self, sentence: str) -> str:
        return _OTHERS.sub(" ", _SHARE.sub(" ", _CLOCK.sub(" ", dayless(sentence))))

    def _numbers(self, sentence: str) -> list[str]:
        return [m[0] for m in _NUMBER.finditer(sentence)]

    def _beside_any(self, sentence: str, column: str) -> bool:
        return any(self._beside(sentence, column, n) for n in self._numbers(sentence))

    def _beside(self, sentence: str, column: str, word: str) -> bool:
        """Whether a word of the column's name stands next to the value."""
        listed = tokens(sentence)
        parts = [p for p in column.split("_") if len(p) > 3] or [column]
        for i, token in enumerate(listed):
            if token == word:
                near = listed[max(0, i - 2) : i] + listed[i + 1 : i + 3]
                if any(alike(n, p) for n in near for p in parts):
                    return True
        return False

    # what happened, what was told, how many

    def _harm(self) -> Expr | None:
        """What the complaint says happened, by the name of something that became known later.

        A flag first, then a level of a text, then the label: a label is what may be wrong.
        """
        words = [w for t in tokens(self.text) for w in re.split(r"[-/]", t) if w]
        for name, kind in self.plan.facts.items():
            if kind == FLAG and (at := spoken_at(words, name)):
                no = is_denied(words[: at.start])
                self._note(" ".join(words[at.start : at.stop]), f"{name} = {'false' if no else 'true'}")
                return ~col(f"facts.{name}") if no else col(f"facts.{name}")
        for name, level in self._levels():
            if at := spoken_at(words, level):
                no = is_denied(words[: at.start])
                self._note(" ".join(words[at.start : at.stop]), f"{name} {'is not' if no else '='} '{level}'")
                return col(f"facts.{name}") != level if no else col(f"facts.{name}") == level
        label = self.plan.system.label.name
        for part in [label, *[p for p in label.split("_") if len(p) > 3]]:
            if at := spoken_at(words, part):
                no = is_denied(words[: at.start])
                self._note(" ".join(words[at.start : at.stop]), f"the label {label}{' is false' if no else ''}")
                return ~col("label") if no else col("label")
        return None

    def _levels(self) -> list[tuple[str, str]]:
        """Levels of late texts that have few enough to be an outcome, with their column."""
        found = []
        for name in (n for n, t in self.plan.facts.items() if t == TEXT):
            column = quoted(f"facts.{name}")
            rows = self.engine.rows(
                f"select distinct {column} from decisions where {column} is not null limit {MOST_LEVELS + 1}"
            )
            found += [(name, str(level)) for (level,) in rows if len(rows) <= MOST_LEVELS and len(str(level)) > 3]
        return found

    def _told(self) -> str | None:
        for action in self.plan.system.policy.actions:
            for token in tokens(self.text):
                if alike(token, action):
                    self._note(token, f"the action {action}")
                    return action
        return None

    def _compared(self, named: Sequence[str], told: str | None) -> str | None:
        """What was told by the record, which may differ from what the complaint says of score and action."""
        served = self._action_of(named)
        if told is not None and served is not None and told != served:
            self.mentions = {
                w: m + (f", but the record says {served}" if m == f"the action {told}" else "")
                for w, m in self.mentions.items()
            }
        score = self.engine.rows(f"select score from decisions where id = {sql_value(named[0])}")[0][0]
        for share in _SHARE.finditer(self.text) if score is not None else ():
            close = abs(float(share[1]) / 100 - score) <= 0.02
            self._note(share[0], f"its score, {score:.3f}" if close else f"not its score, which is {score:.3f}")
        return served or told

    def _action_of(self, named: Sequence[str]) -> str | None:
        listed = ", ".join(sql_value(i) for i in named)
        rows = self.engine.rows(f"select distinct action from decisions where id in ({listed})")
        return str(rows[0][0]) if len(rows) == 1 else None

    def _claimed(self) -> int:
        text = dayless(self.text)
        match = _OTHERS.search(text)
        if match:
            self._note(match[0], "how many it is about, besides the one named")
            return int(match[1].replace(",", "")) + 1
        asked = self.plan.system.asks.source.name
        for word, number in ((m[2], m[1]) for m in re.finditer(r"\b(\d[\d,]*)\s+([A-Za-z]+)", text)):
            if alike(word, asked):
                self._note(f"{number} {word}", "how many it is about")
                return int(number.replace(",", ""))
        return 0

    # groups

    def _phrases(self, day: str) -> list[Expr]:
        """Levels of text inputs that the complaint says word by word, such as "City Hotel": they narrow a group."""
        found, text = [], dayless(self.text)
        for column in (c for c, t in self.plan.inputs.items() if t == TEXT):
            name = quoted("row." + column)
            rows = self.engine.rows(
                f"select distinct {name} from decisions where day = {sql_value(day)} and {name} is not null"
            )
            said = [str(v) for (v,) in rows if len(str(v)) > 1 and re.search(rf"\b{re.escape(str(v))}\b", text)]
            if said and len(said) < len(rows):
                self._note(" or ".join(said), column)
                found.append(col(f"row.{column}").isin(said))
        return found

    def _ids(self, named: Iterable[str], cohort: Expr | None) -> list[str]:
        ids = list(named)
        if cohort is not None:
            sql = to_sql(settle_predicate(self.plan, cohort))
            ids += [i for (i,) in self.engine.rows(f"select id from decisions where {sql} order by id") if i not in ids]
        return ids

    # a value of a source

    def _source_rows(self) -> tuple[tuple[str, str, int, str, float], ...]:
        """Rows of a source that hold a number of the complaint, in a column whose name it says."""
        found: list[tuple[str, str, int, str, float]] = []
        for sentence in self.sentences:
            plain = self._without_days(sentence)
            for name, each in self.plan.sources.items():
                raw = quoted(f"raw {name}")
                numeric = self.engine.schema(f"select * from {raw}")
                measured = [c for c, k in numeric.items() if k == NUMBER and c not in each.source.key]
                for column in (c for c in measured if self._names(sentence, c)):
                    for number in self._numbers(plain):
                        if len(column) == 3 and not self._beside(plain, column, number):
                            continue
                        found += self._holding(name, raw, column, float(number.replace(",", "")), number)
        return tuple(dict.fromkeys(found))[:FEW]

    def _holding(
        self, name: str, raw: str, column: str, value: float, word: str
    ) -> list[tuple[str, str, int, str, float]]:
        near = 0.5 if value == int(value) else abs(value) * 1e-6
        rows = self.engine.rows(
            f"select __row, __key, {quoted(column)} from {raw} "
            f"where abs({quoted(column)} - {sql_value(value)}) <= {near} limit {FEW + 1}"
        )
        if not rows or len(rows) > FEW:
            return []
        self._note(word, f"the value of {name}.{column}")
        return [(name, column, int(r), str(k), float(v)) for r, k, v in rows]

    def _names(self, sentence: str, column: str) -> bool:
        parts = [p for p in column.split("_") if len(p) > 2]
        return bool(parts) and all(any(alike(t, p) for t in tokens(sentence)) for p in parts)
