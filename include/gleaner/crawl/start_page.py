"""The start page: without it there is no crawl, and its error says what to do."""

from __future__ import annotations

from include.gleaner.crawl.fetcher import NOT_ASKED
from include.gleaner.crawl.records import Visit
from include.gleaner.errors import CrawlError, ForbiddenAddressError, StartPageError


def check_start(visit: Visit) -> None:
    """Raise StartPageError or ForbiddenAddressError when this visit, of the start page, gave nothing to begin with."""
    url, reason = visit.page.url, visit.reason
    if reason in ("forbidden_address", "forbidden_port"):
        raise shut_out(url, reason)
    if visit.kind in ("fault", "missing"):
        raise StartPageError(f"the start page {url} cannot be fetched: {reason}")
    if visit.kind == "skipped" and reason in ("content_type", "robots", "redirect_out_of_scope", "no_body"):
        raise StartPageError(f"the start page {url} is no page that can be read: {reason}")


def shut_out(url: str, fault: str) -> CrawlError:
    """The error for a host that may not be asked at all, because of its address or because of its robots.txt."""
    if fault == "forbidden_address":
        return ForbiddenAddressError(
            f"{url} does not lead to the public internet (forbidden_address); a host on this machine has to be "
            "named in GLEANER_LOCAL_HOSTS"
        )
    if fault == "forbidden_port":
        return ForbiddenAddressError(f"{url} has a port that websites are not served on (forbidden_port)")
    if fault in NOT_ASKED:
        return StartPageError(f"{url} may not be asked for now: the site asks for patience; try again later")
    return StartPageError(
        f"robots.txt of {url} cannot be read ({fault}), so nothing may be asked for; try again when the server is well"
    )
