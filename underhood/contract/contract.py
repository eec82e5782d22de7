"""What a table must keep, as a file that people read: its rules, frozen with a version, and checked in one pass.

A file is TOML with one rule a line, and above it, as comments, the evidence and whatever people add:

    { kind = "range", column = "wind_speed", least = 0.0, most = 80.0, unit = "mph" },
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from underhood.contract.rhythm import PERIODS, Arrival, Fresh, NeverFalls, Rows, Steps, Unit
from underhood.contract.rules import (
    TYPES,
    Determines,
    Holds,
    Key,
    Nulls,
    OneOf,
    Order,
    Pattern,
    Range,
    Reference,
    Required,
    Rule,
    Sum,
    Type,
)
from underhood.ground.errors import ContractError, UnderhoodError, nearest, raise_all
from underhood.plan.exprs import digest
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME

_ALL = (
    *(Type, Required, Key, Range, OneOf, Pattern, Unit, Steps, Fresh, Arrival, NeverFalls),
    *(Order, Sum, Nulls, Determines, Reference, Rows, Holds),
)
KINDS: Mapping[str, type[Rule]] = {kind.kind: kind for kind in _ALL}
ABOUT = ("table", "version", "digest", "owner", "about")


@dataclass(frozen=True)
class Contract:
    """What a table promises: rules in the order in which people read them, its version and its owner.

    `frozen` is the digest that the file has for its version: another one than `digest` when
    someone has changed the rules by hand since. `remarks` are the comments at the top.
    """

    table: str
    rules: tuple[Rule, ...]
    version: int = 1
    owner: str = ""
    about: str = ""
    frozen: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that are equal exactly when two contracts have the same rules."""
        return digest([rule_json(rule) for rule in self.rules])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it speaks of, those with a type first."""
        typed = [r.column for r in self.rules if isinstance(r, Type)]
        return tuple(dict.fromkeys([*typed, *(c for r in self.rules for c in r.columns)]))

    @property
    def types(self) -> Mapping[str, str]:
        """Column → its type, where the contract says one."""
        return {r.column: r.type for r in self.rules if isinstance(r, Type)}

    @property
    def reads(self) -> Mapping[str, str]:
        """Column → the type that the rules read it as: what the contract says, else what the rule needs."""
        return {**{c: kind for rule in self.rules for c, kind in _needs(rule)}, **self.types}

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the first key, or none."""
        return next((r.of for r in self.rules if isinstance(r, Key)), ())


def _needs(rule: Rule) -> Iterator[tuple[str, str]]:
    if isinstance(rule, Range):
        is_time = isinstance(rule.least, datetime) or isinstance(rule.most, datetime)
        yield rule.column, TIME if is_time else NUMBER
    elif isinstance(rule, Unit | NeverFalls):
        yield rule.column, NUMBER
    elif isinstance(rule, Sum):
        yield from ((c, NUMBER) for c in rule.columns)
    elif isinstance(rule, Steps | Fresh | Rows):
        yield rule.clock, TIME
    elif isinstance(rule, Arrival):
        yield from ((c, TIME) for c in rule.columns)
    elif isinstance(rule, OneOf) and rule.values:
        kinds = {TEXT if isinstance(v, str) else FLAG if isinstance(v, bool) else NUMBER for v in rule.values}
        yield rule.column, kinds.pop() if len(kinds) == 1 else TEXT


def rule_json(rule: Rule) -> dict[str, Any]:
    """A rule as the file and `--json` have it, without what is as by default, without its evidence."""
    body: dict[str, Any] = {"kind": rule.kind}
    for field in fields(rule):
        value = getattr(rule, field.name)
        is_default = field.default is not MISSING and value == field.default
        if field.name not in ("evidence", "share") and not is_default:
            body[field.name] = list(value) if isinstance(value, tuple) else value
    return {**body, "share": rule.share} if rule.share else body


def contract_json(contract: Contract) -> dict[str, Any]:
    """A contract as `--json` has it, each rule with its sentence and its evidence."""
    rules = [{**rule_json(r), "says": r.says(), "evidence": r.evidence} for r in contract.rules]
    return {**{name: getattr(contract, name) for name in ABOUT}, "rules": rules}


