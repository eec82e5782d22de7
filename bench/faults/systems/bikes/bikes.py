"""Six hours before: will so many bicycles go out in an hour that vans must bring more? Washington, 2011 and 2012."""

import underhood as uh


def last_week(weekday, hr):
    return weekday * 24 + hr


def is_wet(sky):
    return sky.ends_with("rain")


def by_members(registered):
    return registered > 300


hours = uh.source(
    "hours.csv",
    owner="rental desk",
    about="one row per hour with a rental",
    key=["began"],
    derive=[last_week, by_members],
    happened="began",
    known="began - 7d",
    late={"began + 1h": ["casual", "registered", "cnt", "by_members"]},
)

weather = uh.source(
    "weather.csv",
    owner="met office",
    about="one row per measured hour, on a scale from 0 to 1",
    key=["measured"],
    derive=[is_wet],
    happened="measured",
    known="measured + 20min",
)

days = uh.source("days.csv", owner="calendar", about="one row per day", key=["day"])


asks = (
    hours.asks(at="began - 6h")
    .asof(days, by="day", take=["season", "holiday", "workingday"])
    .asof(
        weather.clean(uh.clean.null_value("hum", 0)),
        by="city",
        max_age="12h",
        take=["sky", "temp", "atemp", "hum", "windspeed", "is_wet"],
    )
    .asof(hours, by="last_week", max_age="9d", take={"a_week_ago": "cnt"})
    .asof(hours, by="hr", max_age="3d", take={"a_day_ago": "cnt", "visitors_a_day_ago": "casual"})
    .recent(hours, over="1d", mean_day=uh.mean("cnt"), hours_seen=uh.count())
    .recent(hours, by="hr", over="14d", usual=uh.mean("cnt"), usual_visitors=uh.mean("casual"))
)


def month(began):
    return began.month()


def above_usual(mean_day, usual):
    return mean_day - usual


def busy(cnt):
    return cnt > 300


bikes = uh.system(
    "bikes",
    asks=asks,
    zone="UTC",
    features=[
        "hr",
        "weekday",
        month,
        "season",
        "holiday",
        "workingday",
        "sky",
        "temp",
        "atemp",
        "hum",
        "windspeed",
        "is_wet",
        "a_week_ago",
        "a_day_ago",
        "visitors_a_day_ago",
        "mean_day",
        "usual",
        "usual_visitors",
        above_usual,
    ],
    label=uh.label(busy, known="began + 1h"),
    goal=uh.goal(
        "send vans before the stations are empty",
        watch=["hr", "season"],
        costs=uh.costs(vans=(30, 20), standby=(8, 45), stay=(0, 90), person=(15, 30)),
        meant_for="hours of the whole city",
    ),
    policy=uh.threshold(vans=0.60, standby=0.15, otherwise="stay"),
)
