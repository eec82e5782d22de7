"""Census rows in their published order, one every six minutes: the order is real, the moments are made up.

So nothing about time can be learned from this system, and rows do not drift: it stands for small tables without a
history. The top-coded gains (99999) are kept as they are; the published blanks before texts and full stops are not.
"""

from pathlib import Path

import duckdb

NAMES = ["age", "workclass", "weight", "education", "years", "marital_status", "occupation", "relationship"]
NAMES += ["race", "sex", "capital_gain", "capital_loss", "hours", "country", "income"]


def write(data: Path, folder: Path) -> None:
    """Writes people.csv and schools.csv. Sex, race and the survey weight are left out."""
    rows = " union all ".join(
        f"(select * from read_csv('{data}/adult/adult.{part}.csv', header=false, names={NAMES}, all_varchar=true))"
        for part in ("data", "test")
    )
    connection = duckdb.connect()
    texts = ", ".join(f"trim({name}) as {name}" for name in NAMES)
    connection.execute(f"create table people as select row_number() over () as n, {texts} from ({rows})")
    connection.execute(f"""
        copy (select 500000 + n as person, timestamp '2020-01-01' + n * interval 6 minute as asked,
                     * exclude (n, weight, years, race, sex, income), rtrim(income, '.') as income
              from people where n <= 40000 order by n)
        to '{folder}/people.csv' (header)
    """)
    connection.execute(f"""
        copy (select education, any_value(years::INT) as years,
                     case when any_value(years::INT) < 9 then 'none' when any_value(years::INT) < 13 then 'school'
                          else 'university' end as "group"
              from people group by education order by education)
        to '{folder}/schools.csv' (header)
    """)
    connection.close()
