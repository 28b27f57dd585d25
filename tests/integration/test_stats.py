"""What the stages tell Airflow's StatsD, received by a real listener; whatever is wrong with it fails no task."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils

from include.gleaner.report.stats import count, timing
from tests.support.articles import NAMES, website
from tests.support.tenant import Tenant


@contextmanager
def switched_on(monkeypatch: pytest.MonkeyPatch, host: str, port: int) -> Iterator[None]:
    """Airflow's metrics as a task's process has them, sent to this address."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", host)
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(port))
    stats.initialize(
        factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on")
    )
    try:
        yield
    finally:
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


def packets(listener: socket.socket) -> list[str]:
    listener.setblocking(False)
    found: list[str] = []
    while True:
        try:
            found += listener.recv(65_536).decode().splitlines()
        except BlockingIOError:
            return found


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        found.bind(("127.0.0.1", 0))
        yield found


def test_a_run_is_told_as_it_goes(tenant: Tenant, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.endpoint.configure(rate_limit_first=1, retry_after="0.01")
    with switched_on(monkeypatch, "127.0.0.1", listener.getsockname()[1]):
        tenant.run()
    counters: Counter[str] = Counter()
    timers: dict[str, float] = {}
    for packet in packets(listener):
        name, _, rest = packet.partition(":")
        value, _, kind = rest.partition("|")
        assert name.startswith("airflow.")
        assert tenant.name not in name
        if kind == "c":
            counters[name.removeprefix("airflow.gleaner.")] += int(value)
        elif kind == "ms":
            timers[name.removeprefix("airflow.gleaner.")] = float(value)
    told = tenant.endpoint.stats()
    assert counters == {
        "pages.crawl": 5, "pages.process": 5, "pages.load": 5, "chunks": 5, "embedding.requests": 1,
        "embedding.inputs": told.inputs, "embedding.tokens": told.tokens, "embedding.throttled": 1,
    }  # fmt: skip
    assert set(timers) == {"batch.crawl", "batch.process", "batch.load", "embedding.seconds"}
    assert all(0 < value < 60_000 for value in timers.values())
    assert timers["batch.load"] > timers["embedding.seconds"] > 1  # milliseconds


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_nobody_who_listens_is_no_error(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    tenant.site.routes = website("apples")
    with switched_on(monkeypatch, host, 9):
        assert tenant.run()["gap"]["pages_not_chunked"] == 0


def test_a_backend_that_raises_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no backend")

    stats.initialize(factory=broken, export_legacy_names=False)
    try:
        count("pages.load", 3)
        timing("batch.load", 1.0)
    finally:
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
