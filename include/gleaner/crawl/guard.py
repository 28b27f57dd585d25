"""Connections that reach the public internet only, and that end in time.

The address is checked inside the connection, after the name was resolved and before a byte is sent, and the address
that was checked is the one that is connected to: neither a redirect, nor a name that changes its answer, nor an unusual
way to write an address gets around it.
"""

from __future__ import annotations

import contextlib
import heapq
import ipaddress
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any, Final

import certifi
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import Url, parse_url
from urllib3.util.ssl_ import create_urllib3_context

from include.gleaner.crawl.response import CarefulResponse
from include.gleaner.errors import ForbiddenAddressError

MAX_ADDRESSES: Final = 4  # of one name that are tried
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Named here beside the library's own tables, which differ between versions of Python (IANA special-purpose registries).
_NOT_PUBLIC: Final = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "168.63.129.16/32",  # Azure's metadata and DNS, a public address that every machine there reaches
    # IPv6: all that is not global unicast, and all of it that carries an IPv4 address or is set aside.
    "::/3", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "4000::/2", "8000::/1",
)  # fmt: skip

# Ports of services that no website lives on: what a crawl would do there is an attack on somebody.
_SERVICE_PORTS: Final = frozenset(
    {
        1433, 1521, 1719, 1720, 1723, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 5060, 5061,
        5432, 5672, 5900, 5984, 5985, 5986, 6000, 6379, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 7001,
        8086, 8500, 9042, 9092, 9200, 9300, 10080, 10250, 10255, 11211, 15672, 27017, 27018, 28017, 50070,
    }
)  # fmt: skip


class ForbiddenPortError(ForbiddenAddressError):
    """The port is one of another service than the web."""


