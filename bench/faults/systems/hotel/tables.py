"""Every second booking made from July 2015 to April 2017, numbered by its place in the published file."""

from pathlib import Path

import duckdb

BOOKED = """make_date(arrival_date_year, month(strptime(arrival_date_month, '%B')), arrival_date_day_of_month)
            - lead_time::INT"""


def write(data: Path, folder: Path) -> None:
    """Writes bookings.parquet."""
    table = data / "hotel_bookings" / "hotel_bookings.parquet"
    duckdb.sql(f"""
        copy (select booking, * exclude (booking, n) from (
                  select *, row_number() over () as n, 10000 + row_number() over () as booking from '{table}')
              where n % 2 = 0 and {BOOKED} between date '2015-07-01' and date '2017-04-01'
              order by {BOOKED}, booking)
        to '{folder / "bookings.parquet"}' (format parquet)
    """)
