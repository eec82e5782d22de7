"""Keeps the pages true: writes three of them and runs every session in the others.

    python docs/make.py                   rewrite the pages that have changed
    python docs/make.py --check           show what would change; exit 1 if anything would
    python docs/make.py docs/map.md …     only these pages

`docs/cli.md` is what `--help` prints, `docs/map.md` the first docstring line of
each file in the order of `tests/house.txt`, `docs/faults.md` the catalogue of kinds. In every other page two kinds of
block are run, from top to bottom, in one scratch copy of `examples/departures`:

`../school`, beside it, is a copy of `examples/school`.

- ```` ```console ````: each line that starts with `$ ` is given to bash, the
  lines below it are its output (stdout and stderr). A folder changed by `cd`
  stays changed. A command that ends with another exit code than 0 says so in
  the page: `$ underhood check  # exits 1`.
- ```` ```python ```` below a line `<!-- run -->`: run as in a notebook, one
  namespace a page. What it prints, and the value of its last line, stand in an
  ```` ```output ```` block below it. `<!-- run: raises -->` says that it must fail.

In output, `…` within a line stands for any text, and a line that is only `…`
for any number of lines. Rewriting keeps them where they still hold. Lines of
progress ("… reading sources (3 s)") are left out.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import json
import linecache
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "departures"
WIDTH = 80
PATIENCE_S = 300
GENERATED = "<!-- written by `make docs`; do not edit -->"

PROGRESS = re.compile(r"… .* \(\d+ s\)")  # how long something took is nobody's promise

Command = tuple[str, ...]


class PageError(Exception):
    """A page that cannot be made: which line, what happened."""


# --- the two pages that are written ---


def house(text: str) -> list[str]:
    """The files of the house in reading order; what follows a `#` is a comment."""
    return [path for line in text.splitlines() if (path := line.partition("#")[0].strip())]


def first_line(source: str) -> str:
    """The first line of a file's docstring; empty if it has none."""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def map_page(root: Path = ROOT) -> str:
    """One line a file, in the order in which they are read."""
    paths = house((root / "tests" / "house.txt").read_text("utf-8"))
    if missing := [path for path in paths if not (root / path).exists()]:
        raise PageError("tests/house.txt lists files that do not exist: " + ", ".join(missing))
    told = "Read from top to bottom; a file imports only what stands above it."
    lines = ["# The map", "", GENERATED, "", told]
    floor = None
    for path in paths:
        if (folder := str(Path(path).parent)) != floor:
            floor = folder
            lines += ["", f"## {floor}", ""]
        lines.append(f"- [{Path(path).name}](../{path}): {first_line((root / path).read_text('utf-8'))}")
    return "\n".join(lines) + "\n"


STAGES = {
    1: "What contradicts the record, or has a closed form",
    2: "Feeds, outcomes, and what the model was taught",
    3: "What the model never saw",
    5: "What moved in the world, when nothing else explains it",
}


FORMS = "Row by row against what history gives; where history is wrong too, against what came before."


def faults_page() -> str:
    """Every kind of fault by the stage at which it is looked for: its title, and what its suspect says of itself."""
    from underhood.faults import KINDS

    told = (
        "What a diagnosis looks for, in the order of looking. Each kind can be injected (`underhood drill`),\n"
        "suspected (`underhood diagnose`, `underhood watch`) and undone on the bench. How right the diagnosis is\n"
        "stands in [the bench of faults](faults-bench.md), how to write a kind of your own in\n"
        "[its README](../bench/faults/README.md)."
    )
    lines = ["# The catalogue of faults", "", GENERATED, "", told]
    for stage in sorted({kind.stage for kind in KINDS}):
        lines += [
            "",
            f"## {stage}. {STAGES.get(stage, 'Others')}",
            "",
            "| kind | what is broken | how it shows |",
            "|---|---|---|",
        ]
        for kind in (k for k in KINDS if k.stage == stage):
            says = first_line_of(kind.suspect.__doc__ or FORMS)
            lines.append(f"| {kind.name} | {kind.title} | {says} |")
    return "\n".join(lines) + "\n"


