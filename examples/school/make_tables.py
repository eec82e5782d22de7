"""Writes the four tables of a made-up evening school, small and messy on purpose, the same each time.

What is wrong with them: pupils of the partner school NORTH are not in pupils.csv; `dropped_on` and
`certificate` are written after the outcome; a city is
written in three ways; visits end a month early; two visits are there twice.
"""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
FIRST = datetime(2024, 1, 8, 9)


def main():
    """Writes all four files beside this one."""
    draw = random.Random(7)
    pupils = [
        [f"P{n:03}", day(draw.randrange(-700, -20)), city(draw), draw.choice("FM"), draw.randrange(17, 71)]
        for n in range(1, 161)
    ]
    courses = [
        [f"C{n:02}", subject, level, fee, weeks]
        for n, (subject, level, fee, weeks) in enumerate(
            [
                ("Finnish", "A1", 120, 10), ("Finnish", "A2", 120, 10), ("Spanish", "A1", 140, 10),
                ("Spanish", "B1", 160, 12), ("Pottery", "", 210, 8), ("Guitar", "", 190, 12),
                ("Python", "A1", 240, 6), ("Python", "B1", 280, 6), ("Yoga", "", 90, 8), ("Drawing", "", 110, 8),
            ],
            1,
        )
    ]  # fmt: skip
    enrolments, visits = [], []
    for n in range(1, 1001):
        source = draw.choices(["web", "desk", "NORTH"], [55, 30, 15])[0]
        pupil = f"N{draw.randrange(1, 60):03}" if source == "NORTH" else draw.choice(pupils)[0]
        course, at = draw.choice(courses), FIRST + timedelta(hours=draw.randrange(24 * 510))
        pays_at_once = draw.random() < 0.7
        dropped = draw.random() < 0.04 + 0.55 * (not pays_at_once) + 0.15 * (course[4] >= 10)
        weeks_in = draw.randrange(1, course[4])
        left = (at + timedelta(weeks=weeks_in)).date().isoformat() if dropped else ""
        certificate = "" if dropped else f"{draw.randrange(10**4):04}"
        when = at.isoformat(" ", "minutes")
        enrolments.append([n, pupil, course[0], when, source, int(pays_at_once), int(dropped), left, certificate])
        for week in range(draw.random() < 0.3):
            visited = at - timedelta(days=draw.randrange(1, 25), hours=week)
            if visited < datetime(2025, 5, 1):
                visits.append([pupil, visited.isoformat(" ", "minutes"), draw.choice([30, 45, 60, 90, 90, 90, 120])])
    visits += visits[10:12]
    write("pupils.csv", ["pupil_id", "joined_on", "city", "sex", "age"], pupils)
    write("courses.csv", ["course_id", "subject", "level", "fee", "weeks"], courses)
    columns = "enrolment_id pupil_id course_id enrolled_at source paid_at_once dropped dropped_on certificate"
    write("enrolments.csv", columns.split(), sorted(enrolments, key=lambda row: row[3]))
    write("visits.csv", ["pupil_id", "visited_at", "minutes"], sorted(visits, key=lambda row: row[1]))


def day(after):
    """A day so many days after the first one."""
    return (FIRST + timedelta(days=after)).date().isoformat()


def city(draw):
    """A city, now and then written in another way."""
    name = draw.choice(["Turku", "Tampere", "Oulu"])
    return draw.choices([name, name.upper(), f"{name} "], [94, 3, 3])[0]


def write(name, columns, rows):
    """One CSV file."""
    with (HERE / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


if __name__ == "__main__":
    main()
