"""A complaint is read from whatever people send: and whatever it holds, nothing in it is run, fetched or believed."""

from __future__ import annotations

import base64
from datetime import date, datetime
from pathlib import Path

import pytest

from underhood.ground.errors import ComplaintError
from underhood.repair.complaint import MOST_TEXT, parse_email, read_complaint, spoken_days

TEXT = "Parcel 44844 from OAK was returned."


def test_an_e_mail_gives_who_when_and_the_words() -> None:
    read = parse_email(
        mail(f"From: Aino <a@shop.example>\nSubject: Wrong\nDate: Thu, 21 Mar 2024 09:12:44 +0200\n\n{TEXT}")
    )

    assert (read.sender, read.subject, read.text) == ("Aino <a@shop.example>", "Wrong", TEXT)
    assert read.sent_at == datetime(2024, 3, 21, 7, 12, 44)
    assert read.words == f"Wrong. {TEXT}"


def test_of_a_multipart_e_mail_the_plain_part_is_read() -> None:
    parts = "--b\nContent-Type: text/html\n\n<p>html</p>\n--b\nContent-Type: text/plain\n\nplain words\n--b--\n"

    assert parse_email(
        mail(f'MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary="b"\n\n{parts}')
    ).text == ("plain words")


def test_an_html_e_mail_is_read_without_tags_and_scripts() -> None:
    html = "<style>p{color:red}</style><script>alert('44844')</script><p>Parcel&nbsp;44844 <b>late</b> &lt;3</p>"
    html += "<!-- hidden > 1 -->"
    read = parse_email(mail(f"Subject: x\nContent-Type: text/html; charset=utf-8\n\n{html}"))

    assert read.text.split() == ["Parcel", "44844", "late", "<3"]


def test_a_script_that_never_ends_is_not_read_as_words() -> None:
    read = parse_email(mail("Content-Type: text/html\n\n<p>words</p><script>steal('44844')"))

    assert read.text.split() == ["words"]


def test_base64_and_quoted_printable_are_decoded() -> None:
    packed = base64.b64encode("Täglich zu spät".encode()).decode()
    head = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding:"

    assert parse_email(mail(f"{head} base64\n\n{packed}")).text == "Täglich zu spät"
    assert parse_email(mail(f"{head} quoted-printable\n\nsp=C3=A4t")).text == "spät"


@pytest.mark.parametrize("charset", ["x-unknown", "utf-16", "ascii", "utf-8", '"'])
def test_a_wrong_charset_still_gives_words(charset: str) -> None:
    data = f"Subject: x\nContent-Type: text/plain; charset={charset}\n\n".encode() + "Päckchen 44844 returned".encode(
        "latin-1"
    )

    assert parse_email(data).text != ""


def test_a_file_without_headers_is_read_as_words() -> None:
    assert TEXT in parse_email(mail(f"\n{TEXT}")).text


def test_a_line_that_looks_like_text_and_has_no_header_is_not_lost() -> None:
    assert TEXT in parse_email(mail(f"{TEXT}\nSecond line.")).words