def first_line_of(text: str) -> str:
    """The first line of a docstring, fit for a cell of a table."""
    return text.strip().partition("\n")[0].replace("|", "/")


def commands(main: Any) -> Iterator[Command]:
    """The path of every command that is not hidden: (), ("look",), ("case", "open")."""
    import click

    def walk(command: click.Command, path: Command, above: click.Context | None) -> Iterator[Command]:
        yield path
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=path[-1] if path else "underhood", parent=above)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                if inner is None:
                    raise PageError(f"underhood.faces.cli lists a command that it does not have: {name}")
                if not inner.hidden:
                    yield from walk(inner, (*path, name), context)

    return walk(main, (), None)


def load_cli() -> Any:
    """The click command `underhood`."""
    try:
        from underhood.faces.cli import main
    except ImportError as error:
        raise PageError(f"underhood.faces.cli cannot be imported: {error}") from error
    return main


def help_text(main: Any, path: Sequence[str]) -> str:
    """What `underhood … --help` prints on a terminal of 80 columns."""
    from click.testing import CliRunner

    result = CliRunner(env={"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}).invoke(
        main, [*path, "--help"], prog_name="underhood", catch_exceptions=False
    )
    if result.exit_code != 0:
        typed = " ".join(["underhood", *path, "--help"])
        raise PageError(f"`{typed}` exits {result.exit_code}: {result.output}")
    return "\n".join(trimmed(result.output))


def cli_page() -> str:
    """The help text of every command."""
    main = load_cli()
    lines = ["# The command line", "", GENERATED, ""]
    for path in commands(main):
        lines += [f"## {' '.join(['underhood', *path])}", "", "```text", help_text(main, path), "```", ""]
    return "\n".join(lines)


# --- documented output against what came out ---


def trimmed(output: str) -> list[str]:
    """Lines without trailing blanks, and without blank lines at the end."""
    lines = [line.rstrip() for line in output.splitlines() if not PROGRESS.fullmatch(line.rstrip())]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def fits(documented: str, line: str) -> bool:
    """Whether a documented line, in which `…` stands for any text, fits a line that came out."""
    return re.fullmatch(".*".join(map(re.escape, documented.split("…"))), line) is not None


def holds(documented: Sequence[str], output: Sequence[str]) -> bool:
    """Whether documented output, in which a line `…` stands for any lines, fits what came out."""
    reachable = {0}
    for line in documented:
        if line.strip() == "…":
            reachable = set(range(min(reachable), len(output) + 1))
        else:
            reachable = {n + 1 for n in reachable if n < len(output) and fits(line, output[n])}
        if not reachable:
            return False
    return len(output) in reachable


def settled(documented: Sequence[str], output: Sequence[str]) -> list[str]:
    """What the page should say: as it is if it holds, else what came out, with the `…` that still hold."""
    if holds(documented, output):
        return list(documented)
    lines: list[str] = []
    doc_from = out_from = 0
    for doc_at, out_at in [*_anchors(documented, output), (len(documented), len(output))]:
        lines += _between(documented[doc_from:doc_at], output[out_from:out_at])
        lines += documented[doc_at : doc_at + 1]
        doc_from, out_from = doc_at + 1, out_at + 1
    return lines


def _anchors(documented: Sequence[str], output: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (documented line, line that came out) that fit, in order: as many as there can be.

    A blank line counts least: that two texts both have one says little.
    """
    best = [[0] * (len(output) + 1) for _ in range(len(documented) + 1)]
    worth = [0 if line.strip() == "…" else 3 if line.strip() else 1 for line in documented]
    for i in reversed(range(len(documented))):
        for j in reversed(range(len(output))):
            paired = best[i + 1][j + 1] + worth[i] if worth[i] and fits(documented[i], output[j]) else 0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(documented) and j < len(output) and best[i][j]:
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    return pairs


def _between(documented: Sequence[str], output: Sequence[str]) -> list[str]:
    """Changed output between two lines that hold: a `…` keeps its place, as many lines from either end."""
    cut = next((n for n, line in enumerate(documented) if line.strip() == "…"), None)
    if cut is None:
        return list(output)
    after = len([line for line in documented[cut + 1 :] if line.strip() != "…"])
    if len(output) <= cut + after:
        return list(output)
    return [*output[:cut], documented[cut], *output[len(output) - after :]]


# --- the blocks of a page ---


@dataclass
class Block:
    """A fenced block: `lines` without the fences, `mark` the line above it.

    `first` is the 0-based line of the page below the opening fence.
    """

    kind: str
    first: int
    lines: list[str]
    mark: str

    @property
    def end(self) -> int:
        """The 0-based line of the closing fence."""
        return self.first + len(self.lines)

    @property
    def runs(self) -> bool:
        """Whether this block is a session."""
        return self.kind == "console" or (self.kind == "python" and self.mark.startswith("<!-- run"))


def blocks(page: Sequence[str]) -> list[Block]:
    """The fenced blocks of a page, with the line above each."""
    found: list[Block] = []
    n = 0
    while n < len(page):
        opening = re.match(r"^(`{3,}|~{3,})\s*([\w-]*)", page[n])
        n += 1
        if not opening:
            continue
        fence, kind = opening.groups()
        first = n
        while n < len(page) and not re.match(rf"^{fence[0]}{{{len(fence)},}}\s*$", page[n]):
            n += 1
        if n == len(page):
            raise PageError(f"line {first}: a block that starts with {fence}{kind} does not end")
        found.append(Block(kind, first, list(page[first:n]), page[first - 2].strip() if first > 1 else ""))
        n += 1
    return found


@dataclass
class Exchange:
    """One command of a console block: its lines as written, its documented output, blank lines below it."""

    line: int
    shown: list[str]
    output: list[str] = field(default_factory=list)
    gap: int = 0

    @property
    def command(self) -> str:
        """What bash is given."""
        rest = [line[2:] if line.startswith("> ") else line for line in self.shown[1:]]
        return "\n".join([self.shown[0][2:], *rest])

    @property
    def exits(self) -> int:
        """The exit code that the page promises."""
        promised = re.search(r"#\s*exits (\d+)\s*$", self.command)
        return int(promised[1]) if promised else 0

    def goes_on(self, line: str) -> bool:
        """Whether a line belongs to the command: after a backslash, or `> ` below a here-document."""
        if self.output:
            return False
        return self.shown[-1].endswith("\\") or ("<<" in self.shown[0] and line.startswith("> "))


def exchanges(block: Block) -> list[Exchange]:
    """The commands of a console block with their documented output."""
    found: list[Exchange] = []
    for n, line in enumerate(block.lines):
        if found and found[-1].goes_on(line):
            found[-1].shown.append(line)
        elif line.startswith("$ "):
            found.append(Exchange(block.first + n + 1, [line]))
        elif found:
            found[-1].output.append(line)
        elif line.strip():
            raise PageError(f"line {block.first + n + 1}: a console block starts with `$ `, not {line!r}")
    for exchange in found:
        kept = trimmed("\n".join(exchange.output))
        exchange.gap, exchange.output = len(exchange.output) - len(kept), kept
    return found


# --- running them ---


class Scratch:
    """A copy of the example in a folder of its own, where one page's sessions run.

    Use as a context manager: what the sessions left running ends with it.
    """

    def __init__(self, example: Path = EXAMPLE) -> None:
        # resolved: on macOS /var is a link, and programs print where it leads
        self.home = Path(tempfile.mkdtemp(prefix="underhood-docs-")).resolve()
        self.folder = self.home / example.name
        left_out = shutil.ignore_patterns(".underhood", "__pycache__")
        shutil.copytree(example, self.folder, ignore=left_out)
        if (beside := example.parent / "school").is_dir():
            shutil.copytree(beside, self.home / "school", ignore=left_out)
        self.cwd = self.folder
        self._groups: list[int] = []
        self._python: subprocess.Popen[str] | None = None

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._python is not None:
            _end(self._python.pid)
            self._python.wait()
            for pipe in (self._python.stdin, self._python.stdout):
                if pipe is not None:
                    pipe.close()
        for group in self._groups:
            _end(group)
        shutil.rmtree(self.home, ignore_errors=True)

    def shell(self, command: str) -> tuple[int, list[str]]:
        """One command in bash: exit code and output lines."""
        where, out = self.home / ".cwd", self.home / ".output"
        script = f"{command}\n__code=$?; pwd > {shlex.quote(str(where))}; exit $__code"
        with out.open("w", encoding="utf-8") as output:
            # a file, not a pipe: a server left running would hold the pipe open for ever
            process = subprocess.Popen(
                ["bash", "-c", script], cwd=self.cwd, env=self._env(), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                _end(process.pid)
                process.wait()
                raise PageError(f"`{command}` did not end within {PATIENCE_S} s") from None
        if _lives(process.pid):
            self._groups.append(process.pid)
        if where.exists():
            self.cwd = Path(where.read_text("utf-8").rstrip("\n"))
        return code, self._lines(out.read_text("utf-8", errors="replace"))

    def python(self, code: str) -> tuple[bool, list[str]]:
        """One block in the page's Python: whether it raised, and output lines."""
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, __file__, "--serve"], cwd=self.folder, env=self._env(), text=True,
                encoding="utf-8", stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps({"code": code, "cwd": str(self.cwd)}) + "\n")
        self._python.stdin.flush()
        patience = threading.Timer(PATIENCE_S, _end, [self._python.pid])
        patience.start()
        answer = self._python.stdout.readline()
        patience.cancel()
        if not answer:
            raise PageError(f"Python ended (exit {self._python.wait()}) in the block {code[:60]!r}")
        reply = json.loads(answer)
        return reply["raised"], self._lines(reply["output"])

    def _lines(self, output: str) -> list[str]:
        return trimmed(output.replace(str(self.home), "~"))

    def _env(self) -> dict[str, str]:
        """Little and fixed, so that a page comes out alike on every desk."""
        passed = {name: os.environ[name] for name in ("PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
        return passed | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(self.home),
            "TMPDIR": tempfile.gettempdir(),
            "COLUMNS": str(WIDTH),
            "LINES": "50",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8",
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # the latter is macOS for: only zombies are left
        return False
    return True


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def serve_blocks() -> None:
    """The page's Python: reads blocks as JSON lines, answers each with what it wrote to stdout and stderr."""
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[0] = ""  # as in a notebook: the folder of the work, not of this file
    names: dict[str, Any] = {"__name__": "__main__"}
    for request in map(json.loads, requests):
        # by file descriptor: what C code and child processes print is output too
        with tempfile.TemporaryFile() as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os.chdir(request["cwd"])
            raised = _run_block(request["code"], names)
            sys.stdout.flush()
            sys.stderr.flush()
            output.seek(0)
            text = io.TextIOWrapper(output, "utf-8", errors="replace").read()
        replies.write(json.dumps({"raised": raised, "output": text}) + "\n")
        replies.flush()


def _run_block(code: str, names: dict[str, Any]) -> bool:
    # as in a notebook: a function's source can be read, which opaque steps carry with them
    linecache.cache["<page>"] = (len(code), None, code.splitlines(keepends=True), "<page>")
    try:
        tree = ast.parse(code)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<page>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<page>", "eval"), names)
            if value is not None:
                print(repr(value))
    except Exception as error:  # noqa: BLE001  what a page's code raises is its output
        print("".join(traceback.format_exception_only(error)), end="")
        return True
    return False


# --- a page as it should be ---


def with_sessions(text: str, example: Path = EXAMPLE) -> str:
    """The page with each session's output as it comes out now; raises PageError if a session does not run."""
    page = text.splitlines()
    found = blocks(page)
    if not any(block.runs for block in found):
        return text
    edits: list[tuple[int, int, list[str]]] = []
    with Scratch(example) as scratch:
        for n, block in enumerate(found):
            if block.kind == "console":
                edits.append((block.first, block.end, _console(block, scratch)))
            elif block.runs:
                below = found[n + 1] if n + 1 < len(found) else None
                edits += _notebook(block, _output_of(block, below, page), scratch)
    for first, end, lines in reversed(edits):
        page[first:end] = lines
    if _scripts(blocks(page)) != _scripts(found):
        raise PageError("an output would be read as a command or a fence (`$ `, `> `, ```); show less of it")
    return "\n".join(page) + "\n"


def _scripts(found: Sequence[Block]) -> list[Sequence[str]]:
    """All that is run in a page, in order."""
    return [
        [exchange.command for exchange in exchanges(block)] if block.kind == "console" else block.lines
        for block in found
        if block.runs
    ]


def _console(block: Block, scratch: Scratch) -> list[str]:
    lines: list[str] = []
    for exchange in exchanges(block):
        code, output = scratch.shell(exchange.command)
        if code != exchange.exits:
            what = f"`{exchange.shown[0][2:]}` exits {code}, the page says {exchange.exits}"
            tail = output[-30:]
            if code == 127:
                tail.append(f"(commands are looked for in {Path(sys.executable).parent} first; try: make setup)")
            raise PageError("\n".join([f"line {exchange.line}: {what}:", *tail]))
        lines += [*exchange.shown, *settled(exchange.output, output), *[""] * exchange.gap]
    return lines


def _output_of(block: Block, below: Block | None, page: Sequence[str]) -> Block | None:
    """The output block that belongs to a Python block: the next one, with nothing but blank lines between."""
    if below is None or below.kind != "output":
        return None
    return None if any(line.strip() for line in page[block.end + 1 : below.first - 1]) else below


def _notebook(block: Block, shown: Block | None, scratch: Scratch) -> list[tuple[int, int, list[str]]]:
    raised, output = scratch.python("\n".join(block.lines))
    if raised != ("raises" in block.mark):
        promise = "raises though the page does not say so" if raised else "does not raise as the page says"
        raise PageError(f"line {block.first + 1}: the block {promise}:\n" + "\n".join(output[-30:]))
    if shown is not None:
        if output:
            return [(shown.first, shown.end, settled(trimmed("\n".join(shown.lines)), output))]
        return [] if holds(shown.lines, []) else [(block.end + 1, shown.end + 1, [])]
    if output:
        return [(block.end + 1, block.end + 1, ["", "```output", *output, "```"])]
    return []


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that are kept true, generated ones first."""
    written = [root / "docs" / name for name in ("cli.md", "map.md", "faults.md")]
    others = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return [*written, *(page for page in others if page not in written and page.exists())]


def has_sessions(page: Path) -> bool:
    """Whether anything in the page is run."""
    return page.exists() and any(block.runs for block in blocks(page.read_text("utf-8").splitlines()))


def fresh(page: Path) -> str:
    """The page as it should be now."""
    if page == ROOT / "docs" / "cli.md":
        return cli_page()
    if page == ROOT / "docs" / "map.md":
        return map_page()
    if page == ROOT / "docs" / "faults.md":
        return faults_page()
    return with_sessions(page.read_text("utf-8"))


def difference(page: Path, now: str) -> str:
    """What is in the page against what should be, as a diff; empty if they are equal."""
    before = page.read_text("utf-8") if page.exists() else ""
    name = str(page.relative_to(ROOT))
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), now.splitlines(keepends=True), name, f"{name} as it should be"
        )
    )


def main(arguments: Iterable[str]) -> int:
    """Rewrites or checks pages; the exit code is 1 if a page cannot be made or, with --check, is not true."""
    parser = argparse.ArgumentParser(description="Keeps the pages true.")
    parser.add_argument("--check", action="store_true", help="change nothing; show what would change")
    parser.add_argument("pages", nargs="*", type=Path, help="only these (default: all)")
    asked = parser.parse_args(list(arguments))
    wrong = 0
    for page in [path.resolve() for path in asked.pages] or pages():
        name = page.relative_to(ROOT)
        try:
            now = fresh(page)
        except PageError as error:
            print(f"{name}: {error}", file=sys.stderr)
            wrong += 1
            continue
        changes = difference(page, now)
        if asked.check and changes:
            print(f"{changes}{name} is not what it should be; try: make docs", file=sys.stderr)
            wrong += 1
        elif changes:
            page.write_text(now, "utf-8")
            print(f"{name} rewritten")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve_blocks()
    else:
        sys.path.insert(1, str(ROOT))
        sys.exit(main(sys.argv[1:]))
