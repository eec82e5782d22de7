"""When an animal strike is reported: send an inspector, look at the log book, or file it. United States, 1990 to 1999.

What is foreseen is an effect on the flight (a landing as a precaution, a take-off broken off, an engine shut down),
not damage: the file does not say damage. In three of ten reports the effect is blank; those never get a label.
"""

import underhood as uh


def day(date):
    return date.part(" ", 0).parse_time("%m/%d/%Y")


def turned_back(effect):
    return (effect == "Precautionary Landing") & ~effect.is_null()


reports = uh.source(
    "reports.csv",
    owner="safety office",
    about="one row per reported strike",
    key=["report"],
    derive=[day, turned_back],
    happened="day",
    late={"day + 30d": ["effect", "remarks", "turned_back"]},
).clean(uh.clean.null_values("phase_of_flt", [""]), uh.clean.null_values("effect", [""]))

fleet = uh.source(
    "fleet.csv",
    owner="aircraft register",
    about="one row per aircraft type, from the reports of 1990 and 1991",
    key=["atype"],
    happened="compiled",
)


def had_effect(effect):
    return effect != "None"


asks = (
    reports.asks(at="day + 12h")
    .asof(fleet, by="atype", take=["usual_mass", "usual_engines", "reports_before"])
    .recent(reports, by="opid", over="365d", by_operator=uh.count(), operator_effects=uh.share(had_effect))
    .recent(reports, by="state", over="30d", in_state=uh.count())
    .recent(reports, by="species", over="730d", of_species=uh.count(), species_effects=uh.share(had_effect))
    .recent(reports, by="phase_of_flt", over="365d", phase_effects=uh.share(had_effect))
)


def month(day):
    return day.month()


def in_the_air(height):
    return height > 0


def energy(speed, ac_mass):
    return speed * speed * ac_mass / 1000


def affected(effect):
    return effect != "None"


strikes = uh.system(
    "strikes",
    asks=asks,
    zone="America/New_York",
    features=[
        "atype",
        "phase_of_flt",
        "time_of_day",
        "state",
        "sky",
        "birds_seen",
        "birds_struck",
        "ac_mass",
        "num_engs",
        "height",
        "speed",
        month,
        in_the_air,
        energy,
        "usual_mass",
        "usual_engines",
        "reports_before",
        "by_operator",
        "operator_effects",
        "in_state",
        "of_species",
        "species_effects",
        "phase_effects",
    ],
    label=uh.label(affected, known="day + 30d"),
    goal=uh.goal(
        "look first at the strikes that affected a flight",
        watch=["phase_of_flt", "state"],
        costs=uh.costs(inspect=(12, 15), read=(2, 30), file=(0, 45), expert=(9, 14)),
        meant_for="reported strikes of civil aircraft",
    ),
    policy=uh.threshold(inspect=0.35, read=0.10, otherwise="file"),
)