def freeze(contract: Contract, path: Path) -> Contract:
    """Writes a contract as the next version of what the file holds; the same rules keep their version.

    The remarks that the file has stay, and so do the comments above rules that have not changed.
    """
    if path.exists():
        before = read_contract(path)
        known = {json.dumps(rule_json(r), default=str): r.evidence for r in before.rules}
        kept = [
            replace(r, evidence=known.get(json.dumps(rule_json(r), default=str), r.evidence)) for r in contract.rules
        ]
        is_same = contract.digest == before.digest == before.frozen
        contract = replace(
            contract,
            rules=tuple(kept),
            version=before.version if is_same else before.version + 1,
            owner=contract.owner or before.owner,
            about=contract.about or before.about,
            remarks=before.remarks or contract.remarks,
        )
    contract = replace(contract, frozen=contract.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(contract_text(contract), "utf-8")
    part.replace(path)
    return contract


def contract_text(contract: Contract) -> str:
    """A contract as its file has it; reading it gives the contract back."""
    lines = [f"# {line}".rstrip() for line in contract.remarks]
    lines += [f"table = {_toml(contract.table)}", f"version = {contract.version}"]
    lines += [f"digest = {_toml(contract.frozen or contract.digest)}"]
    lines += [f"{name} = {_toml(getattr(contract, name))}" for name in ("owner", "about") if getattr(contract, name)]
    lines += ["", "rules = ["]
    for rule in contract.rules:
        lines += [f"  # {line}".rstrip() for line in rule.evidence.splitlines()]
        said = ", ".join(f"{name} = {_toml(value)}" for name, value in rule_json(rule).items())
        lines.append(f"  {{ {said} }},")
    return "\n".join([*lines, "]", ""])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def read_contract(path: Path) -> Contract:
    """Reads a contract. Raises ContractError with all that does not add up, each with its rule."""
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ContractError("there is no such file", str(path), nearest(path.name, there))
    try:
        text = path.read_text("utf-8-sig")
        body = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ContractError("is not UTF-8 text", str(path), "save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"is not TOML: {error}", str(path), "one rule a line, each line ends in },") from error
    return parse_contract(body, str(path), text)


def parse_contract(body: Mapping[str, Any], where: str, text: str = "") -> Contract:
    """A contract of plain values; `text` is the file that they come from, for its comments."""
    errors: list[UnderhoodError] = []
    for name in sorted(set(body) - {*ABOUT, "rules"}):
        errors.append(ContractError(f"has no place for {name!r}", where, nearest(name, (*ABOUT, "rules"))))
    listed = body.get("rules", [])
    if not isinstance(listed, list) or not isinstance(body.get("table"), str):
        raise ContractError('needs table = "…" and rules = [ … ]', where, "underhood contract infer FILE writes one")
    remarks, comments = _comments(text, len(listed))
    rules = []
    for n, (each, comment) in enumerate(zip(listed, comments, strict=True), 1):
        try:
            rules.append(parse_rule(each, f"{where}, rule {n}", comment))
        except ContractError as error:
            errors.append(error)
    raise_all(errors)
    about = {name: str(body.get(name, "")) for name in ("owner", "about")}
    version = body.get("version", 1)
    if not isinstance(version, int) or version < 1:
        raise ContractError(f"version {version!r} is not a whole number from 1", where)
    return Contract(body["table"], tuple(rules), version, **about, frozen=str(body.get("digest", "")), remarks=remarks)


def _comments(text: str, n: int) -> tuple[tuple[str, ...], list[str]]:
    """The comments at the top of a file, and those above each of its `n` rules."""
    above: list[str] = []
    found: list[str] = []
    remarks: list[str] = []
    is_top = True
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("#"):
            (remarks if is_top else above).append(line[1:].strip())
        elif line.startswith("{"):
            found.append("\n".join(above))
            above = []
        elif line:
            is_top, above = False, []
    return tuple(remarks), found if len(found) == n else [""] * n


_FITS: Mapping[str, tuple[Any, str]] = {
    "str": (str, "a text"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
    "int | None": (int, "a whole number"),
    "float | datetime | None": ((int, float, datetime), "a number or a moment"),
    "tuple[str, ...]": (str, "a list of texts"),
    "tuple[float, ...]": ((int, float), "a list of numbers"),
    "tuple[Any, ...]": ((str, int, float, bool, datetime), "a list of values"),
}


def parse_rule(body: Any, where: str, evidence: str = "") -> Rule:
    """One rule of plain values. Raises ContractError: an unknown kind, an unknown or missing field, a wrong value."""
    if not isinstance(body, Mapping) or body.get("kind") not in KINDS:
        said = body.get("kind") if isinstance(body, Mapping) else body
        raise ContractError(f"there is no rule of kind {said!r}", where, nearest(str(said), KINDS))
    made = KINDS[body["kind"]]
    known = {f.name: f for f in fields(made) if f.name != "evidence"}
    errors: list[UnderhoodError] = [
        ContractError(f"has no field {name!r}", where, nearest(name, known))
        for name in body
        if name not in {*known, "kind"}
    ]
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in body:
            values[name] = _plain(body[name])
            problem = _unfit(name, str(field.type), values[name])
            errors += [ContractError(f"{name} = {body[name]!r} is not {problem}", where)] if problem else []
        elif field.default is MISSING:
            errors.append(ContractError(f"needs {name} = …", where, f"{made.kind}: {(made.__doc__ or '').strip()}"))
    raise_all(errors)
    return made(**values, evidence=evidence)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_plain(v) for v in value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


def _unfit(name: str, annotation: str, value: Any) -> str:
    """What a field's value should have been; "" if it is that."""
    wanted, says = _FITS[annotation]
    listed = annotation.startswith("tuple")
    values = value if listed and isinstance(value, tuple) else (value,)
    is_flag = wanted is bool or (isinstance(wanted, tuple) and bool in wanted)
    if listed != isinstance(value, tuple):
        return says
    if any(not isinstance(v, wanted) or (isinstance(v, bool) and not is_flag) for v in values):
        return says
    if name == "share" and not 0 <= value <= 1:
        return "between 0 and 1"
    if name == "type" and value not in TYPES:
        return "one of " + ", ".join(TYPES)
    if name == "period" and value not in PERIODS:
        return "one of " + ", ".join(PERIODS)
    if name in ("within", "every") and isinstance(value, str):
        return "" if re.fullmatch(r"\s*[0-9]+(?:\.[0-9]+)?\s*(s|min|h|d)\s*", value) else 'a span such as "60min"'
    if name in ("of", "by", "parts") and annotation == "tuple[str, ...]" and not value and name != "by":
        return "a list of names"
    if name == "typical" and len(value) != 5:
        return "five quantiles"
    return ""
