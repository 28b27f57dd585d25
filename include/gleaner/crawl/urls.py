"""Canonical addresses, and which of them belong to a source. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import ada_url
import regex
from w3lib.url import canonicalize_url

from include.gleaner.config import CrawlPolicy
from include.gleaner.errors import InvalidParamError

MAX_LENGTH: Final = 2_000  # characters
LONGEST_MATCH_SECONDS: Final = 0.2  # of one of the tenant's patterns on one address
_HOME_NAMES: Final = frozenset({"home", "index", "start", "main", "default", "welcome", "homepage", "startpage"})

# Parameters that say where a visitor came from and never what the page shows.
_TRACKING: Final = (
    "fbclid", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "msclkid", "yclid", "twclid", "ttclid", "igshid",
    "mc_cid", "mc_eid", "mkt_tok", "_ga", "_gl", "_hsenc", "_hsmi", "hsctatracking", "vero_id", "wickedid",
    "oly_anon_id", "oly_enc_id", "srsltid", "li_fat_id", "epik",
    "gad_source", "gad_campaignid", "_gac",
)  # fmt: skip
_IS_TRACKING: Final = re.compile(r"^(utm_\w+|pk_\w+|mtm_\w+|matomo_\w+|piwik_\w+|hsa_\w+|" + "|".join(_TRACKING) + ")$")

# Visitors' session ids: servers put them into addresses for those who keep no cookies, such as a crawler.
_IS_SESSION: Final = re.compile(r"^(?:phpsessid|jsessionid|aspsessionid\w*|cfid|cftoken|oscsid|zenid)$")
_SESSION_NAMES: Final = frozenset({"sid", "sessionid", "session_id", "session", "s"})  # only with a random value
_RANDOM: Final = re.compile(r"(?=[^&]*[0-9])(?=[^&]*[a-zA-Z])[0-9a-zA-Z]{16,}")
_SESSION_PATH: Final = re.compile(r";(?:jsessionid|phpsessid|sid)=[^;/]*", re.IGNORECASE)

# A query without parameters is a path to some servers ("/index.php?/topic/1/", "?OpenDocument"): it stays as it is.
_ROUTE: Final = re.compile(r"\?[^=&]+")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")

# An address that is canonical as soon as it is parsed: nearly all are, and the long way costs ten times as much.
_PLAIN: Final = re.compile(r"https?://[a-z0-9.-]+(?::[1-9][0-9]*)?/[A-Za-z0-9._~/-]*")

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)

# Endings of files that are never a page. An address without one is asked for; the answer's type decides.
_NO_PAGE: Final = re.compile(
    r"\.(?:jpe?g|png|gif|svgz?|webp|avif|ico|bmp|tiff?|heic|mp[34]|m4[av]|aac|ogg|oga|ogv|wav|flac|webm|avi|mov|mkv|wmv"
    r"|css|m?js|map|json|jsonl|woff2?|ttf|otf|eot|pdf|epub|mobi|docx?|xlsx?|pptx?|od[tsp]|rtf|csv|tsv|zip|gz"
    r"|tgz|bz2|xz|zst|7z|rar|tar|jar|war|exe|msi|dmg|pkg|deb|rpm|apk|iso|img|bin|wasm|sqlite|swf|ics|vcf|torrent|sig|asc"
    r"|sha256|md5)$",
    re.IGNORECASE,
)


def canonicalize(url: str, base: str | None = None) -> str | None:
    """The one form of an address, or None when it is none that can be crawled.

    Parsed as browsers do (WHATWG), then: no fragment, no tracking parameter, no session id, all other parameters kept
    and sorted, a query that has no "=" and no "&" as it is, no default port, host in lower case and ASCII, escapes in
    upper case and only where they are needed.
    None for another scheme, credentials, port 0, or more than 2,000 characters.
    """
    if len(url) > 4 * MAX_LENGTH or len(base or "") > 4 * MAX_LENGTH:
        return None
    try:
        absolute: str = ada_url.join_url(base, url) if base else ada_url.normalize_url(url)
    except (ValueError, UnicodeError):
        return None
    absolute = absolute.partition("#")[0]
    if len(absolute) <= MAX_LENGTH and _PLAIN.fullmatch(absolute):
        return absolute
    return _canonicalize(absolute)


@lru_cache(maxsize=20_000)
def _canonicalize(absolute: str) -> str | None:
    try:
        parsed = ada_url.URL(absolute)
        if parsed.protocol not in ("http:", "https:") or not parsed.hostname or parsed.username or parsed.password:
            return None
        if parsed.port == "0":
            return None
        if parsed.search:
            parsed.search = _kept_query(parsed.search)
        if ";" in parsed.pathname:
            parsed.pathname = _SESSION_PATH.sub("", parsed.pathname)
        route = _ROUTE.fullmatch(parsed.search)
        if route:
            parsed.search = ""
        canonical: str = canonicalize_url(parsed.href)
        canonical = ada_url.URL(canonical).href
        if route:
            canonical += _ESCAPE.sub(lambda escape: escape[0].upper(), route[0])
    except (ValueError, UnicodeError):
        return None
    return canonical if len(canonical) <= MAX_LENGTH else None


def _kept_query(query: str) -> str:
    return "&".join(part for part in query.removeprefix("?").split("&") if part and not _is_noise(part))


def _is_noise(part: str) -> bool:
    """Whether a parameter says where a visitor came from, or who it is, and not what the page shows."""
    name, _, value = part.partition("=")
    if _IS_TRACKING.match(name.lower()) or _IS_SESSION.match(name.lower()):
        return True
    return name.lower() in _SESSION_NAMES and bool(_RANDOM.fullmatch(value))


def origin_of(url: str) -> str:
    """Scheme, host and port of a canonical address, such as "https://example.com"."""
    found = _ORIGIN.match(url)
    return found[0] if found else ""


def target_of(url: str) -> str:
    """What a request for a canonical address asks its host for: path and query."""
    target = url[len(origin_of(url)) :].partition("#")[0]
    return target if target.startswith("/") else f"/{target}"


def site_of(url: str) -> str:
    """Whom politeness is owed: host without "www.", and the port when it is not the scheme's own."""
    return _site_of(origin_of(url))


