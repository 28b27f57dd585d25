"""Canonical addresses, and which of them belong to a source. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import ada_url
from w3lib.url import canonicalize_url

from include.gleaner.config import CrawlPolicy

MAX_LENGTH: Final = 2_000  # characters

# Parameters that say where a visitor came from and never what the page shows.
_TRACKING: Final = (
    "fbclid", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "msclkid", "yclid", "twclid", "ttclid", "igshid",
    "mc_cid", "mc_eid", "mkt_tok", "_ga", "_gl", "_hsenc", "_hsmi", "hsctatracking", "vero_id", "wickedid",
    "oly_anon_id", "oly_enc_id", "srsltid", "li_fat_id", "epik",
)  # fmt: skip
_IS_TRACKING: Final = re.compile(r"^(utm_\w+|pk_\w+|mtm_\w+|matomo_\w+|piwik_\w+|hsa_\w+|" + "|".join(_TRACKING) + ")$")

# Endings of files that are never a page. An address without one is asked for; the answer's type decides.
_NO_PAGE: Final = re.compile(
    r"\.(?:jpe?g|png|gif|svgz?|webp|avif|ico|bmp|tiff?|heic|mp[34]|m4[av]|aac|ogg|oga|ogv|wav|flac|webm|avi|mov|mkv|wmv"
    r"|css|m?js|map|json|jsonl|rss|atom|woff2?|ttf|otf|eot|pdf|epub|mobi|docx?|xlsx?|pptx?|od[tsp]|rtf|csv|tsv|zip|gz"
    r"|tgz|bz2|xz|zst|7z|rar|tar|jar|war|exe|msi|dmg|pkg|deb|rpm|apk|iso|img|bin|wasm|sqlite|swf|ics|vcf|torrent|sig|asc"
    r"|sha256|md5)$",
    re.IGNORECASE,
)


def canonicalize(url: str, base: str | None = None) -> str | None:
    """The one form of an address, or None when it is none that can be crawled.

    Parsed as browsers do (WHATWG), then: no fragment, no tracking parameter, all other parameters kept and sorted, no
    default port, host in lower case and ASCII. None for another scheme, credentials, or more than 2,000 characters.
    """
    if len(url) > 4 * MAX_LENGTH or len(base or "") > 4 * MAX_LENGTH:
        return None
    return _canonicalize(url, base)


@lru_cache(maxsize=20_000)
def _canonicalize(url: str, base: str | None) -> str | None:
    try:
        parsed = ada_url.URL(url, base=base) if base else ada_url.URL(url)
        if parsed.protocol not in ("http:", "https:") or not parsed.hostname or parsed.username or parsed.password:
            return None
        parsed.hash = ""
        if parsed.search:
            parsed.search = _without_tracking(parsed.search)
        canonical: str = canonicalize_url(parsed.href)
        canonical = ada_url.URL(canonical).href
    except (ValueError, UnicodeError):
        return None
    return canonical if len(canonical) <= MAX_LENGTH else None


def _without_tracking(query: str) -> str:
    kept = [part for part in query.removeprefix("?").split("&") if part]
    return "&".join(part for part in kept if not _IS_TRACKING.match(part.partition("=")[0].lower()))


def origin_of(url: str) -> str:
    """Scheme, host and port of a canonical address, such as "https://example.com"."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which addresses belong to a source: the same site, below the start page's folder, as the patterns allow."""

    root: str
    sites: frozenset[tuple[str, int | None]]  # host without "www.", and port when it is not the default one
    folder: str  # path prefix with its "/" at the end
    include: tuple[re.Pattern[str], ...]
    exclude: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, root_url: str, policy: CrawlPolicy) -> Scope:
        """The scope of a start address; the address itself is always part of it."""
        root = canonicalize(root_url) or root_url
        return cls(
            root=root,
            sites=frozenset({_site(root)}),
            folder=_folder(root),
            include=tuple(re.compile(pattern) for pattern in policy.include),
            exclude=tuple(re.compile(pattern) for pattern in policy.exclude),
        )

    def moved_to(self, target: str) -> Scope:
        """The scope of a source whose start page redirects to `target`: what was in it stays in it."""
        folder = self.folder if target.startswith(origin_of(self.root) + self.folder) else _folder(target)
        if not self.folder.startswith(folder):
            folder = self.folder if folder.startswith(self.folder) else "/"
        return Scope(
            root=target,
            sites=self.sites | {_site(target)},
            folder=folder,
            include=self.include,
            exclude=self.exclude,
        )

    def allows(self, url: str) -> bool:
        """Whether the canonical `url` belongs to the source."""
        if url == self.root:
            return True
        if _site(url) not in self.sites:
            return False
        path = urlsplit(url).path or "/"
        if not path.startswith(self.folder) or _NO_PAGE.search(path):
            return False
        if any(pattern.search(url) for pattern in self.exclude):
            return False
        return not self.include or any(pattern.search(url) for pattern in self.include)


def _site(url: str) -> tuple[str, int | None]:
    """http and https, with and without "www.": one site. Another port is another site."""
    parts = urlsplit(url)
    return (parts.hostname or "").removeprefix("www."), parts.port


def _folder(url: str) -> str:
    """The folder /docs/ for /docs/ and /docs/index.html; a path without an ending, such as /docs, is itself one."""
    path = urlsplit(url).path or "/"
    head, _, last = path.rpartition("/")
    if last and "." not in last:
        return f"{path}/"
    return f"{head}/"
