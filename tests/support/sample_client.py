"""Requests to the sample website, as they stand."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from include.gleaner.local.website import HOST, SampleWebsite


def ask(
    site: SampleWebsite, target: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request, the target sent as it is, no redirect followed."""
    connection = http.client.HTTPConnection(HOST, urlsplit(site.url).port or 0, timeout=10)
    try:
        connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()
