"""The house stands: what 3-architecture and 4-style promise about the package, held by tests.

To add a file, write it into tests/house.txt where it is told; to add a library, into GUESTS below.
"""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import make

ROOT = make.ROOT
PACKAGE = ROOT / "underhood"
HOUSE = make.house((ROOT / "tests" / "house.txt").read_text("utf-8"))

# Which files may name a library; "underhood/" ends in a slash: every file below it may.
# numpy and msgspec are the common tongue, kept out of where they would weigh by the tests of weight.
GUESTS = {
    "duckdb": ["underhood/tables/local.py"],
    "pyarrow": [
        "underhood/tables/local.py",
        "underhood/tables/batches.py",
        "underhood/tables/columns.py",
        "underhood/tables/parity.py",
        "underhood/tables/spark.py",
        "underhood/record/seal.py",
    ],
    "numpy": ["underhood/"],
    "scipy": ["underhood/build/ladder.py"],
    "sklearn": ["underhood/build/ladder.py"],
    "lightgbm": ["underhood/build/booster.py"],
    "msgspec": ["underhood/"],
    "click": [
        "underhood/faces/answers.py",
        "underhood/faces/tracing.py",
        "underhood/faces/casework.py",
        "underhood/faces/contracts.py",
        "underhood/faces/paritying.py",
        "underhood/faces/looking.py",
        "underhood/faces/starting.py",
        "underhood/faces/adopting.py",
        "underhood/faces/cli.py",
        "underhood/faces/drilling.py",
        "underhood/faces/watching.py",
    ],
    "rich": [
        "underhood/faces/progress.py",
        "underhood/faces/show.py",
        "underhood/faces/show_lineage.py",
        "underhood/faces/show_starting.py",
        "underhood/faces/show_adopting.py",
        "underhood/faces/show_tables.py",
        "underhood/faces/show_compare.py",
        "underhood/faces/show_contracts.py",
        "underhood/faces/drilling.py",
        "underhood/faces/watching.py",
    ],
    "jinja2": ["underhood/faces/report.py", "underhood/faces/look_page.py"],
    "markupsafe": ["underhood/faces/report.py", "underhood/faces/look_page.py"],
    "pytest": ["underhood/faces/pytest_plugin.py"],
    "pandas": [],
    "pyspark": ["underhood/tables/spark.py"],
    "psycopg": ["underhood/tables/databases.py"],
    "onnxruntime": ["underhood/build/onnx_models.py"],
    "yaml": ["underhood/contract/foreign_rules.py"],
}
STANDARD_LIBRARY_ONLY = "underhood/ground/"

WEIGHED = {
    "import underhood": 150,
    "from underhood.faces.cli import main; main(['--help'], prog_name='underhood')": 250,
    "import underhood.run.decide": 400,
    "import underhood.run.state": 250,
}
NEVER_ON_THE_SERVING_PATH = ["pandas", "sklearn", "duckdb", "lightgbm"]

MOST_LINES_OF_A_FILE = 450
MOST_LINES_OF_A_FUNCTION = 70
MOST_PUBLIC_NAMES = 25


