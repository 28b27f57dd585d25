"""How the sample website is served: addresses, headers, ports and clients that hang up."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from lxml import html

from include.gleaner.local.website import HOST, SampleWebsite
from tests.support.sample_client import ask


@pytest.fixture(scope="module")
def site() -> Iterator[SampleWebsite]:
    with SampleWebsite() as website:
        yield website


def test_a_query_string_changes_nothing(site: SampleWebsite) -> None:
    assert ask(site, "/catalogue?ref=newsletter")[2] == ask(site, "/catalogue")[2]


def test_the_old_catalogue_has_moved(site: SampleWebsite) -> None:
    status, headers, body = ask(site, "/old-catalogue")
    assert (status, headers["Location"], body) == (301, "/catalogue", b"")


def test_what_is_unchanged_is_not_sent_again(site: SampleWebsite) -> None:
    _, headers, _ = ask(site, "/about")
    tag, date = headers["ETag"], headers["Last-Modified"]
    other = '"another"'
    for given, expected in [
        ({"If_None_Match": tag}, 304),
        ({"If_None_Match": f"{other}, W/{tag}"}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_Modified_Since": date}, 304),
        ({"If_None_Match": other}, 200),
        ({"If_None_Match": other, "If_Modified_Since": date}, 200),  # the tag decides where there is one
        ({"If_Modified_Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
    ]:
        status, _, body = ask(site, "/about", **given)
        assert (status, bool(body)) == (expected, expected == 200), given


def test_head_has_the_headers_of_get_and_no_body(site: SampleWebsite) -> None:
    _, of_get, body = ask(site, "/fa/")
    status, of_head, nothing = ask(site, "/fa/", "HEAD")
    assert (status, nothing) == (200, b"")
    assert of_head["Content-Length"] == of_get["Content-Length"] == str(len(body))
    assert of_head["ETag"] == of_get["ETag"]


@pytest.mark.parametrize(
    "target",
    [
        "/../website.py",
        "/en/../../website.py",
        "/%2e%2e/website.py",
        "/..%2fwebsite.py",
        "/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "//etc/passwd",
        "/..\\website.py",
        "/questions.json",
        "/layout.en.html",
        "/en/home.html",
    ],
)
def test_only_pages_are_served_never_files(site: SampleWebsite, target: str) -> None:
    status, _, body = ask(site, target)
    assert status == 404
    assert b"Page not found" in body
    assert b"import" not in body
    assert b"root:" not in body


@pytest.mark.parametrize(
    ("target", "language", "title"), [("/press-kit", "en", "Page not found"), ("/fa/nothing", "fa", "صفحه پیدا نشد")]
)
def test_a_missing_page_says_so_in_its_language(site: SampleWebsite, target: str, language: str, title: str) -> None:
    status, _, body = ask(site, target)
    page = html.document_fromstring(body.decode())
    assert (status, page.get("lang"), page.findtext(".//h1")) == (404, language, title)
    assert page.xpath("//main//a/@href")
    assert not page.xpath("//link[@rel='canonical']")  # an error is nowhere at home


def test_an_address_is_never_written_into_a_page(site: SampleWebsite) -> None:
    status, _, body = ask(site, '/"><script>alert(1)</script>')
    assert status == 404
    assert b"alert" not in body


def test_a_target_that_is_none_is_a_bad_request(site: SampleWebsite, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(site, "http://[", Host="x")[0] == 400
    assert ask(site, "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_named(site: SampleWebsite) -> None:
    port = urlsplit(site.url).port or 0
    with pytest.raises(OSError, match=f"port {port} is in use; free it or name another"):
        SampleWebsite(port).start()
    with pytest.raises(OSError, match="99999 is no port"):
        SampleWebsite(99999).start()
    second = SampleWebsite(port)
    second.stop()  # what never started stops too
    by_hand = [sys.executable, "-m", "include.gleaner.local.website", "--port", str(port)]
    ended = subprocess.run(
        by_hand, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"port {port} is in use; free it or name another, 0 for any\n"


def test_a_connection_is_kept(site: SampleWebsite) -> None:
    connection = http.client.HTTPConnection(HOST, urlsplit(site.url).port or 0, timeout=10)
    connection.connect()
    kept = connection.sock
    for target in ("/", "/press-kit", "/old-catalogue", "/fa/"):
        connection.request("GET", target)
        connection.getresponse().read()
        assert connection.sock is kept
    connection.close()


def test_stop_frees_the_port_and_ends_kept_connections(capfd: pytest.CaptureFixture[str]) -> None:
    threads = set(threading.enumerate())
    site = SampleWebsite()
    port = urlsplit(site.start()).port or 0
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read()
    kept = connection.sock
    site.stop()
    assert set(threading.enumerate()) <= threads
    assert kept.recv(1) == b""  # the other end has closed
    connection.close()
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port), timeout=10):
        pass
    with pytest.raises(RuntimeError):
        _ = site.url
    site.stop()  # once more does no harm
    with SampleWebsite(port) as again:  # the same address for the next run
        assert ask(again, "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_that_hangs_up_makes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with SampleWebsite() as site:
        for _ in range(5):
            rude = socket.create_connection((HOST, urlsplit(site.url).port or 0), timeout=10)
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a goodbye
            rude.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /about HTTP/1.1\r\n")
            rude.close()
        assert ask(site, "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_only_this_machine_is_answered(site: SampleWebsite) -> None:
    assert urlsplit(site.url).hostname == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", urlsplit(site.url).port or 0), timeout=10)


def test_by_hand_it_says_where_it_is_and_ends_quietly() -> None:
    process = subprocess.Popen(
        # A shell that starts this in the background makes it ignore Ctrl-C; the test must not depend on that.
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from include.gleaner.local.website import main; main()",
            "--port",
            "0",
        ],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().strip())
        assert (address.scheme, address.hostname) == ("http", HOST)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.wait()
