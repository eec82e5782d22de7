"""Who is offered an account for high earners? The census of 1994, with a clock that is made up: read tables.py."""

import underhood as uh

people = uh.source(
    "people.csv",
    owner="interviewers",
    about="one row per person asked; the moment of asking is made up",
    key=["person"],
    happened="asked",
    late={"asked + 30d": ["income"]},
).clean(
    uh.clean.null_sentinels("workclass"),
    uh.clean.null_sentinels("occupation"),
    uh.clean.null_sentinels("country"),
    uh.clean.null_value("capital_gain", 99999),
)

schools = uh.source("schools.csv", owner="statistics office", about="one row per degree", key=["education"])


asks = (
    people.asks(at="asked")
    .asof(schools, by="education", take=["years", "group"])
    .recent(people, by="occupation", over="30d", seen=uh.count(), hours_there=uh.mean("hours"))
)


def net_gain(capital_gain, capital_loss):
    return capital_gain - capital_loss


def hours_above_usual(hours, hours_there):
    return hours - hours_there


def is_married(marital_status):
    return marital_status.starts_with("Married")


def earns_much(income):
    return income == ">50K"


census = uh.system(
    "census",
    asks=asks,
    zone="UTC",
    features=[
        "age",
        "workclass",
        "education",
        "years",
        "group",
        "occupation",
        "relationship",
        is_married,
        "hours",
        net_gain,
        "country",
        "seen",
        "hours_there",
        hours_above_usual,
    ],
    label=uh.label(earns_much, known="asked + 30d"),
    goal=uh.goal(
        "offer an account to those who earn enough for it",
        watch=["workclass", "education"],
        costs=uh.costs(offer=(12, 0), brochure=(3, 9), nothing=(0, 20), banker=(8, 4)),
        meant_for="adults asked by the census",
    ),
    policy=uh.threshold(offer=0.50, brochure=0.15, otherwise="nothing"),
)
