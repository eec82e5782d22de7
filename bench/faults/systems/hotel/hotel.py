"""When a booking is made: sell its room twice, call its guest, or hold it. Two Portuguese hotels."""

import calendar

import underhood as uh

months = {name: number for number, name in enumerate(calendar.month_name) if number}


def nights(stays_in_weekend_nights, stays_in_week_nights):
    return stays_in_weekend_nights + stays_in_week_nights


def arrival(arrival_date_year, arrival_date_month, arrival_date_day_of_month):
    return uh.date(arrival_date_year, arrival_date_month.map(months), arrival_date_day_of_month)


def departure(arrival, nights):
    return arrival + uh.days(nights)


def booked(arrival, lead_time):
    return arrival - uh.days(lead_time)


def settled(reservation_status_date):
    return uh.date(*(reservation_status_date.part("-", i).to_number() for i in range(3)))


def no_show(reservation_status):
    return reservation_status == "No-Show"


bookings = uh.source(
    "bookings.parquet",
    owner="revenue desk",
    about="one row per booking",
    key=["booking"],
    derive=[nights, arrival, departure, booked, settled, no_show],
    happened="booked",
    late={
        "settled": ["is_canceled", "reservation_status", "reservation_status_date", "settled", "no_show"],
        "departure": [
            "country",
            "assigned_room_type",
            "booking_changes",
            "days_in_waiting_list",
            "required_car_parking_spaces",
            "total_of_special_requests",
        ],
    },
).clean(uh.clean.null_above("adr", 1000), uh.clean.null_below("adr", 0))


def gone(is_canceled):
    return (is_canceled == 1).fill(False)


asks = (
    bookings.asks(at="booked")
    .recent(bookings, by="hotel", over="14d", made=uh.count(), gone_share=uh.share(gone))
    .recent(bookings, by="agent", over="60d", by_agent=uh.count(), agent_gone=uh.share(gone))
)


def cancelled(is_canceled):
    return is_canceled == 1


def month(arrival):
    return arrival.month()


def weekday(arrival):
    return arrival.weekday()


def price(adr, nights):
    return adr * nights


hotel = uh.system(
    "hotel",
    asks=asks,
    zone="UTC",
    features=[
        "hotel",
        "lead_time",
        "nights",
        month,
        weekday,
        "adults",
        "children",
        "meal",
        "market_segment",
        "distribution_channel",
        "customer_type",
        "is_repeated_guest",
        "previous_cancellations",
        "previous_bookings_not_canceled",
        "reserved_room_type",
        "deposit_type",
        "adr",
        price,
        "made",
        "gone_share",
        "by_agent",
        "agent_gone",
    ],
    label=uh.label(cancelled, known="departure"),
    goal=uh.goal(
        "sell the rooms of bookings that will be cancelled",
        watch=["hotel", "market_segment"],
        meant_for="bookings of the two hotels",
        costs=uh.costs(overbook=(150, 10), call=(8, 40), hold=(0, 90), person=(12, 35)),
    ),
    policy=uh.threshold(overbook=0.70, call=0.20, otherwise="hold"),
)
