"""Downloads that fail within seconds, with a remedy in the message, when there is no network."""

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

_TIMEOUT = 3.0  # seconds


def fetch(download: Callable[[], T], *, missing: str, url: str, remedy: str) -> T:
    """Return the result of `download()`, which is called only if the host of `url` answers within a few seconds.

    Args:
        download: Function that downloads.
        missing: Description of the missing file, for the message.
        url: Address that the file comes from.
        remedy: What to do without a network, for the message.

    Returns:
        The result of `download()`.

    Raises:
        ModelError: The host does not answer, HF_HUB_OFFLINE is set, or the download fails.
    """
    reason = _unreachable_reason(url)
    if reason is None:
        try:
            return download()
        except Exception as error:
            reason = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
    raise ModelError(f"{missing} is not on this machine and cannot be downloaded from {url} ({reason}); {remedy}")


def _unreachable_reason(url: str) -> str | None:
    """Return why a host cannot be reached, None if it answers."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    outcome: SimpleQueue[str | None] = SimpleQueue()
    # The lookup of a host name has no timeout, so it runs in another thread.
    Thread(target=lambda: outcome.put(_probe(url)), daemon=True).start()
    try:
        return outcome.get(timeout=_TIMEOUT)
    except Empty:
        return f"no answer within {_TIMEOUT:g} s"


def _probe(url: str) -> str | None:
    try:
        urlopen(Request(url, method="HEAD"), timeout=_TIMEOUT).close()
    except HTTPError:
        return None  # the host has answered
    except URLError as error:
        # The download client has its own certificates and may succeed.
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except Exception as error:
        return str(error) or type(error).__name__
    return None
