"""Registrations with what students said of themselves, courses and marks, on a calendar.

The published days count from the first day of a course; a code such as 2013J says which month that is in
(B: February, J: October). The first of that month stands for it here: the true day is not published.
"""

from pathlib import Path

import duckdb

STARTS = "make_date(left(code_presentation, 4)::INT, case right(code_presentation, 1) when 'B' then 2 else 10 end, 1)"


def write(data: Path, folder: Path) -> None:
    """Writes registrations.parquet, courses.csv and marks.parquet."""
    to = data / "oulad"
    keys = "(code_module, code_presentation, id_student)"
    duckdb.sql(f"""
        copy (select * exclude (date_registration), {STARTS}::TIMESTAMP as starts,
                     ({STARTS} + date_registration::INT)::TIMESTAMP as registered, module_presentation_length as length
              from '{to}/studentInfo.parquet' join '{to}/studentRegistration.parquet' using {keys}
              join '{to}/courses.parquet' using (code_module, code_presentation)
              where date_registration is not null order by registered, code_module, id_student)
        to '{folder}/registrations.parquet' (format parquet)
    """)
    duckdb.sql(f"""
        copy (select code_module, code_presentation, ({STARTS} - 400)::TIMESTAMP as announced,
                     module_presentation_length as planned_days, count(id_assessment) as assessments,
                     sum(weight) filter (where assessment_type = 'Exam') as exam_weight
              from '{to}/courses.parquet' left join '{to}/assessments.parquet' using (code_module, code_presentation)
              group by all order by all)
        to '{folder}/courses.csv' (header)
    """)
    duckdb.sql(f"""
        copy (select id_assessment, id_student, code_module, assessment_type, score as mark,
                     ({STARTS} + date_submitted::INT)::TIMESTAMP as submitted
              from '{to}/studentAssessment_partial.parquet' join '{to}/assessments.parquet' using (id_assessment)
              where is_banked = 0 order by submitted, id_assessment, id_student)
        to '{folder}/marks.parquet' (format parquet)
    """)