@pytest.mark.parametrize("body", [b"", b"\n\n", b"Subject: only\n\n", b"\x00\x00", b"\xff\xfe\x00"])
def test_an_e_mail_without_words_is_refused_in_words(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.eml").write_bytes(body)
    with pytest.raises(ComplaintError, match=r"no words|no header") as caught:
        read_complaint(tmp_path / "a.eml")

    assert caught.value.hint


def test_an_attachment_alone_is_not_read(tmp_path: Path) -> None:
    attached = (
        "--b\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=x.pdf\n\nJVBERi0=\n--b--\n"
    )
    (tmp_path / "a.eml").write_bytes(
        mail(f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n{attached}')
    )
    with pytest.raises(ComplaintError, match="no words") as caught:
        read_complaint(tmp_path / "a.eml")

    assert "an attachment is not read" in caught.value.hint


def test_an_attached_text_is_not_taken_for_what_was_written() -> None:
    attached = "Content-Type: text/plain\nContent-Disposition: attachment\n\nother"
    parts = f"--b\nContent-Type: text/plain\n\nmine\n--b\n{attached}\n--b--\n"

    assert (
        parse_email(mail(f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n{parts}')).text == "mine"
    )


def test_ten_megabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"Subject: x\n\n" + b"a " * 5_000_000)
    with pytest.raises(ComplaintError, match="at most 5,000,000 are read"):
        read_complaint(tmp_path / "a.eml")


def test_a_long_text_is_cut_and_still_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 100_000)

    assert len(read_complaint(tmp_path / "a.txt").text) <= MOST_TEXT
    assert len(read_complaint("word " * 100_000).text) <= MOST_TEXT


def test_hostile_html_of_a_megabyte_takes_no_time() -> None:
    data = mail("Content-Type: text/html\n\n" + "<" * 300_000 + "<script" * 40_000 + "&#x26;" * 20_000)

    assert parse_email(data) is not None


@pytest.mark.parametrize("line", ["> On 8 March you wrote", ">> Parcel 1", "  > Parcel 1"])
def test_quoted_replies_are_left_out(line: str) -> None:
    assert parse_email(mail(f"Subject: x\n\nMine.\n{line}\nAlso mine.")).text == "Mine.\nAlso mine."


def test_what_stands_below_an_original_message_is_left_out() -> None:
    below = "On Tue, 19 Mar 2024 at 10:00, Desk <d@x> wrote:\n> old 19 March"

    assert "19 March" not in parse_email(mail(f"Subject: x\n\nMine.\n\n{below}")).text


def test_a_text_file_and_plain_words_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)

    assert read_complaint(tmp_path / "a.txt").text == TEXT == read_complaint(TEXT).text


def test_a_missing_file_offers_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "complaint-1.eml").write_text("x")
    with pytest.raises(ComplaintError, match="no such file") as caught:
        read_complaint(tmp_path / "complaint1.eml")

    assert "complaint-1.eml" in caught.value.hint


def test_a_folder_is_no_complaint(tmp_path: Path) -> None:
    (tmp_path / "a.eml").mkdir()
    with pytest.raises(ComplaintError):
        read_complaint(tmp_path / "a.eml")


def test_words_that_are_far_too_long_for_a_file_name_are_words() -> None:
    for words in (
        "parcel 44844 was late " * 500,
        "parcel 44844 " * 30,
        "parcel 44844\0 was late",
        "Parcel 44844. Late/never.txt ",
    ):
        assert read_complaint(words).text.startswith(words[:12])


@pytest.mark.parametrize(
    "said",
    [
        "8 March",
        "8th March",
        "8th of March",
        "March 8",
        "March 8th",
        "Mar 8",
        "Mar. 8",
        "8 Mar",
        "8 MARCH",
        "08 March",
        "Friday 8 March",
        "Friday, 8 March",
        "Friday, March 8",
        "8 March 2024",
        "March 8, 2024",
        "March 8th, 2024",
        "8 March, 2024",
        "8 Mar. 2024",
        "2024-03-08",
        "8.3.2024",
        "2024/03/08",
        "2024-03-08T12:00",
    ],
)
def test_a_day_is_understood_in_any_spelling(said: str) -> None:
    days = spoken_days(f"It was late on {said}, again.")

    assert [d.dates(range(2024, 2025)) for d in days] == [[date(2024, 3, 8)]]


@pytest.mark.parametrize(
    "said", ["may be late", "32 March", "31 November", "March on", "0 March", "2024-13-40", "in march", "mar 12345"]
)
def test_what_is_no_day_is_not_taken_for_one(said: str) -> None:
    assert [d.dates(range(2024, 2025)) for d in spoken_days(said) if d.dates(range(2024, 2025))] == []


def test_without_a_year_the_weekday_chooses_among_years() -> None:
    (friday,) = spoken_days("on Friday 8 March")
    (bare,) = spoken_days("on 8 March")

    assert friday.dates(range(2013, 2025)) == [date(2024, 3, 8), date(2019, 3, 8), date(2013, 3, 8)]
    assert bare.dates(range(2023, 2025)) == [date(2024, 3, 8), date(2023, 3, 8)]


def test_a_wrong_weekday_does_not_lose_the_day() -> None:
    (said,) = spoken_days("on Monday 8 March 2024")

    assert said.dates(range(2024, 2025)) == [date(2024, 3, 8)]


def test_the_29th_of_february_is_only_in_leap_years() -> None:
    (said,) = spoken_days("29 February")

    assert said.dates(range(2021, 2026)) == [date(2024, 2, 29)]


def mail(text: str) -> bytes:
    return text.encode()
