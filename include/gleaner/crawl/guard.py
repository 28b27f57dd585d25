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
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from include.gleaner.errors import ForbiddenAddressError

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_V4_COMPATIBLE: Final = ipaddress.ip_network("::/96")
MAX_ADDRESSES: Final = 4  # of one name that are tried


def is_public(address: str) -> bool:
    """Whether an IP address is one host of the public internet; an address that carries another is judged by both."""
    try:
        ip: _IP = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in _NAT64):
            return False
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _V4_COMPATIBLE or any(part is not None for part in inner) or ip.is_site_local:
            return False  # nobody's website lives there; what does is a way around the check
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


class Deadlines:
    """Cuts connections whose time is over, whatever drips through them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, HTTPConnection]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._local = threading.local()
        threading.Thread(target=self._watch, name="gleaner-deadlines", daemon=True).start()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[float]:
        """Requests that this thread makes inside end after `seconds`; gives the end on the monotonic clock."""
        end = time.monotonic() + seconds
        self._local.end, self._local.numbers = end, []
        try:
            yield end
        finally:
            with self._changed:
                self._cancelled.update(self._local.numbers)
            del self._local.end

    def watch(self, connection: HTTPConnection) -> None:
        """From now on `connection` falls under this thread's deadline."""
        end = getattr(self._local, "end", None)
        if end is None:
            return
        with self._changed:
            number = next(self._numbers)
            self._local.numbers.append(number)
            heapq.heappush(self._heap, (end, number, connection))
            self._changed.notify()

    def close(self) -> None:
        """End the watching thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._heap:
                    self._changed.wait()
                    continue
                end, number, connection = self._heap[0]
                if number in self._cancelled:
                    heapq.heappop(self._heap)
                    self._cancelled.discard(number)
                elif (left := end - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._heap)
                    with contextlib.suppress(OSError, AttributeError):
                        connection.sock.shutdown(socket.SHUT_RDWR)  # no socket (yet): AttributeError


class GuardedAdapter(HTTPAdapter):
    """A requests adapter whose connections go to public addresses, or to the `local_hosts` ("host:port")."""

    def __init__(self, *, local_hosts: frozenset[str], deadlines: Deadlines, pool_size: int) -> None:
        self._local_hosts = local_hosts
        self._deadlines = deadlines
        super().__init__(pool_connections=8, pool_maxsize=pool_size, max_retries=0, pool_block=False)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Called by the base class: a pool manager that makes guarded connections only."""
        http, https = _connection_classes(self._local_hosts, self._deadlines)
        manager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        manager.pool_classes_by_scheme = {
            "http": type("GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }
        self.poolmanager = manager

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Never: behind a proxy nobody could say which address is reached."""
        raise ForbiddenAddressError("a crawl does not use proxies")


def _connection_classes(
    local_hosts: frozenset[str], deadlines: Deadlines
) -> tuple[type[HTTPConnection], type[HTTPSConnection]]:
    class Guarded(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, local_hosts)

        def request(self, *args: Any, **options: Any) -> None:
            deadlines.watch(self)
            super().request(*args, **options)

    class GuardedTLS(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, local_hosts)

        def request(self, *args: Any, **options: Any) -> None:
            deadlines.watch(self)
            super().request(*args, **options)

    return Guarded, GuardedTLS


def _connect(connection: HTTPConnection, local_hosts: frozenset[str]) -> socket.socket:
    host, port = connection._dns_host.strip("[]"), connection.port or 80
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameResolutionError(host, connection, _as_gaierror(error)) from error
    named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if named.lower() not in local_hosts:
        for *_, address in found:
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
            sock.settimeout(timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    if isinstance(problem, TimeoutError):
        raise ConnectTimeoutError(connection, f"no connection to {host} within {timeout:g} s") from problem
    raise NewConnectionError(connection, f"no connection to {host}") from problem


def _as_gaierror(error: Exception) -> socket.gaierror:
    return error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
