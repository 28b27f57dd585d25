"""Sends a call's requests, waits, retries, divides, and keeps what was paid for."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Final

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed import complaints
from include.gleaner.embed.answers import UnusableAnswerError, WrongDimensionsError, read_answer
from include.gleaner.embed.batching import Request, halves
from include.gleaner.embed.faults import Fault, Verdict
from include.gleaner.embed.gate import Gate
from include.gleaner.embed.intake import Intake, no_vectors
from include.gleaner.embed.pacing import Pacing
from include.gleaner.embed.transport import Transport
from include.gleaner.errors import EmbeddingError
from include.gleaner.models import EmbeddedBatch, Patience

log = logging.getLogger(__name__)

# So many inputs refused one by one before any was accepted: then it is not the inputs that the endpoint minds, and
# dividing on would cost two requests for each of them.
REFUSED_AT_FIRST: Final = 20
NOT_FINITE: Final = "a vector with NaN, infinity or no length"


@dataclass(frozen=True, kw_only=True)
class _Try:
    request: Request
    number: int = 1  # of this try, from 1
    not_before: float = float("-inf")
    sent_at: float = 0.0


class Dispatch:
    """The requests of one call of `embed`, from the first to the last answer. All state is in the caller's thread."""

    def __init__(
        self,
        policy: EmbedPolicy,
        host: str,
        transport: Transport,
        pacing: Pacing,
        intake: Intake,
        gate: Gate,
    ) -> None:
        self._policy = policy
        self._host = host
        self._transport = transport
        self._pacing = pacing
        self._intake = intake
        self._gate = gate
        self._gate_opens_at = float("-inf")
        self._gated_since: float | None = None  # since when nothing could be sent
        self._waiting: deque[_Try] = deque()
        self._under_way: dict[Future[bytes | Fault], _Try] = {}
        self._ready: deque[EmbeddedBatch] = deque()
        self._failure: EmbeddingError | None = None
        self._accepted = False
        self._refused: list[int] = []
        self._patience = Patience()  # since the last answer

    def answers(self) -> Iterator[EmbeddedBatch]:
        """One batch for each answer, as it comes; then the error that ended it, if one did.

        The last batch may hold nothing but what patience it took to get no answer.
        """
        while self._waiting or self._under_way or (self._failure is None and not self._intake.is_empty):
            self._launch()
            self._collect()
            while self._ready:
                answer = self._ready.popleft()
                self._send()  # the endpoint works while the caller stores
                answer, self._patience = replace(answer, patience=self._patience), Patience()
                yield answer
        if self._patience != Patience():
            yield replace(no_vectors(self._policy.dimensions, {}), patience=self._patience)
        if self._failure is not None:
            raise self._failure

    def _launch(self) -> None:
        self._send()
        if self._has_room() and time.monotonic() >= self._opens_at():
            plan = self._intake.next_plan()
            if plan is None:
                return
            if plan.refused or not plan.requests:
                self._ready.append(no_vectors(self._policy.dimensions, plan.refused))
            self._waiting.extend(_Try(request=request) for request in plan.requests)
            self._send()

    def _has_room(self) -> bool:
        """For another group: what waits is not enough to keep the endpoint at work."""
        busy = len(self._waiting) + len(self._under_way) + len(self._ready)
        return self._failure is None and not self._intake.is_empty and busy < self._pacing.limit

    def _opens_at(self) -> float:
        return max(self._pacing.resume_at, self._gate_opens_at)

    def _send(self) -> None:
        now = time.monotonic()
        if now < self._opens_at():
            return
        for _ in range(len(self._waiting)):
            # Answers that the caller has not stored yet would be paid for again after a kill: they count as under way.
            if len(self._under_way) + len(self._ready) >= self._pacing.limit:
                return
            attempt = self._waiting.popleft()
            if attempt.not_before > now:
                self._waiting.append(attempt)
                continue
            if not self._is_admitted(attempt, now):
                return
            future = self._transport.send(self._intake.texts(attempt.request.positions))
            self._under_way[future] = replace(attempt, sent_at=now)

    def _is_admitted(self, attempt: _Try, now: float) -> bool:
        """Whether the gate lets the request go; if not, it is put back, or all of them are given up."""
        admission = self._gate.admit(attempt.request.tokens)
        if admission.closed_for > 0 and self._under_way:
            # One of those may be the probe that opens the way again; nothing is asked before one is answered.
            self._put_back(attempt)
            self._gate_opens_at = float("inf")
            return False
        if admission.closed_for > 0:
            self._pause(admission.closed_for)
            return False
        if admission.wait <= 0:
            self._gated_since = None
            return True
        self._put_back(attempt)
        self._patience += Patience(waits=1, seconds=admission.wait)
        self._gate_opens_at = now + admission.wait
        if self._gated_since is None:
            self._gated_since = now
        if self._gate_opens_at - self._gated_since > self._policy.max_wait_seconds:
            self._fail(complaints.limits_spent(self._host, admission.wait, self._policy.max_wait_seconds))
        return False

    def _pause(self, seconds: float) -> None:
        self._fail(complaints.paused(self._host, seconds))

    def _collect(self) -> None:
        """Wait for an answer, or for the time at which there is something to send; settle what was answered."""
        now = time.monotonic()
        pause: float | None = None
        if self._has_room() or (self._waiting and len(self._under_way) < self._pacing.limit):
            soonest = now if self._has_room() else min(attempt.not_before for attempt in self._waiting)
            pause = max(0.0, soonest - now, self._opens_at() - now)
        if not self._under_way:
            time.sleep(pause or 0.0)
            return
        if pause == float("inf"):
            pause = None
        done, _ = wait(self._under_way, timeout=pause, return_when=FIRST_COMPLETED)
        for future in done:
            self._settle(self._under_way.pop(future), future.result())

    def _settle(self, attempt: _Try, outcome: bytes | Fault) -> None:
        if self._gate_opens_at == float("inf"):
            self._gate_opens_at = float("-inf")
        if not isinstance(outcome, Fault):
            try:
                self._accept(attempt, outcome)
            except WrongDimensionsError as error:
                self._fail(complaints.wrong_dimensions(self._host, self._policy, error.dimensions))
            except UnusableAnswerError as error:
                self._again(attempt, f"answered with {error}")
        elif outcome.verdict is Verdict.WAIT:
            self._wait(attempt, outcome)
        elif outcome.verdict is Verdict.AGAIN:
            self._again(attempt, outcome.reason)
        elif outcome.verdict is Verdict.DIVIDE:
            self._gate.succeeded()  # it works: else a probe with such a text would never close the breaker
            self._divide(attempt, outcome.reason)
        elif outcome.verdict is Verdict.QUOTA:
            self._fail(complaints.quota_used_up(self._host, outcome.reason))
        else:
            self._fail(complaints.refuses_model(self._host, self._policy, outcome.reason))

    def _accept(self, attempt: _Try, body: bytes) -> None:
        positions = attempt.request.positions
        answer = read_answer(body, len(positions), self._policy.dimensions)
        self._accepted = True
        self._gate.succeeded()
        self._pacing.answered()
        usable = tuple(at for at, good in zip(positions, answer.usable, strict=True) if good)
        self._intake.forget(usable)
        self._ready.append(
            EmbeddedBatch(
                positions=usable,
                vectors=answer.vectors[answer.usable],
                tokens=attempt.request.tokens if answer.tokens is None else answer.tokens,
                seconds=time.monotonic() - attempt.sent_at,
            )
        )
        broken = tuple(at for at, good in zip(positions, answer.usable, strict=True) if not good)
        if not broken:
            return
        if attempt.number >= self._policy.attempts:
            self._intake.forget(broken)
            self._ready.append(no_vectors(self._policy.dimensions, dict.fromkeys(broken, NOT_FINITE)))
            return
        tokens = attempt.request.tokens * len(broken) // len(positions)
        self._again(replace(attempt, request=Request(positions=broken, tokens=tokens)), f"answered with {NOT_FINITE}")

    def _wait(self, attempt: _Try, fault: Fault) -> None:
        now = time.monotonic()
        self._patience += Patience(throttled=1)
        stalled = self._pacing.told_to_wait(now, attempt.sent_at, fault.retry_after)
        if stalled > self._policy.max_wait_seconds:
            seconds = max(self._pacing.resume_at - now, 1.0)
            self._fail(complaints.asks_for_patience(self._host, fault.reason, seconds))
            return
        log.info("%s: %s, waiting %.1f s", self._host, fault.reason, self._pacing.resume_at - now)
        self._put_back(replace(attempt, not_before=self._pacing.resume_at))

    def _again(self, attempt: _Try, reason: str) -> None:
        self._patience += Patience(failures=1)
        closed_for = self._gate.failed()
        if closed_for > 0:
            self._pause(closed_for)
            return
        if attempt.number >= self._policy.attempts:
            self._fail(complaints.cannot_be_used(self._host, reason, attempt.number))
            return
        delay = self._pacing.delay(attempt.number)
        log.info("%s: %s, try %d follows in %.1f s", self._host, reason, attempt.number + 1, delay)
        self._put_back(replace(attempt, number=attempt.number + 1, not_before=time.monotonic() + delay))

    def _divide(self, attempt: _Try, reason: str) -> None:
        if len(attempt.request.positions) > 1:
            for half in reversed(halves(attempt.request)):
                self._put_back(_Try(request=half))
            return
        (position,) = attempt.request.positions
        self._refused.append(position)
        self._intake.forget([position])
        self._ready.append(no_vectors(self._policy.dimensions, {position: reason}))
        if not self._accepted and len(self._refused) >= REFUSED_AT_FIRST:
            self._fail(complaints.refuses_every_text(self._host, reason, self._refused))

    def _put_back(self, attempt: _Try) -> None:
        if self._failure is None:
            self._waiting.appendleft(attempt)

    def _fail(self, error: EmbeddingError) -> None:
        """Send nothing more; the first error is the one that is raised."""
        self._waiting.clear()
        if self._failure is None:
            self._failure = error
