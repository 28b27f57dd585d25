"""robots.txt (RFC 9309): what may be asked for, how slowly, and where the sitemaps are. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from robots import RobotFileParser

from include.gleaner.crawl.urls import canonicalize

MAX_BYTES: Final = 512 * 1024  # RFC 9309, 2.5: at least 500 KiB must be read
MAX_SITEMAPS: Final = 50
_DELAY: Final = re.compile(r"\s*crawl-delay\s*:\s*(\d+(?:\.\d+)?)\s*(?:#.*)?$", re.IGNORECASE)
_AGENT: Final = re.compile(r"[ \t]*user[ \t-]?agent[ \t]*:[ \t]*(\*|[a-z_-]+)", re.IGNORECASE)  # the token alone
_AGENT_LINE: Final = re.compile(rf"^{_AGENT.pattern}[^\n]*$", re.IGNORECASE | re.MULTILINE)
_MISSPELT: Final = re.compile(
    r"^[ \t]*(?:dissallow|dissalow|disalow|diasllow|disallaw)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_RULE: Final = re.compile(r"\s*(?:allow|disallow|crawl-delay)\s*:", re.IGNORECASE)


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
        text = _as_lines(body[:MAX_BYTES])
        parser = RobotFileParser.from_string(_MISSPELT.sub("disallow:", _AGENT_LINE.sub(r"user-agent: \1", text)))
        found = [canonicalize(str(entry), base=url) for entry in parser.sitemaps or ()]
        return cls(
            agent=agent,
            crawl_delay=_crawl_delay(text, agent),
            sitemaps=tuple(dict.fromkeys(entry for entry in found if entry))[:MAX_SITEMAPS],
            _parser=parser,
        )

    def allows(self, url: str) -> bool:
        """Whether the crawler may ask for `url`; without a robots.txt it may."""
        return self._parser is None or bool(self._parser.can_fetch(self.agent, url))


def _as_lines(body: bytes) -> str:
    text = body.decode("utf-8-sig", "replace").replace("\x00", "")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _crawl_delay(text: str, agent: str) -> float:
    """The Crawl-delay of the group for `agent`, else of the group for all: no part of the RFC, but in use."""
    delays: dict[str, float] = {}
    agents: list[str] = []
    in_rules = False
    for line in text.splitlines():
        if match := _AGENT.match(line):
            if in_rules:
                agents, in_rules = [], False
            agents.append(match[1].strip().lower())
        elif _RULE.match(line):
            in_rules = True
            if match := _DELAY.match(line):
                delay = float(match[1])
                if math.isfinite(delay):
                    delays.update(dict.fromkeys(agents, delay))
    return delays.get(agent.lower(), delays.get("*", 0.0))
