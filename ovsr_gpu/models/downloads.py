"""Downloads that fail quickly, and say what to do instead, where there is no network."""

from __future__ import annotations

import os
import ssl
import textwrap
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ovsr_gpu.errors import ModelError

T = TypeVar("T")

_PATIENCE = 3.0  # seconds


def fetch(download: Callable[[], T], *, missing: str, url: str, remedy: str) -> T:
    """The result of `download()`, tried only if the host of `url` answers within a few seconds.

    Raises ModelError, naming what is `missing`, where it comes from and the `remedy`, where the host does not answer,
    where HF_HUB_OFFLINE is set, or where the download fails.
    """
    reason = _why_unreachable(url)
    if reason is None:
        try:
            return download()
        except Exception as error:
            reason = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
    raise ModelError(f"{missing} is not on this machine and cannot be had from {url} ({reason}); {remedy}")


def _why_unreachable(url: str) -> str | None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    outcome: SimpleQueue[str | None] = SimpleQueue()
    # Looking up a host name has no time limit of its own, so it must not happen in the thread that waits.
    Thread(target=lambda: outcome.put(_ask(url)), daemon=True).start()
    try:
        return outcome.get(timeout=_PATIENCE)
    except Empty:
        return f"no answer within {_PATIENCE:g} s"


def _ask(url: str) -> str | None:
    try:
        urlopen(Request(url, method="HEAD"), timeout=_PATIENCE).close()
    except HTTPError:
        return None  # an answer all the same
    except URLError as error:
        # The client that downloads brings its own certificates and may succeed.
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except Exception as error:
        return str(error) or type(error).__name__
    return None
