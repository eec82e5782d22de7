"""What a complaint means: exactly the decisions that it names, and nothing that it merely mentions."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from tests import world
from underhood.ground.errors import ComplaintError, SourceError
from underhood.plan.exprs import shown
from underhood.repair.complaint import Complaint, alike, parse_email
from underhood.repair.decided import mean
from underhood.repair.intake import understand
from underhood.repair.meaning import Meaning, meaning_from, meaning_json
from underhood.repair.workbench import Workbench


@pytest.fixture(scope="module")
def parcel(bench: Workbench) -> tuple[str, int, str]:
    """One parcel of the event day: depot, number, id of its decision."""
    sql = 'select "row.depot", "row.parcel"::INT, id from decisions where day = \'2024-03-20\' order by key limit 1'
    depot, number, name = bench.engine.rows(sql)[0]
    return depot, number, name


@pytest.fixture(autouse=True)
def nothing_meant(bench: Workbench) -> None:
    mean(bench.engine, ())


def meaning(bench: Workbench, text: str, sent: datetime | None = None) -> Meaning:
    return understand(bench.engine, bench.plan, Complaint(text, sent_at=sent))


@pytest.mark.parametrize(
    "text",
    [
        "Parcel {number} was late.",
        "parcel {number} from {depot} on 20 March",
        "On Wednesday 20 March 2024 {depot} parcel {number} did not come.",
        "{depot}|{number} was wrong",
        "What about {depot} {number}?",
        "Parcel no. {number} ({depot}), 20 March: 3 of my 5 boxes were there, 40 % of them wet.",
        "Parcel {number} was 55 minutes late.",
        "parcel #{number}",
        "PARCEL {number}!!!",
    ],
)
def test_a_complaint_that_names_an_id_finds_exactly_that_decision(
    bench: Workbench, parcel: tuple[str, int, str], text: str
) -> None:
    depot, number, name = parcel
    found = meaning(bench, text.format(depot=depot, number=number))

    assert (found.named, found.ids, found.cohort) == ((name,), (name,), None)


def test_the_id_of_a_decision_finds_it(bench: Workbench, parcel: tuple[str, int, str]) -> None:
    assert meaning(bench, f"Decision {parcel[2]} was wrong.").ids == (parcel[2],)


def test_two_parcels_in_two_sentences_are_two_decisions(bench: Workbench) -> None:
    sql = "select \"row.parcel\"::INT, id from decisions where day = '2024-03-20' order by id limit 2"
    (one, first), (two, second) = bench.engine.rows(sql)

    assert set(meaning(bench, f"Parcel {one} was late. So was parcel {two}.").ids) == {first, second}


def test_two_parcels_in_one_sentence_are_two_decisions(bench: Workbench) -> None:
    sql = "select \"row.parcel\"::INT, id from decisions where day = '2024-03-20' order by id limit 2"
    (one, first), (two, second) = bench.engine.rows(sql)

    assert set(meaning(bench, f"Parcels {one} and {two} were late.").ids) == {first, second}


def test_others_widen_to_the_day_the_action_and_what_happened(bench: Workbench) -> None:
    found = understand(bench.engine, bench.plan, world.event_mail(bench))

    assert found.cohort is not None
    assert shown(found.cohort) == "((day = '2024-03-20') and facts.returned) and (action = 'quiet')"
    assert (found.claimed, found.told, found.day) == (len(found.ids), "quiet", "2024-03-20")
    assert len(found.named) == 1


@pytest.mark.parametrize("said", ["20 March", "March 20th, 2024", "Wednesday, 20 March", "2024-03-20", "20.3.2024"])
def test_a_day_alone_means_its_decisions(bench: Workbench, said: str) -> None:
    found = meaning(bench, f"Everything went wrong on {said}.")

    assert (found.day, len(found.ids), found.named) == ("2024-03-20", 67, ())


def test_a_day_without_a_year_is_the_last_one_before_it_was_written(bench: Workbench) -> None:
    assert meaning(bench, "All wrong on 20 March", datetime(2024, 3, 21)).day == "2024-03-20"
    with pytest.raises(ComplaintError, match="a day that had not come when this was written"):
        meaning(bench, "All wrong on 20 May", datetime(2024, 3, 21))


def test_counts_shares_and_clock_times_are_not_taken_for_values(bench: Workbench) -> None:
    text = "On 20 March at 14:05 you kept quiet about 2 pieces, 3 kg, 5 % and 12 boxes."
    found = meaning(bench, text)

    assert found.named == ()
    assert {m.meant for m in found.mentions} == {"the day 2024-03-20", "the action quiet"}


def test_the_number_of_a_day_is_not_how_many_parcels(bench: Workbench, parcel: tuple[str, int, str]) -> None:
    assert meaning(bench, f"On 2024-03-20 parcel {parcel[1]} was late.").claimed == 0
    assert meaning(bench, f"On March 20 parcel {parcel[1]} was late.").ids == (parcel[2],)


@pytest.mark.parametrize(
    ("said", "claimed"),
    [("53 others", 54), ("1,204 others", 1205), ("12 more", 13), ("all 67 parcels", 67), ("no others", 0)],
)
def test_how_many_it_is_about_is_read(bench: Workbench, parcel: tuple[str, int, str], said: str, claimed: int) -> None:
    text = f"On 20 March parcel {parcel[1]} was returned, and {said}."

    assert meaning(bench, text).claimed == claimed


@pytest.mark.parametrize("word", ["quiet", "Quiet", "quietly", "QUIET"])
def test_the_action_is_found_by_its_word(bench: Workbench, word: str) -> None:
    assert meaning(bench, f"On 21 March you kept {word}").told == "quiet"


@pytest.mark.parametrize("word", ["call", "called", "calling", "calls"])
def test_the_action_is_found_by_its_other_endings(bench: Workbench, word: str) -> None:
    assert meaning(bench, f"On 21 March you {word} them").told == "call"


@pytest.mark.parametrize("word", ["returned", "returns", "return", "returning"])
def test_what_happened_is_found_by_other_endings(bench: Workbench, word: str) -> None:
    found = meaning(bench, f"On 20 March: {word}!")

    assert found.harm is not None
    assert shown(found.harm) == "facts.returned"


@pytest.mark.parametrize(
    "said", ["not returned", "never returned", "wasn't returned", "was not even returned", "wasn’t returned"]
)
def test_what_did_not_happen_is_read_as_such(bench: Workbench, said: str) -> None:
    found = meaning(bench, f"On 20 March they were {said}.")

    assert found.harm is not None
    assert shown(found.harm) == "not facts.returned"


def test_a_time_of_day_chooses_among_a_few(bench: Workbench) -> None:
    sql = (
        'select "row.district", strftime(local, \'%H:%M\'), any_value(id), "row.depot" from decisions where '
        "day = '2024-03-21' group by all having count(*) = 1 order by 1, 2 limit 1"
    )
    district, clock, name, depot = bench.engine.rows(sql)[0]

    assert meaning(bench, f"On 21 March the one at {clock} from {depot} to {district}.").named == (name,)


def test_a_source_is_known_by_its_name(bench: Workbench) -> None:
    assert meaning(bench, "The weather feed stopped on 27 March.").parts == ("weather",)


def test_a_quoted_value_is_found_in_its_source(bench: Workbench) -> None:
    found = meaning(bench, "The roads said a jam of 874 at OAK on 28 January.")

    assert [row[:2] for row in found.source_rows] == [("roads", "jam")]
    assert found.ids == ()


@pytest.mark.parametrize(
    "text", ["Everything is bad.", "Your system is broken!", "12345", "a'; drop table decisions; --"]
)
def test_nothing_found_says_what_was_understood(bench: Workbench, text: str) -> None:
    with pytest.raises(ComplaintError, match="no decision fits it") as caught:
        meaning(bench, text)

    assert "understood: " in caught.value.what
    assert "name a key or a day" in caught.value.hint


def test_nothing_found_says_how_to_name_decisions_of_this_record(bench: Workbench) -> None:
    with pytest.raises(ComplaintError) as caught:
        meaning(bench, "Everything is bad.")
    key, day, predicate = re.findall(r'\((.+), (.+)\), or .* --where "(.+)"', caught.value.hint)[0]

    assert meaning(bench, f"What of {key} on {day}?").ids
    assert understand(bench.engine, bench.plan, Complaint("bad"), where=predicate.replace('\\"', '"')).ids


def test_what_was_understood_is_told_even_if_it_fits_nothing(bench: Workbench) -> None:
    with pytest.raises(ComplaintError) as caught:
        meaning(bench, "On 20 May you kept quiet.")

    assert "“20 May” is the day 2024-05-20" in caught.value.what
    assert "“quiet” is the action quiet" in caught.value.what


def test_hostile_text_changes_nothing_and_means_what_it_says(bench: Workbench, parcel: tuple[str, int, str]) -> None:
    text = f'\'); drop table decided; -- <script>alert(1)</script> parcel {parcel[1]} "row.depot" \x00 %s {{0}}'

    assert meaning(bench, text).ids == (parcel[2],)
    assert bench.engine.rows("select count(*) > 0 from decided") == [(True,)]


def test_a_meaning_is_kept_and_read_again_as_it_was(bench: Workbench) -> None:
    found = understand(bench.engine, bench.plan, parse_email(world.STOPPED_MAIL.encode()))
    again = meaning_from(meaning_json(found))

    assert meaning_json(again) == meaning_json(found)


@pytest.mark.parametrize(
    ("word", "name", "same"),
    [
        ("cancellation", "cancelled", True),
        ("returns", "returned", True),
        ("late", "plate", False),
        ("car", "carrier", False),
        ("the", "then", False),
        ("fine", "final", False),
        ("text", "texture", True),
        ("warned", "warn", True),
        ("day", "day", True),
        ("no", "no", False),
    ],
)
def test_words_are_alike_by_their_stem(word: str, name: str, same: bool) -> None:
    assert alike(word, name) is same


def test_a_predicate_with_a_wrong_name_is_told_with_the_one_that_was_meant(bench: Workbench) -> None:
    with pytest.raises(SourceError) as caught:
        understand(bench.engine, bench.plan, Complaint("bad"), where="depot = 'x'")

    assert caught.value.where == "--where"
    assert '"row.depot"' in caught.value.hint
