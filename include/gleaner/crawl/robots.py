"""robots.txt (RFC 9309): what may be asked for, how slowly, and where the sitemaps are. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from robots import RobotFileParser

from include.gleaner.crawl.urls import canonicalize

MAX_BYTES: Final = 512 * 1024  # RFC 9309, 2.5: at least 500 KiB must be read
MAX_SITEMAPS: Final = 50
_DELAY: Final = re.compile(r"\s*crawl-delay\s*:\s*(\d+(?:\.\d+)?)\s*(?:#.*)?$", re.IGNORECASE)
_ANY_DELAY: Final = re.compile(r"\s*crawl-delay\s*:", re.IGNORECASE)
_AGENT: Final = re.compile(r"[ \t]*user[ \t-]?agent[ \t]*:[ \t]*(\*|[a-z_-]+)", re.IGNORECASE)  # the token alone
_MISSPELT: Final = r"dissallow|dissalow|disalow|diasllow|disallaw"
_RULE: Final = re.compile(rf"\s*(?:(allow)|disallow|{_MISSPELT})(?:\s*:|\s)\s*([^#]*)", re.IGNORECASE)
_AS_IT_IS: Final = "".join(chr(code) for code in range(33, 127))  # of a rule; else it would end at a blank
_SITEMAP: Final = re.compile(r"\s*sitemap\s*:", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Robots:
    """The rules of one host for one crawler."""

    agent: str
    crawl_delay: float = 0.0  # seconds; 0 when the file asks for none
    sitemaps: Sequence[str] = ()  # canonical addresses
    _parser: RobotFileParser | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, body: bytes, *, url: str, agent: str) -> Robots:
        """The rules in a robots.txt that lies at `url`, for the product token `agent`."""
        lines = _as_lines(body[:MAX_BYTES])
        rules, crawl_delay = _own_group(lines, agent)
        parser = RobotFileParser.from_string("\n".join(("user-agent: *", *rules, *filter(_SITEMAP.match, lines))))
        sitemaps: dict[str, None] = {}
        for entry in parser.sitemaps or ():
            if len(sitemaps) < MAX_SITEMAPS and (address := canonicalize(str(entry), base=url)):
                sitemaps[address] = None
        return cls(agent=agent, crawl_delay=crawl_delay, sitemaps=tuple(sitemaps), _parser=parser)

    def allows(self, url: str) -> bool:
        """Whether the crawler may ask for `url`; without a robots.txt it may."""
        return self._parser is None or bool(self._parser.can_fetch(self.agent, url))


def _as_lines(body: bytes) -> list[str]:
    text = body.decode("utf-8-sig", "replace").replace("\x00", "")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _own_group(lines: Sequence[str], agent: str) -> tuple[list[str], float]:
    """The rules of all groups for `agent`, else of all for everybody; and its Crawl-delay, which is no part of the RFC.

    The parser sees no other group: it takes minutes for thousands of them, and gives rules of one crawler to another
    that shares a group with it.
    """
    rules: dict[str, list[str]] = {agent.lower(): [], "*": []}
    delays: dict[str, float] = {}
    named: set[str] = set()
    here: set[str] = set()  # whose rules come now
    slowed: set[str] = set()  # whose Crawl-delay comes now
    in_rules = in_delays = False
    for line in lines:
        if match := _AGENT.match(line):
            if in_rules:
                here.clear()
            if in_rules or in_delays:
                slowed.clear()
            in_rules = in_delays = False
            if (name := match[1].lower()) in rules:
                named.add(name)
                here.add(name)
                slowed.add(name)
        elif match := _RULE.match(line):
            in_rules = True
            for name in here:
                rules[name].append(f"{'allow' if match[1] else 'disallow'}: {quote(match[2].strip(), safe=_AS_IT_IS)}")
        elif _ANY_DELAY.match(line):
            in_delays = True
            if (match := _DELAY.match(line)) and math.isfinite(delay := float(match[1])):
                delays.update(dict.fromkeys(slowed, delay))
    own = rules[agent.lower() if agent.lower() in named else "*"]
    return own, delays.get(agent.lower(), delays.get("*", 0.0))
