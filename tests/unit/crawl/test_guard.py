"""Only the public internet: names that lead elsewhere, whatever they look like, are refused before a byte is sent."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.client import Client
from include.gleaner.crawl.guard import is_public
from tests.support.website import Reply, TestWebsite


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "168.63.129.16", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "no address", "",
    ],
)  # fmt: skip
def test_what_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001::1"])
def test_what_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/", "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://0/",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/",
    ],
)  # fmt: skip
def test_addresses_in_disguise_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", never)
    with Client(CrawlPolicy(attempts=1)) as client:
        assert client.fetch(url).fault == "forbidden_address"


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("93.184.216.34", "10.0.0.1")]

    def never(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", never)
    with Client(CrawlPolicy(attempts=1)) as client:
        assert client.fetch("http://rebinding.example/").fault == "forbidden_address"


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])
    reached: list[Any] = []

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(_: socket.socket, address: Any) -> None:
        reached.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with Client(CrawlPolicy(attempts=1)) as client:
        assert client.fetch("http://rebinding.example/").fault == "no_connection"
    assert reached == [("93.184.216.34", 80)]


def test_proxies_and_netrc_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with TestWebsite({"/": "home"}) as site, TestWebsite() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with Client(CrawlPolicy(local_hosts=(site.host,))) as client:
            assert client.fetch(site.url).body == b"home"
        assert not proxy.requests


def test_the_local_setting_names_host_and_port() -> None:
    with TestWebsite({"/": "home"}) as site, TestWebsite({"/": "other"}) as other:
        with Client(CrawlPolicy(local_hosts=(site.host,), attempts=1)) as client:
            assert client.fetch(site.url).status == 200
            assert client.fetch(other.url).fault == "forbidden_address"
        assert not other.requests


def test_cookies_are_not_kept() -> None:
    with TestWebsite({"/": Reply(body="x", headers={"Set-Cookie": "session=1"})}) as site:
        with Client(CrawlPolicy(local_hosts=(site.host,))) as client:
            client.fetch(site.url)
            client.fetch(site.url)
        assert "Cookie" not in site.seen_headers["/"]
