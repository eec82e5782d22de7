"""When a student registers for a course: will she leave it early, and who should talk to her? The Open University."""

import underhood as uh


def left_on(starts, date_unregistration):
    return starts + uh.days(date_unregistration)


def ends(starts, length):
    return starts + uh.days(length)


def never_came(date_unregistration):
    return (date_unregistration < 0).fill(False)


registrations = uh.source(
    "registrations.parquet",
    owner="registry",
    about="one row per student and course that she registered for",
    key=["code_module", "code_presentation", "id_student"],
    derive=[left_on, ends, never_came],
    happened="registered",
    late={"left_on": ["date_unregistration", "left_on"], "starts + 90d": ["never_came"], "ends": ["final_result"]},
).clean(uh.clean.map_levels("imd_band", {"10-20": "10-20%"}))

courses = uh.source(
    "courses.csv",
    owner="faculty",
    about="one row per course and the number of its assessments",
    key=["code_module", "code_presentation"],
    happened="announced",
)

marks = uh.source(
    "marks.parquet",
    owner="assessment office",
    about="one row per piece of work handed in",
    key=["id_assessment", "id_student"],
    happened="submitted",
    known="submitted + 14d",
)


def gone(left_on):
    return ~left_on.is_null()


def passed(mark):
    return mark >= 40


asks = (
    registrations.asks(at="registered")
    .asof(courses, by=["code_module", "code_presentation"], take=["assessments", "exam_weight", "planned_days"])
    .recent(registrations, by="region", over="200d", region_gone=uh.share(gone))
    .recent(marks, by="code_module", over="400d", module_marks=uh.mean("mark"), module_passed=uh.share(passed))
)


def days_ahead(starts, registered):
    return (starts - registered).days()


def leaves(date_unregistration):
    return (date_unregistration <= 90).fill(False)


oulad = uh.system(
    "oulad",
    asks=asks,
    zone="Europe/London",
    features=[
        "code_module",
        "region",
        "highest_education",
        "imd_band",
        "num_of_prev_attempts",
        "studied_credits",
        days_ahead,
        "assessments",
        "exam_weight",
        "planned_days",
        "region_gone",
        "module_marks",
        "module_passed",
    ],
    label=uh.label(leaves, known="starts + 90d"),
    goal=uh.goal(
        "offer help to students who would leave in the first three months",
        watch=["code_module", "region"],
        costs=uh.costs(call=(20, 30), write=(4, 60), none=(0, 80), tutor=(25, 28)),
        meant_for="registrations for courses of seven modules",
    ),
    policy=uh.threshold(call=0.30, write=0.18, otherwise="none"),
)
