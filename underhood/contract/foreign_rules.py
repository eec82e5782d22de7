"""Rules that were written for another tool, as ours: pandera schemas, dbt tests, Great Expectations suites.

Only files are read, none of the tools is needed. What has no counterpart is named, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from underhood.contract.contract import Contract
from underhood.contract.rules import WHOLE, Holds, Key, OneOf, Order, Pattern, Range, Reference, Required, Rule, Type
from underhood.ground.errors import ContractError, nearest
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME


@dataclass(frozen=True)
class Imported:
    """The contracts of a foreign file, one a table, and what did not map: a sentence each."""

    contracts: tuple[Contract, ...]
    unmapped: tuple[str, ...]
    dialect: str


def read_foreign(path: Path, table: str = "") -> Imported:
    """Reads a pandera schema (YAML, JSON), a dbt schema.yml, or a Great Expectations suite (JSON).

    Which it is tells its content. `table` names the table where the file does not. Raises ContractError
    if the file is none of them.
    """
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ContractError("there is no such file", str(path), nearest(path.name, there))
    text = path.read_text("utf-8-sig")
    body = _parsed(text, path)
    named = table or path.name.split(".")[0]
    missed: list[str] = []
    if isinstance(body, Mapping):
        if "expectations" in body:
            contract = Contract(named, tuple(_suite(body["expectations"], missed)), remarks=(f"from {path.name}",))
            return Imported((contract,), tuple(missed), "Great Expectations")
        if isinstance(body.get("columns"), Mapping) or body.get("schema_type") == "dataframe":
            contract = Contract(named, tuple(_pandera(body, missed)), remarks=(f"from {path.name}",))
            return Imported((contract,), tuple(missed), "pandera")
        if any(kind in body for kind in ("models", "sources", "seeds", "snapshots")):
            return Imported(tuple(_dbt(body, missed, path.name)), tuple(missed), "dbt")
    raise ContractError(
        "is no pandera schema, dbt schema file or Great Expectations suite",
        str(path),
        "pandera: schema.to_yaml(path); GX: suite.to_json_dict()",
    )


def _parsed(text: str, path: Path) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(f"is not JSON: {error}", str(path)) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Plain values of a YAML text: maps, lists, texts, numbers, flags; no tags are obeyed. Raises ContractError."""
    try:
        import yaml
    except ImportError as error:
        hint = "pip install 'underhood[yaml]', or write the schema as JSON"
        raise ContractError("YAML needs PyYAML, which is not installed", where, hint) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ContractError(f"is not YAML: {' '.join(str(error).split())}", where) from error
    except ValueError as error:  # a date such as 2024-02-31
        raise ContractError(f"is not YAML: {error}", where) from error


# --- Great Expectations ---

Made = Callable[[Mapping[str, Any]], Rule | None]


def _share(body: Mapping[str, Any]) -> float:
    return round(1 - float(body.get("mostly", 1.0)), 9)


def _between(body: Mapping[str, Any]) -> Rule | None:
    low, high = body.get("min_value"), body.get("max_value")
    if (low is None and high is None) or isinstance(low, str) or isinstance(high, str):
        return None
    if body.get("strict_min") or body.get("strict_max"):
        return None
    return Range(body["column"], _number(low), _number(high), share=_share(body))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _pair(body: Mapping[str, Any]) -> Rule | None:
    return Order(body["column_B"], body["column_A"], share=_share(body)) if body.get("or_equal") else None


def _length(body: Mapping[str, Any], shortest: Any, longest: Any) -> Rule:
    least, most = (None if n is None else int(n) for n in (shortest, longest))
    return Pattern(body["column"], "", least, most, share=_share(body))


_KINDS = {"int": WHOLE, "integer": WHOLE, "bigint": WHOLE, "float": NUMBER, "double": NUMBER, "number": NUMBER}
_KINDS |= {"decimal": NUMBER, "str": TEXT, "string": TEXT, "object": TEXT, "varchar": TEXT, "text": TEXT}
_KINDS |= {"bool": FLAG, "boolean": FLAG, "datetime": TIME, "timestamp": TIME, "date": TIME}


def _kind(said: Any) -> str | None:
    """Our type for a foreign type's name: int64 → whole number, datetime64[ns] → time; null if unknown."""
    word = re.match(r"[a-z]+", str(said).lower().removeprefix("pandas.").removeprefix("u"))
    return _KINDS.get(word[0]) if word else None


def _typed(column: str, said: Any) -> Rule | None:
    kind = _kind(said)
    return Type(column, kind) if kind else None


