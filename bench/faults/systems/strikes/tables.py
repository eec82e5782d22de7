"""The published reports with a number, and what the first two years of them say of each aircraft type."""

from pathlib import Path

import duckdb

DAY = "strptime(split_part(date, ' ', 1), '%m/%d/%Y')"


def write(data: Path, folder: Path) -> None:
    """Writes reports.csv and fleet.csv."""
    table = data / "wildlife_strikes" / "birds.parquet"
    duckdb.sql(f"""
        copy (select 200000 + n as report, * exclude (n) from (select row_number() over () as n, * from '{table}')
              order by {DAY}, n)
        to '{folder}/reports.csv' (header)
    """)
    duckdb.sql(f"""
        copy (select atype, date '1992-01-01' as compiled, median(ac_mass) as usual_mass,
                     median(num_engs) as usual_engines, count(*) as reports_before
              from '{table}' where {DAY} < date '1992-01-01' group by atype order by atype)
        to '{folder}/fleet.csv' (header)
    """)