def files():
    """Every Python file of the package, as written in house.txt."""
    return sorted(str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py"))


@cache
def tree(path):
    return ast.parse((ROOT / path).read_text("utf-8"), path)


def module_file(dotted):
    """The file of a module of ours, or None: "underhood.plan.exprs" → "underhood/plan/exprs.py"."""
    stem = dotted.replace(".", "/")
    for path in (f"{stem}.py", f"{stem}/__init__.py"):
        if (ROOT / path).exists():
            return path
    return None


def modules_named(path):
    """(line, dotted name) of all that a file imports: anywhere in it, relative, or by import_module("…")."""
    package = Path(path).parent.parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                is_ours = origin.split(".")[0] == "underhood"
                yield node.lineno, inner if is_ours and module_file(inner) else origin
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            yield from ((node.lineno, str(name)) for name in names)


def called(call):
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def own_imports(path):
    """(line, file or dotted name) of what a file imports from this package, each once a line."""
    ours = [(line, name) for line, name in modules_named(path) if name.split(".")[0] == "underhood"]
    return dict.fromkeys((line, module_file(name) or name) for line, name in ours)


def listed(items, hint=""):
    """All of them, below each other: pytest shortens a list."""
    return "\n".join([hint, *items])


def run(*arguments):
    """A fresh Python in the folder of the project: stdout, and the modules that it loaded one by one."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    loaded = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")][1:]
    said = [line for line in lines if not line.startswith("import time:")]
    assert done.returncode == 0, listed(said)
    return done.stdout, loaded


# --- order ---


def test_every_file_of_the_package_is_listed_in_the_house():
    unlisted = [path for path in files() if path not in HOUSE and not is_empty(path)]

    assert unlisted == [], listed(unlisted, "write them into tests/house.txt where they are told")


def test_every_file_that_the_house_lists_exists_and_is_listed_once():
    missing = [path for path in HOUSE if not (ROOT / path).exists()]
    twice = sorted({path for path in HOUSE if HOUSE.count(path) > 1})

    assert missing + twice == [], listed(missing + twice, "tests/house.txt has them too often or too early")


def test_a_file_imports_only_what_is_told_before_it():
    place = {path: n for n, path in enumerate(HOUSE)}
    forward = [
        f"{path}:{line} imports {target}, which is told {'later' if target in place else 'nowhere'}"
        for path in HOUSE[1:]
        if (ROOT / path).exists()
        for line, target in own_imports(path)
        if target == HOUSE[0] or place.get(target, len(HOUSE)) >= place[path]
        if not (target.endswith("/__init__.py") and target != HOUSE[0] and is_empty(target))
    ]

    assert forward == [], listed(forward)


def test_the_root_loads_its_names_only_when_they_are_first_used():
    root = tree(HOUSE[0])
    inside = {id(n) for f in ast.walk(root) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    inside |= {id(n) for i in ast.walk(root) if isinstance(i, ast.If) and is_for_types(i) for n in ast.walk(i)}
    eager = [
        f"{HOUSE[0]}:{node.lineno}"
        for node in ast.walk(root)
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in inside
        if any(line == node.lineno for line, _ in own_imports(HOUSE[0]))
    ]

    assert eager == [], listed(eager)


def is_for_types(node):
    return getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING"


def is_empty(path):
    """Whether a file is an `__init__.py` with no more in it than a docstring."""
    body = tree(path).body
    only_text = len(body) == 1 and ast.get_docstring(tree(path)) is not None
    return path.endswith("__init__.py") and (not body or only_text)


def test_an_init_file_is_empty_but_for_the_root_and_the_catalogue_of_faults():
    told = ["underhood/__init__.py", "underhood/faults/__init__.py"]
    full = [p for p in files() if p.endswith("__init__.py") and p not in told and not is_empty(p)]

    assert full == [], listed(full)


def test_every_folder_of_the_package_is_a_package():
    folders = {str(Path(path).parent) for path in files()}
    bare = sorted(folder for folder in folders if not (ROOT / folder / "__init__.py").exists())

    assert bare == [], listed(bare, "without an __init__.py setuptools leaves them out of the wheel")


# --- guests ---


def guests_named(path):
    for line, name in modules_named(path):
        library = name.split(".")[0]
        if library != "underhood" and library not in sys.stdlib_module_names:
            yield line, library


def test_a_library_is_named_only_in_the_files_that_receive_it():
    strangers = [
        f"{path}:{line} names {library}"
        for path in files()
        for line, library in guests_named(path)
        if not any(
            path == place or (place.endswith("/") and path.startswith(place))
            for place in GUESTS.get(library, ["underhood/"])
        )
    ]

    assert strangers == [], listed(strangers)


def test_every_library_that_is_named_is_on_the_list_of_guests():
    unknown = sorted({name for path in files() for _, name in guests_named(path)} - GUESTS.keys())

    assert unknown == [], listed(unknown, "write them into GUESTS above, each with the file that receives it")


def test_every_library_that_is_named_is_a_dependency_that_pyproject_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [
        each for name, pins in project["optional-dependencies"].items() if name not in ("demo", "dev") for each in pins
    ]
    declared = {re.split(r"[<>=~! \[]", each)[0].lower() for each in (*project["dependencies"], *extras)}
    goes_by = {"sklearn": "scikit-learn", "markupsafe": "jinja2", "yaml": "pyyaml"}
    plugin_only = {"pytest"}  # which is there already when it loads the plugin
    named = {goes_by.get(name, name) for path in files() for _, name in guests_named(path)}
    undeclared = sorted(named - declared - plugin_only)

    assert undeclared == [], listed(undeclared)


def test_the_ground_floor_needs_the_standard_library_only():
    needed = [
        f"{path}:{line} names {library}"
        for path in files()
        if path.startswith(STANDARD_LIBRARY_ONLY)
        for line, library in guests_named(path)
    ]

    assert needed == [], listed(needed)


# --- map ---


def test_every_file_says_in_its_first_line_what_the_reader_gets():
    silent = [p for p in HOUSE if (ROOT / p).exists() and not make.first_line((ROOT / p).read_text("utf-8"))]

    assert silent == [], listed(silent)


def test_the_map_is_the_first_line_of_every_file():
    page = ROOT / "docs" / "map.md"
    assert page.exists(), "docs/map.md is not there yet; try: make docs"

    assert page.read_text("utf-8") == make.map_page(), "try: make docs"


# --- weight ---


@pytest.mark.parametrize(("code", "most"), WEIGHED.items())
def test_what_is_felt_at_every_start_is_light(code, most):
    _, loaded = run("-c", code)

    assert len(loaded) <= most, listed(loaded, f"{len(loaded)} modules, in the order in which they were ready")


def test_the_serving_path_loads_nothing_heavy():
    printed, _ = run("-c", "import sys, underhood.run.decide, underhood.run.state; print(*sys.modules)")
    heavy = [name for name in NEVER_ON_THE_SERVING_PATH if name in printed.split()]

    assert heavy == [], listed(heavy)


# --- commands ---


def test_every_command_says_what_it_does():
    main = make.load_cli()
    silent = [" ".join(path) for path in make.commands(main) if not command(main, path).help]

    assert silent == [], listed(silent)


def command(main, path):
    import click

    context = click.Context(main, info_name="underhood")
    for name in path:
        main = main.get_command(context, name)
        context = click.Context(main, info_name=name, parent=context)
    return main


def test_every_command_is_in_the_page_of_commands_as_it_is_now():
    page = ROOT / "docs" / "cli.md"
    assert page.exists(), "docs/cli.md is not there yet; try: make docs"

    assert page.read_text("utf-8") == make.cli_page(), "try: make docs"


# --- public names ---


def test_the_public_names_are_the_ones_that_were_agreed():
    import underhood

    agreed = (ROOT / "tests" / "public_names.txt").read_text("utf-8").split()

    assert hasattr(underhood, "__all__"), "underhood/__init__.py has no __all__ yet"
    assert sorted(underhood.__all__) == sorted(agreed), "a public name is a promise: change both on purpose"
    assert len(agreed) <= MOST_PUBLIC_NAMES


def test_every_public_name_says_what_it_is():
    import underhood

    silent = [name for name in getattr(underhood, "__all__", []) if not getattr(underhood, name).__doc__]

    assert hasattr(underhood, "__all__"), "underhood/__init__.py has no __all__ yet"
    assert silent == [], listed(silent)


# --- size and errors ---


def test_nothing_catches_everything():
    greedy = [
        f"{path}:{node.lineno}"
        for path in files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and catches_all(node.type)
    ]

    assert greedy == [], listed(greedy)


def catches_all(caught):
    if caught is None:
        return True
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(getattr(part, "id", getattr(part, "attr", "")) in ("Exception", "BaseException") for part in parts)


def test_no_file_is_longer_than_one_can_read_in_one_go():
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in files()}
    long = [f"{path}: {n} lines" for path, n in lengths.items() if n > MOST_LINES_OF_A_FILE]

    assert long == [], listed(long)


def test_no_function_is_longer_than_one_can_hold_in_mind():
    lengths = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = [f"{name}: {n} lines" for name, n in lengths.items() if n > MOST_LINES_OF_A_FUNCTION]

    assert long == [], listed(long)


# --- words ---


@cache
def glossary():
    """Stray synonym → the term to say instead, from the table in docs/glossary.md."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()
        if line.startswith("|") and not re.match(r"\|[\s:-]+\|", line)
    ][1:]
    assert all(len(row) == 3 for row in rows), "docs/glossary.md: each row is | term | meaning | not |"
    return {word.strip(): term for term, _, stray in rows for word in stray.split(",") if word.strip()}


def names_defined(path):
    """(line, name) of all that a file names itself: functions, classes, arguments, variables, fields."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr


@cache
def words(text):
    """The words of a name or a sentence, lower case: "rootCause_ms" → "root cause ms"."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return " ".join(re.findall(r"[a-z0-9]+", parted.lower()))


def says(text, word):
    return pattern(word).search(words(text)) is not None


@cache
def pattern(word):
    return re.compile(rf"\b{re.escape(words(word))}s?\b")


def test_names_in_the_code_use_the_words_of_the_glossary():
    stray = [
        f"{path}:{line} {name}: say {term!r}, not {word!r}"
        for path in files()
        for line, name in names_defined(path)
        for word, term in glossary().items()
        if says(name, word)
    ]

    assert stray == [], listed(stray)


def test_the_help_of_the_commands_uses_the_words_of_the_glossary():
    stray = [
        f"{line.strip()!r}: say {term!r}, not {word!r}"
        for line in make.cli_page().splitlines()
        for word, term in glossary().items()
        if says(line, word)
    ]

    assert stray == [], listed(stray)


def test_the_glossary_never_forbids_a_word_that_it_defines():
    rows = glossary()
    terms = set(rows.values())

    assert sorted(word for word in rows if word in terms) == []