_SUITE: Mapping[str, Made] = {
    "expect_column_to_exist": lambda b: Required(b["column"], share=1.0),
    "expect_column_values_to_not_be_null": lambda b: Required(b["column"], share=_share(b)),
    "expect_column_values_to_be_unique": lambda b: Key((b["column"],), share=_share(b)),
    "expect_compound_columns_to_be_unique": lambda b: Key(tuple(b["column_list"]), share=_share(b)),
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": lambda b: OneOf(b["column"], tuple(b["value_set"]), share=_share(b)),
    "expect_column_values_to_match_regex": lambda b: Pattern(b["column"], _anywhere(b["regex"]), share=_share(b)),
    "expect_column_value_lengths_to_be_between": lambda b: _length(b, b.get("min_value"), b.get("max_value")),
    "expect_column_value_lengths_to_equal": lambda b: _length(b, b["value"], b["value"]),
    "expect_column_values_to_be_of_type": lambda b: _typed(b["column"], b["type_"]),
    "expect_column_pair_values_a_to_be_greater_than_b": _pair,
}  # fmt: skip


def _suite(listed: Sequence[Mapping[str, Any]], missed: list[str]) -> Iterator[Rule]:
    for each in listed:
        kind = str(each.get("type") or each.get("expectation_type") or "")
        body = each.get("kwargs") or {}
        rule = _made(_SUITE.get(kind), body)
        conditioned = body.get("row_condition")
        if rule is None or conditioned:
            missed.append(_said(kind, body))
        else:
            yield rule


def _made(maker: Made | None, body: Mapping[str, Any]) -> Rule | None:
    if maker is None:
        return None
    try:
        return maker(body)
    except (KeyError, TypeError, ValueError):
        return None


def _said(kind: str, body: Mapping[str, Any]) -> str:
    of = body.get("column") or ", ".join(map(str, body.get("column_list") or ()))
    told = ", ".join(f"{k}={v!r}" for k, v in body.items() if k not in ("column", "column_list"))
    return f"{kind}({', '.join(filter(None, (of, told)))})"


def _anywhere(regex: str) -> str:
    """A regular expression that is looked for, as one that must match as a whole."""
    start = "" if regex.startswith("^") else ".*"
    end = "" if regex.endswith("$") and not regex.endswith("\\$") else ".*"
    return f"{start}{regex.removeprefix('^').removesuffix('$') if not end else regex.removeprefix('^')}{end}"


# --- pandera ---


_FIELDS = (
    *("dtype", "nullable", "unique", "checks", "coerce", "required", "regex", "title", "description", "name"),
    *("report_duplicates", "default", "metadata", "drop_invalid_rows", "parsers"),
)


def _pandera(body: Mapping[str, Any], missed: list[str]) -> Iterator[Rule]:
    """A schema as `to_yaml` and `to_json` write it."""
    for column, said in (body.get("columns") or {}).items():
        said = said or {}
        if said.get("regex"):
            missed.append(f"{column}: the column's name is a pattern")
            continue
        typed = _typed(column, said.get("dtype")) if said.get("dtype") else None
        if typed:
            yield typed
        elif said.get("dtype"):
            missed.append(f"{column}: type {said['dtype']}")
        if not said.get("nullable", False):
            yield Required(column)
        if said.get("unique"):
            yield Key((column,))
        # pandera 0.35 writes a check as a field of its column, earlier versions under "checks"
        checks = said.get("checks") or {}
        older = checks.items() if isinstance(checks, Mapping) else _listed_checks(checks)
        for name, value in [*older, *((k, v) for k, v in said.items() if k not in _FIELDS)]:
            rule = _made(partial(_check, name, column), value if isinstance(value, Mapping) else {"value": value})
            if rule is None:
                missed.append(f"{column}: check {name}({value})")
            else:
                yield rule
    unique = body.get("unique")
    if unique:
        yield Key((unique,) if isinstance(unique, str) else tuple(unique))
    if body.get("checks"):
        missed.append(f"checks of the whole table: {body['checks']}")


