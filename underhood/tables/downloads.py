"""A table behind a URL, brought here once: with a limit, and never a part of it for the whole."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from underhood.ground.errors import SourceError

MOST = 2 << 30  # bytes
PATIENCE_S = 60.0  # without a byte
AT_ONCE = 1 << 20


def downloaded(url: str, folder: Path, most: int = MOST) -> Path:
    """The file behind a URL (http, https), in `folder`.

    Raises SourceError if there is none, if it is larger than `most` bytes, or if it ends early.
    """
    target = folder / (Path(unquote(urlsplit(url).path)).name or "download.csv")
    hint = "open it in a browser; is it the file itself, and not a page about it?"
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "underhood"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer, target.open("wb") as file:
            told = answer.headers.get("Content-Length")
            if told and int(told) > most:
                raise SourceError(f"has {int(told):,} bytes, more than {most:,}", url, "download it by hand")
            got = 0
            while chunk := answer.read(AT_ONCE):
                got += len(chunk)
                if got > most:
                    raise SourceError(f"has more than {most:,} bytes", url, "download it by hand")
                file.write(chunk)
            if told and got != int(told):
                raise SourceError(f"ended after {got:,} of {int(told):,} bytes", url, "try again")
            kind = answer.headers.get_content_type()
    except urllib.error.HTTPError as error:
        error.close()
        raise SourceError(f"the server says {error.code} {error.reason}", url, hint) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise SourceError(f"cannot be fetched: {getattr(error, 'reason', error)}", url, hint) from error
    if kind == "text/html":
        raise SourceError("is a web page, not a table", url, hint)
    return target
