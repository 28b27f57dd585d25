"""A token bucket for requests and tokens per minute, fair between tenants. Pure: the time is told, never asked for.

The bucket holds ten seconds' worth, so that no minute sees much more than the limit, whatever was saved up before. A
request larger than that is let through by a full bucket and leaves a debt, which is waited out.

Tenants that wait take turns by what they were given: the one with the least goes first, and one that comes new begins
where the least of those who wait stands, so that nobody saves up turns. Who has not asked again in time no longer
waits: a worker that died holds up the others for two seconds at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

BURST_SECONDS: Final = 10.0
TURN_SECONDS: Final = 2.0  # for which a tenant that was sent away still counts as waiting
LONGEST_TURN: Final = 1.0  # after which one that waits for its turn asks again
LONGEST_WAIT: Final = max(TURN_SECONDS, 2 * LONGEST_TURN)  # nobody was noted as waiting for longer


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the endpoint allows each minute, over all tenants; None is no limit."""

    requests: int | None = None
    tokens: int | None = None

    @property
    def any(self) -> bool:
        return self.requests is not None or self.tokens is not None


@dataclass(kw_only=True)
class Tenant:
    """How one tenant stands beside the others."""

    given: float = 0.0  # tokens, from the level at which it came
    waits_until: float = 0.0
    seen: float = 0.0


@dataclass(kw_only=True)
class Bucket:
    """What is left, as of `at`; seconds of the store's clock."""

    requests: float | None = None  # None: never used, hence full
    tokens: float | None = None
    at: float = 0.0
    tenants: dict[str, Tenant] = field(default_factory=dict)


def take(bucket: Bucket, now: float, tenant: str, tokens: int, limits: Limits) -> float:
    """Take one request of so many tokens: 0 when it may go, else the seconds after which to ask again."""
    _refill(bucket, now, limits)
    mine = _join(bucket, now, tenant)
    wait = max(
        _missing(bucket.requests, 1.0, limits.requests),
        _missing(bucket.tokens, float(max(tokens, 1)), limits.tokens),
    )
    if wait <= 0 and any(
        other.given < mine.given for name, other in bucket.tenants.items() if name != tenant and other.waits_until > now
    ):
        wait = 0.05  # another one's turn
    if wait > 0:
        mine.waits_until = now + max(TURN_SECONDS, min(wait, LONGEST_TURN) * 2)
        return min(wait, LONGEST_TURN) if _others_wait(bucket, now, tenant) else wait
    mine.waits_until = 0.0
    mine.given += max(tokens, 1)
    if bucket.requests is not None:
        bucket.requests -= 1
    if bucket.tokens is not None:
        bucket.tokens -= max(tokens, 1)
    return 0.0


def _refill(bucket: Bucket, now: float, limits: Limits) -> None:
    passed = max(0.0, now - bucket.at)
    bucket.at = now  # also when the store's clock was set back: nothing would come in until it has made up for that
    for tenant in bucket.tenants.values():
        tenant.seen, tenant.waits_until = min(tenant.seen, now), min(tenant.waits_until, now + LONGEST_WAIT)
    bucket.requests = _filled(bucket.requests, passed, limits.requests)
    bucket.tokens = _filled(bucket.tokens, passed, limits.tokens)


def _filled(level: float | None, passed: float, per_minute: int | None) -> float | None:
    if per_minute is None:
        return None
    size = _size(per_minute)
    return size if level is None else min(size, level + passed * per_minute / 60)


def _size(per_minute: int) -> float:
    return max(1.0, per_minute * BURST_SECONDS / 60)


def _missing(level: float | None, wanted: float, per_minute: int | None) -> float:
    """Seconds until there is enough: all that is wanted, or a full bucket if more is wanted than it holds."""
    if level is None or per_minute is None:
        return 0.0
    return max(0.0, (min(wanted, _size(per_minute)) - level) * 60 / per_minute)


def _join(bucket: Bucket, now: float, tenant: str) -> Tenant:
    """The tenant's standing. One that was not waiting begins at the least of those who do."""
    for name in [name for name, other in bucket.tenants.items() if now - other.seen > 60 * TURN_SECONDS]:
        del bucket.tenants[name]
    mine = bucket.tenants.setdefault(tenant, Tenant())
    if mine.waits_until <= now and now - mine.seen > TURN_SECONDS:
        waiting = [other.given for name, other in bucket.tenants.items() if name != tenant and other.waits_until > now]
        mine.given = max([mine.given, min(waiting)] if waiting else [mine.given])
    mine.seen = now
    return mine


def _others_wait(bucket: Bucket, now: float, tenant: str) -> bool:
    return any(other.waits_until > now for name, other in bucket.tenants.items() if name != tenant)
