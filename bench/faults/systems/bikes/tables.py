"""The published hours, taken apart into what was rented, the weather that was measured, and the calendar."""

from pathlib import Path

import duckdb


def write(data: Path, folder: Path) -> None:
    """Writes hours.csv, weather.csv and days.csv. There is one city, and both feeds name it; codes become words."""
    sky = "['clear', 'mist', 'light rain', 'heavy rain'][weathersit] as sky"
    season = "['winter', 'spring', 'summer', 'autumn'][season] as season"
    table = (
        f"(select 'Washington' as city, dteday + hr * interval 1 hour as began, * from '{data}/bike_sharing/hour.csv')"
    )
    parts = {
        "hours": "began, city, dteday as day, hr, weekday, casual, registered, cnt",
        "weather": f"began as measured, city, {sky}, temp, atemp, hum, windspeed",
        "days": f"distinct dteday as day, {season}, holiday, workingday",
    }
    for name, columns in parts.items():
        duckdb.sql(f"copy (select {columns} from {table} order by 1) to '{folder}/{name}.csv' (header)")
