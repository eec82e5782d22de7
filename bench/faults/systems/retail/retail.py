"""When an invoice is written: will the customer buy again within thirty days, or should somebody write? A gift shop."""

import underhood as uh


def credit_note(at, credited_at):
    return (credited_at <= at + uh.days(30)).fill(False)


def piece_price(value, pieces):
    return value / pieces


invoices = uh.source(
    "invoices.parquet",
    owner="accounts",
    about="one row per invoice to a customer",
    key=["invoice"],
    derive=[credit_note, piece_price],
    happened="at",
    late={"next_at": ["next_at"], "credited_at": ["credited_at"], "at + 30d": ["credit_note"]},
)

credits = uh.source(
    "credits.parquet", owner="accounts", about="one row per credit note", key=["invoice"], happened="at"
)

countries = uh.source(
    "countries.csv",
    owner="logistics",
    about="one row per country and month",
    key=["country", "month"],
    happened="month",
    known="month",
)


def is_big(value):
    return value > 500


asks = (
    invoices.asks(at="at")
    .asof(invoices, by="customer", max_age="365d", take={"last_value": "value", "last_lines": "lines", "last_at": "at"})
    .asof(countries, by="country", max_age="62d", take=["mean_value", "mean_lines"])
    .recent(invoices, by="customer", over="90d", bought=uh.count(), spent=uh.total("value"), big=uh.share(is_big))
    .recent(credits, by="customer", over="180d", credited=uh.count(), credited_value=uh.total("value"))
    .recent(invoices, by="country", over="28d", country_value=uh.mean("value"))
)


def weekday(at):
    return at.weekday()


def hour(at):
    return at.hour()


def days_since_last(at, last_at):
    return (at - last_at).days()


def comes_back(at, next_at):
    return (next_at <= at + uh.days(30)).fill(False)


retail = uh.system(
    "retail",
    asks=asks,
    zone="Europe/London",
    features=[
        "country",
        "lines",
        "pieces",
        "value",
        "piece_price",
        "top_item",
        weekday,
        hour,
        days_since_last,
        "last_value",
        "last_lines",
        "mean_value",
        "mean_lines",
        "bought",
        "spent",
        "big",
        "credited",
        "credited_value",
        "country_value",
    ],
    label=uh.label(comes_back, known="at + 30d"),
    goal=uh.goal(
        "write only to those who would not come by themselves",
        watch=["country", "top_item"],
        costs=uh.costs(leave=(14, 0), card=(9, 3), voucher=(5, 8), caller=(7, 6)),
        meant_for="customers with a number",
    ),
    policy=uh.threshold(leave=0.55, card=0.35, otherwise="voucher"),
)