def _listed_checks(checks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Newer files list checks, each with its name among its options."""
    for each in checks:
        options = dict(each.get("options") or {})
        name = options.pop("check_name", None) or each.get("name") or "?"
        rest = {k: v for k, v in each.items() if k not in ("options", "name")}
        yield name, rest or options


def _check(name: str, column: str, body: Mapping[str, Any]) -> Rule | None:
    value = body.get("value", body)
    q = '"' + column.replace('"', '""') + '"'
    match name:
        case "greater_than_or_equal_to":
            return Range(column, least=float(value if not isinstance(value, Mapping) else body["min_value"]))
        case "less_than_or_equal_to":
            return Range(column, most=float(value if not isinstance(value, Mapping) else body["max_value"]))
        case "in_range":
            if not (body.get("include_min", True) and body.get("include_max", True)):
                return None
            return Range(column, float(body["min_value"]), float(body["max_value"]))
        case "isin":
            return OneOf(column, tuple(value if isinstance(value, list) else body["allowed_values"]))
        case "str_matches":
            pattern = value if isinstance(value, str) else body["pattern"]
            return Pattern(
                column, pattern.removeprefix("^").removesuffix("$") + ("" if pattern.endswith("$") else ".*")
            )
        case "str_length":
            return Pattern(column, "", body.get("min_value"), body.get("max_value"))
        case "greater_than" if not isinstance(value, Mapping):
            return Holds(f"{q} > {float(value)!r}", (column,))
        case "less_than" if not isinstance(value, Mapping):
            return Holds(f"{q} < {float(value)!r}", (column,))
        case "not_equal_to" if isinstance(value, int | float):
            return Holds(f"{q} <> {float(value)!r}", (column,))
    return None


# --- dbt ---


def _dbt(body: Mapping[str, Any], missed: list[str], name: str) -> Iterator[Contract]:
    """Models, seeds, snapshots and the tables of sources of a schema file."""
    tables = [t for kind in ("models", "seeds", "snapshots") for t in body.get(kind) or []]
    tables += [t for s in body.get("sources") or [] for t in (s or {}).get("tables") or []]
    for table in tables:
        rules: list[Rule] = []
        for test in [*(table.get("tests") or []), *(table.get("data_tests") or [])]:
            rules += _test(str(table.get("name")), "", test, missed)
        for column in table.get("columns") or []:
            typed = _typed(column["name"], column["data_type"]) if column.get("data_type") else None
            rules += [typed] if typed else []
            for test in [*(column.get("tests") or []), *(column.get("data_tests") or [])]:
                rules += _test(str(table.get("name")), column["name"], test, missed)
        owner = ((table.get("meta") or (table.get("config") or {}).get("meta")) or {}).get("owner", "")
        about = str(table.get("description") or "").strip().splitlines()
        yield Contract(
            str(table.get("name")), tuple(rules), owner=str(owner), about=about[0] if about else "",
            remarks=(f"from {name}",),
        )  # fmt: skip


def _test(table: str, column: str, test: Any, missed: list[str]) -> Iterator[Rule]:
    kind, body = (test, {}) if isinstance(test, str) else next(iter(test.items()))
    body = dict(body or {})
    body |= dict(body.pop("arguments", None) or {})
    config = body.pop("config", None) or {}
    is_partial = any(key in body or key in config for key in ("where", "error_if"))
    column = body.get("column_name") or column
    rule = None if is_partial else _made(lambda b: _test_rule(kind.rpartition(".")[2], column, b), body)
    if rule is None:
        missed.append(f"{table}.{column}: {kind}({', '.join(f'{k}={v!r}' for k, v in body.items())})")
    else:
        yield rule


def _test_rule(kind: str, column: str, body: Mapping[str, Any]) -> Rule | None:
    match kind:
        case "not_null":
            return Required(column)
        case "unique":
            return Key((column,))
        case "accepted_values":
            return OneOf(column, tuple(body["values"]))
        case "relationships":
            called = re.search(r"""['"]([^'"]+)['"]\s*\)\s*$""", str(body["to"]))
            return Reference(column, called[1], body["field"]) if called else None
        case "unique_combination_of_columns":
            return Key(tuple(body["combination_of_columns"]))
        case "accepted_range":
            if not body.get("inclusive", True) or isinstance(body.get("min_value", 0), str):
                return None
            return Range(column, _number(body.get("min_value")), _number(body.get("max_value")))
        case "not_null_proportion":
            return Required(column, share=round(1 - float(body.get("at_least", 1)), 9))
        case "expression_is_true":
            said = f"{column} {body['expression']}".strip()
            return Holds(said, tuple(dict.fromkeys(_names(said))))
        case "expect_column_values_to_be_between":
            return _between({"column": column, **body})
        case "expect_column_values_to_match_regex":
            return Pattern(column, _anywhere(body["regex"]))
    return None


_WORDS = {
    "and",
    "or",
    "not",
    "is",
    "null",
    "in",
    "like",
    "between",
    "case",
    "when",
    "then",
    "else",
    "end",
    "true",
    "false",
}


def _names(condition: str) -> Iterator[str]:
    """The columns of a condition: words outside of quotes that are no keyword and no function."""
    bare = re.sub(r"'(?:[^']|'')*'", " ", condition)
    for name, call in re.findall(r"\b([A-Za-z_]\w*)\b(\s*\()?", bare):
        if not call and name.lower() not in _WORDS:
            yield name