@lru_cache(maxsize=1_000)
def _site_of(origin: str) -> str:
    parts = urlsplit(origin)
    host = (parts.hostname or "").removeprefix("www.")
    return f"{host}:{parts.port}" if parts.port else host


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which addresses belong to a source: those below the start page's folder, as the patterns allow.

    http and https, with and without "www." are one site. The folder of /docs/ and /docs/index.html is /docs/. A start
    page without an ending is a folder itself, /docs as well as /en, unless its name says that it is a home page: /home
    and /index stand for all that lies beside them.
    """

    root: str
    folders: frozenset[tuple[str, str]]  # site as of site_of, and path prefix with its "/" at the end
    include: tuple[regex.Pattern[str], ...]
    exclude: tuple[regex.Pattern[str], ...]

    @classmethod
    def of(cls, root_url: str, policy: CrawlPolicy) -> Scope:
        """The scope of a start address; the address itself is always part of it."""
        root = canonicalize(root_url) or root_url
        return cls(
            root=root,
            folders=frozenset({(site_of(root), _folder(root))}),
            include=tuple(regex.compile(pattern) for pattern in policy.include),
            exclude=tuple(regex.compile(pattern) for pattern in policy.exclude),
        )

    def moved_to(self, target: str) -> Scope:
        """The scope of a source whose start page redirects to `target`: its folder, and what was in scope before."""
        folders = self.folders | {(site_of(target), _folder(target))}
        return Scope(root=target, folders=folders, include=self.include, exclude=self.exclude)

    def allows(self, url: str) -> bool:
        """Whether the canonical `url` belongs to the source.

        Raises InvalidParamError when a pattern of the tenant's takes too long.
        """
        if url == self.root:
            return True
        site, path = site_of(url), target_of(url).partition("?")[0]
        if not any(site == its_site and path.startswith(folder) for its_site, folder in self.folders):
            return False
        if _NO_PAGE.search(path) or self._matches("exclude_patterns", self.exclude, url):
            return False
        return not self.include or self._matches("include_patterns", self.include, url)

    def _matches(self, param: str, patterns: tuple[regex.Pattern[str], ...], url: str) -> bool:
        for pattern in patterns:
            try:
                if pattern.search(url, timeout=LONGEST_MATCH_SECONDS):
                    return True
            except TimeoutError:
                raise InvalidParamError(
                    param, f"{pattern.pattern[:100]!r} takes too long to match; simplify it (no nested repeats)"
                ) from None
        return False


def _folder(url: str) -> str:
    path = urlsplit(url).path or "/"
    head, _, last = path.rpartition("/")
    if last and "." not in last and last.lower() not in _HOME_NAMES:
        return f"{path}/"
    return f"{head}/"
