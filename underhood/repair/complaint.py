"""A complaint as it came in: an e-mail file, or a line of text, turned to who, when and plain words.

E-mails are hostile input: only text parts are read, nothing is opened or fetched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email import policy
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from html import unescape
from pathlib import Path

from underhood.ground.errors import ComplaintError, nearest

MOST_BYTES = 5_000_000
MOST_TEXT = 20_000
MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

_MONTH = "|".join([*MONTHS, *[m[:3] for m in MONTHS], "sept"])
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({_MONTH})\b\.?,?(?:\s+(\d{{4}}))?", re.I)
_MONTH_FIRST = re.compile(rf"\b({_MONTH})\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?\b,?(?:\s+(\d{{4}}))?", re.I)
_ISO = re.compile(r"\b(\d{4})[-/](\d{2})[-/](\d{2})(?!\d)")
_DOTTED = re.compile(r"\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b")
_WEEKDAY = re.compile(rf"\b({'|'.join(DAYS)})\b", re.I)
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.'/-]*")


@dataclass(frozen=True)
class Complaint:
    """Who wrote, when (UTC; null if not said), about what, and the words themselves."""

    text: str
    sender: str = ""
    subject: str = ""
    sent_at: datetime | None = None

    @property
    def words(self) -> str:
        """Subject and text together, as one text to read."""
        return f"{self.subject}. {self.text}" if self.subject else self.text


@dataclass(frozen=True)
class Spoken:
    """A day that a text names: `year` is null if it is not said; `span` is where it stands in the text."""

    day: int
    month: int
    year: int | None
    weekday: int | None
    span: tuple[int, int]

    def dates(self, years: range) -> list[date]:
        """The days it may mean, latest first, the named weekday respected if any fits."""
        found = []
        for year in [self.year] if self.year else sorted(years, reverse=True):
            try:
                found.append(date(year, self.month, self.day))
            except ValueError:
                continue
        fitting = [d for d in found if self.weekday is None or d.weekday() == self.weekday]
        return fitting or found


def read_complaint(given: str | Path) -> Complaint:
    """The complaint in an e-mail file (.eml), a text file, or the words themselves.

    Raises ComplaintError for a file that is missing, too large, empty, or not text.
    """
    path = Path(given)
    if not _names_file(path):
        return _worded(Complaint(str(given).strip()[:MOST_TEXT]), "complaint")
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise ComplaintError("there is no such file", str(path), nearest(path.name, near))
    if path.stat().st_size > MOST_BYTES:
        raise ComplaintError(f"has {path.stat().st_size:,} bytes, at most {MOST_BYTES:,} are read", str(path))
    data = path.read_bytes()
    if path.suffix != ".eml":
        return _worded(Complaint(data.decode("utf-8", "replace").strip()[:MOST_TEXT]), str(path))
    return _worded(parse_email(data, str(path)), str(path))


def _names_file(path: Path) -> bool:
    """Whether this is meant as a file; what is too long or too strange for a name is words."""
    if len(str(path)) > 1000 or "\n" in str(path) or "\0" in str(path):
        return False
    return path.suffix in (".eml", ".txt", ".md") or (len(path.name) < 200 and path.is_file())


def parse_email(data: bytes, where: str = "e-mail") -> Complaint:
    """The complaint in the bytes of an e-mail. Raises ComplaintError if they are none."""
    try:
        message = BytesParser(policy=policy.default).parsebytes(data)
        sender, subject = str(message.get("From", "")), str(message.get("Subject", ""))
        sent = _sent(message)
        text = _text(message)
    except (MessageError, LookupError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ComplaintError(
            f"cannot be read as an e-mail ({error})", where, "save its text as a .txt file and open that"
        ) from error
    if not message.keys() and not text.strip():
        raise ComplaintError(
            "is not an e-mail: no header, no text", where, "save its text as a .txt file and open that"
        )
    return Complaint(text.strip()[:MOST_TEXT], sender, subject, sent)


def _worded(complaint: Complaint, where: str) -> Complaint:
    if not re.search(r"\w", complaint.text):
        raise ComplaintError("has no words in it", where, "an attachment is not read: paste what it says")
    return complaint


def _sent(message: EmailMessage) -> datetime | None:
    try:
        sent = parsedate_to_datetime(str(message.get("Date", "")))
    except (ValueError, TypeError):
        return None
    return sent.astimezone(UTC).replace(tzinfo=None) if sent.tzinfo else sent


def _text(message: EmailMessage) -> str:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return ""
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else str(part.get_payload()).encode()
    try:
        text = data.decode(part.get_content_charset() or "utf-8", "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    if part.get_content_type() == "text/html":
        text = _html_words(text)
    quoted = [line for line in text.splitlines() if not line.lstrip().startswith(">")]
    return "\n".join(quoted)


def _html_words(html: str) -> str:
    """The text between the tags, in one pass: a pattern that backtracks would take hours for hostile mail."""
    words, _, rest = html.partition("<")
    found, until = [words], ""
    for piece in rest.split("<"):
        tag, closed, text = piece.partition(">")
        name = re.match(r"!--|/?\w*", tag.lower())
        named = name[0] if name else ""
        if until:
            if named == until or (until == "-->" and "-->" in piece):
                found.append(" " + (text if until != "-->" else piece.partition("-->")[2]))
                until = ""
        elif named == "!--":
            found.append(" " + piece.partition("-->")[2])
            until = "" if "-->" in piece else "-->"
        elif named in ("script", "style"):
            until = f"/{named}"
        elif not named:
            found.append("<" + piece)
        elif closed:
            found.append(" " + text)
    return unescape("".join(found))


def spoken_days(text: str) -> list[Spoken]:
    """Every day that a text names, in order."""
    found: list[Spoken] = []
    for match in _ISO.finditer(text):
        found.append(_spoken(text, match, int(match[3]), int(match[2]), int(match[1])))
    for match in _DOTTED.finditer(text):
        found.append(_spoken(text, match, int(match[1]), int(match[2]), int(match[3])))
    for match in _DAY_FIRST.finditer(text):
        found.append(_spoken(text, match, int(match[1]), _month(match[2]), _year(match[3])))
    for match in _MONTH_FIRST.finditer(text):
        if not any(s.span[0] < match.end() and match.start() < s.span[1] for s in found):
            found.append(_spoken(text, match, int(match[2]), _month(match[1]), _year(match[3])))
    return sorted((s for s in found if 1 <= s.day <= 31 and 1 <= s.month <= 12), key=lambda s: s.span)


def _spoken(text: str, match: re.Match[str], day: int, month: int, year: int | None) -> Spoken:
    before = _WEEKDAY.search(text[max(0, match.start() - 14) : match.start()])
    weekday = DAYS.index(before[1].lower()) if before else None
    return Spoken(day, month, year, weekday, match.span())


def _month(word: str) -> int:
    return next(i for i, m in enumerate(MONTHS, 1) if m.startswith(word.lower()[:3]))


def _year(word: str | None) -> int | None:
    return int(word) if word else None


def dayless(text: str) -> str:
    """The text without the days that it names, so that "8 March" is not taken for eight of something."""
    for spoken in reversed(spoken_days(text)):
        text = f"{text[: spoken.span[0]]} , {text[spoken.span[1] :]}"
    return text


def tokens(text: str) -> list[str]:
    """The words and numbers of a text, without the stops around them."""
    return [t.strip(".'/-") for t in _TOKEN.findall(text.replace("’", "'"))]


def is_denied(before: Sequence[str]) -> bool:
    """Whether the words before a word say that it did not happen: "not", "wasn't", "was never even"."""
    said = [w.lower() for w in before]
    while said and said[-1] in ("even", "yet", "been", "being", "be", "really", "actually"):
        said.pop()
    return bool(said) and (said[-1] in ("not", "never") or said[-1].endswith("n't"))


def alike(word: str, name: str) -> bool:
    """Whether a word of the text says a name: equal, or the same stem (cancel, cancelled, cancellation)."""
    word, name = word.lower(), name.lower()
    if word == name or word.rstrip("s") == name.rstrip("s"):
        return len(name) > 2
    shared = next((i for i, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), min(len(word), len(name)))
    longer, shorter = max(len(word), len(name)), min(len(word), len(name))
    if shared == shorter:
        return shared >= 4 and longer - shared <= 4
    return shared >= max(5, 0.58 * longer)


def spoken_at(words: Sequence[str], name: str) -> range | None:
    """Where neighbouring words of a text say a name of one or more parts ("no shows": no_show); null if nowhere."""
    parts = [p for p in re.split(r"[\s_\-/]+", name) if p]
    for start in range(len(words) - len(parts) + 1):
        said = words[start : start + len(parts)]
        if parts and all(w.lower() == p.lower() or alike(w, p) for w, p in zip(said, parts, strict=True)):
            return range(start, start + len(parts))
    return None