def is_public(address: str) -> bool:
    """Whether an IP address is one host of the public internet. One that carries another address in it never is."""
    try:
        ip: _IP = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(ip.version == network.version and ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


def is_web_port(port: int) -> bool:
    """Whether websites are served there: 80, 443, or one above 1023 that is not known as another service's."""
    return port in (80, 443) or (1024 <= port <= 65_535 and port not in _SERVICE_PORTS)


class Deadlines:
    """Cuts connections whose time is over, whatever drips through them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, HTTPConnection]] = []
        self._numbers = itertools.count()
        self._live: dict[int, HTTPConnection] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._local = threading.local()
        threading.Thread(target=self._watch, name="gleaner-deadlines", daemon=True).start()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[float]:
        """Requests that this thread makes inside end after `seconds`; gives the end on the monotonic clock."""
        self._local.end = end = 0.0 if self._closed else time.monotonic() + seconds
        self._local.numbers = []
        try:
            yield end
        finally:
            with self._changed:
                for number in self._local.numbers:
                    self._live.pop(number, None)
            del self._local.end

    def left(self) -> float:
        """Seconds that this thread has left. Raises TimeoutError when there are none."""
        end = getattr(self._local, "end", None)
        left = float("inf") if end is None else end - time.monotonic()
        if left <= 0 or self._closed:
            raise TimeoutError("the time for this page is over")
        return left

    def was_reused(self) -> bool:
        """Whether this thread's newest request went over a connection that had been open before."""
        return bool(getattr(self._local, "is_reused", False))

    def watch(self, connection: HTTPConnection) -> None:
        """From now on `connection` falls under this thread's deadline."""
        sock = connection.sock  # None: it is opened by the request that comes now
        self._local.is_reused = sock is not None and getattr(connection, "used_socket", None) is sock
        end = getattr(self._local, "end", None)
        if end is None:
            return
        with self._changed:
            number = next(self._numbers)
            self._local.numbers.append(number)
            self._live[number] = connection
            is_first = not self._heap or end < self._heap[0][0]
            heapq.heappush(self._heap, (end, number, connection))
            if is_first:
                self._changed.notify()

    def close(self) -> None:
        """Cut all connections that are under way, and end the watching thread."""
        with self._changed:
            self._closed = True
            for connection in self._live.values():
                _cut(connection)
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._heap:
                    self._changed.wait()
                    continue
                end, number, connection = self._heap[0]
                if number not in self._live:
                    heapq.heappop(self._heap)
                elif (left := end - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._heap)
                    _cut(connection)


def _cut(connection: HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)  # no socket (yet): AttributeError


class GuardedPools(PoolManager):
    """Pools of connections that go to public addresses, or to the `local_hosts` ("host:port").

    There is no proxy: behind one nobody could say which address is reached.
    """

    def __init__(self, *, local_hosts: frozenset[str], deadlines: Deadlines, pool_size: int) -> None:
        super().__init__(num_pools=8, maxsize=pool_size, block=False)
        http, https = _connection_classes(local_hosts, deadlines)
        self.pool_classes_by_scheme = {
            "http": type("GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }

    def pool_of(self, origin: str) -> HTTPConnectionPool:
        """The connections to an origin such as "https://example.com". Raises ValueError for one that is none."""
        parts = _parts_of(origin)
        trust = {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._trust} if parts.scheme == "https" else None
        return self.connection_from_host(parts.host, parts.port, parts.scheme, pool_kwargs=trust)

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """Whose certificates are believed, read once: for each connection it would take longer than all else of it."""
        context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        context.load_verify_locations(certifi.where())
        return context


@lru_cache(maxsize=1_000)
def _parts_of(origin: str) -> Url:
    return parse_url(origin)


def _connection_classes(
    local_hosts: frozenset[str], deadlines: Deadlines
) -> tuple[type[HTTPConnection], type[HTTPSConnection]]:
    class Guarded(HTTPConnection):
        response_class = CarefulResponse
        used_socket: socket.socket | None = None  # that an earlier request went over

        def _new_conn(self) -> socket.socket:
            return _connect(self, local_hosts, deadlines)

        def request(self, *args: Any, **options: Any) -> None:
            deadlines.watch(self)
            super().request(*args, **options)
            self.used_socket = self.sock
            deadlines.left()  # closed while there was no socket that could be cut: do not wait for an answer

    class GuardedTLS(HTTPSConnection):
        response_class = CarefulResponse
        used_socket: socket.socket | None = None  # that an earlier request went over

        def _new_conn(self) -> socket.socket:
            return _connect(self, local_hosts, deadlines)

        def request(self, *args: Any, **options: Any) -> None:
            deadlines.watch(self)
            super().request(*args, **options)
            self.used_socket = self.sock
            deadlines.left()  # closed while there was no socket that could be cut: do not wait for an answer

    return Guarded, GuardedTLS


def _connect(connection: HTTPConnection, local_hosts: frozenset[str], deadlines: Deadlines) -> socket.socket:
    host, port = connection._dns_host.strip("[]"), connection.port or 80
    named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    is_local = named.lower() in local_hosts
    if not is_local and not is_web_port(port):
        raise ForbiddenPortError(f"port {port} of {host} is not one that websites are served on")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameResolutionError(host, connection, _as_gaierror(error)) from error
    for *_, address in () if is_local else found:
        if not is_public(str(address[0])):
            # All of them must be: a name with one public address is no better than its worst.
            raise ForbiddenAddressError(f"{host} leads to an address that is not on the public internet")
    timeout = connection.timeout if isinstance(connection.timeout, int | float) else 20.0
    problem: OSError | None = None
    for family, kind, protocol, _, address in found[:MAX_ADDRESSES]:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a kernel without this family
            problem = error
            continue
        try:
            sock.settimeout(min(timeout, deadlines.left()))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            sock.settimeout(timeout)
            return sock
    if isinstance(problem, TimeoutError):
        raise ConnectTimeoutError(connection, f"no connection to {host} within {timeout:g} s") from problem
    raise NewConnectionError(connection, f"no connection to {host}") from problem


def _as_gaierror(error: Exception) -> socket.gaierror:
    return error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
