"""Downloads: attempted if the host answers, an error within seconds if it does not."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.downloads import fetch


@pytest.fixture(autouse=True)
def direct_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def server() -> Iterator[str]:
    """A server that answers 404 to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/weights.pth"
        running.shutdown()


def error_message(url: str, download=lambda: pytest.fail("must not be called")) -> str:
    with pytest.raises(ModelError) as caught:
        fetch(download, missing="weights.pth", url=url, remedy="put it into the folder")
    message = str(caught.value)
    assert "weights.pth is not on this machine" in message
    assert url in message
    assert message.endswith("put it into the folder")
    return message


def test_any_answer_counts_as_reachable(server):
    assert fetch(lambda: "tensors", missing="weights.pth", url=server, remedy="") == "tensors"


def test_failed_download_says_why(server):
    def download() -> None:
        raise RuntimeError("invalid hash value")

    assert "(invalid hash value)" in error_message(server, download)


def test_closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert "refused" in error_message(f"http://127.0.0.1:{port}/weights.pth")


def test_server_that_never_answers():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.perf_counter()
        error_message(f"http://127.0.0.1:{silent.getsockname()[1]}/weights.pth")
    assert time.perf_counter() - start < 4.5


def test_name_lookup_that_hangs(monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: released.wait(30))
    start = time.perf_counter()
    assert "no answer within" in error_message("http://weights.invalid/weights.pth")
    assert time.perf_counter() - start < 4.5
    released.set()


def test_tls_error_counts_as_reachable():
    """A plain-text answer to a TLS handshake: the host exists, and the download client may succeed."""
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()

        def answer() -> None:
            connection, _ = plain.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 400 plain text only\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}/weights.pth"
        assert fetch(lambda: 7, missing="weights.pth", url=url, remedy="") == 7


def test_offline_mode_makes_no_request(server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in error_message(server)
