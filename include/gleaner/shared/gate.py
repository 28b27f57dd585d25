"""The gate of one task before one endpoint, over the state that all workers share."""

from __future__ import annotations

import logging
import uuid

from include.gleaner.embed.gate import Admission
from include.gleaner.shared import breaker, bucket
from include.gleaner.shared.bucket import Limits
from include.gleaner.shared.state import Endpoint, StateStore

log = logging.getLogger(__name__)


class SharedGate:
    """A Gate for one tenant's task. `probe_seconds`: how long one request may take at most."""

    def __init__(
        self, store: StateStore, *, endpoint: str, tenant_id: str, limits: Limits, probe_seconds: float
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._tenant = tenant_id
        self._limits = limits
        self._probe_seconds = probe_seconds
        self._holder = uuid.uuid4().hex
        self._quiet = False  # the breaker is closed without failures: answers need not be told

    def admit(self, tokens: int) -> Admission:
        """As Gate says: the breaker first, then the bucket."""

        def step(state: Endpoint, now: float) -> tuple[Admission, bool]:
            closed = breaker.may_go(state.breaker, now, self._holder, self._probe_seconds)
            if closed > 0:
                return Admission(closed_for=closed), False
            wait = bucket.take(state.bucket, now, self._tenant, tokens, self._limits) if self._limits.any else 0.0
            if wait > 0:
                breaker.give_back(state.breaker, self._holder)
            return Admission(wait=wait), not state.breaker.openings and not state.breaker.failures

        admission, self._quiet = self._store.change(self._endpoint, step)
        return admission

    def succeeded(self) -> None:
        """As Gate says."""
        if self._quiet:
            return

        def step(state: Endpoint, now: float) -> tuple[bool, bool]:
            was_open = state.breaker.openings > 0
            breaker.succeeded(state.breaker, now, self._holder)
            return was_open, state.breaker.openings > 0

        was_open, is_open = self._store.change(self._endpoint, step)
        self._quiet = not is_open
        if was_open and not is_open:
            log.info("%s answers again", self._endpoint)

    def failed(self) -> float:
        """As Gate says."""
        self._quiet = False

        def step(state: Endpoint, now: float) -> tuple[int, float]:
            before = state.breaker.openings
            breaker.failed(state.breaker, now, self._holder)
            return state.breaker.openings - before, max(0.0, state.breaker.open_until - now)

        opened, seconds = self._store.change(self._endpoint, step)
        if opened:
            log.warning("%s fails again and again: nobody asks it for %.0f s", self._endpoint, seconds)
        return seconds
