"""Sends a call's requests, waits, retries, divides, and keeps what was paid for."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed.answers import UnusableAnswerError, WrongDimensionsError, read_answer
from include.gleaner.embed.batching import Request, halves
from include.gleaner.embed.faults import Fault, Verdict
from include.gleaner.embed.gate import Gate
from include.gleaner.embed.pacing import Pacing
from include.gleaner.embed.transport import Transport
from include.gleaner.errors import (
    EmbeddingError,
    EmbeddingPausedError,
    EmbeddingQuotaError,
    EmbeddingRefusedError,
    EmbeddingUnavailableError,
)
from include.gleaner.models import EmbeddedBatch, Patience

log = logging.getLogger(__name__)

QUOTA_RETRY_SECONDS: Final = 3_600.0  # somebody has to pay first
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
        texts: Sequence[str],
        requests: Sequence[Request],
        gate: Gate,
    ) -> None:
        self._policy = policy
        self._host = host
        self._transport = transport
        self._pacing = pacing
        self._texts = texts
        self._gate = gate
        self._gate_opens_at = float("-inf")
        self._gated_since: float | None = None  # since when nothing could be sent
        self._waiting = deque(_Try(request=request) for request in requests)
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
        while self._waiting or self._under_way:
            self._launch()
            self._collect()
            while self._ready:
                answer = self._ready.popleft()
                self._launch()  # the endpoint works while the caller stores
                answer, self._patience = replace(answer, patience=self._patience), Patience()
                yield answer
        if self._patience != Patience():
            yield replace(no_vectors(self._policy, {}), patience=self._patience)
        if self._failure is not None:
            raise self._failure

    def _launch(self) -> None:
        now = time.monotonic()
        if now < max(self._pacing.resume_at, self._gate_opens_at):
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
            future = self._transport.send([self._texts[at] for at in attempt.request.positions])
            self._under_way[future] = replace(attempt, sent_at=now)

    def _is_admitted(self, attempt: _Try, now: float) -> bool:
        """Whether the gate lets the request go; if not, it is put back, or all of them are given up."""
        admission = self._gate.admit(attempt.request.tokens)
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
            self._fail(
                EmbeddingQuotaError(
                    f"the limits of {self._host} are spent for {admission.wait:.0f} s more; "
                    "what was answered is kept, the task goes on from there when it is run again",
                    retry_after=max(admission.wait, self._policy.max_wait_seconds),
                )
            )
        return False

    def _pause(self, seconds: float) -> None:
        self._fail(
            EmbeddingPausedError(
                f"{self._host} failed again and again, nobody asks it for {seconds:.0f} s; "
                "what was answered is kept, the rest is asked for later",
                retry_after=seconds,
            )
        )

    def _collect(self) -> None:
        """Wait for an answer, or for the time at which there is something to send; settle what was answered."""
        now = time.monotonic()
        pause: float | None = None
        if self._waiting and len(self._under_way) < self._pacing.limit:
            soonest = min(attempt.not_before for attempt in self._waiting)
            pause = max(0.0, soonest - now, self._pacing.resume_at - now, self._gate_opens_at - now)
        if not self._under_way:
            time.sleep(pause or 0.0)
            return
        done, _ = wait(self._under_way, timeout=pause, return_when=FIRST_COMPLETED)
        for future in done:
            self._settle(self._under_way.pop(future), future.result())

    def _settle(self, attempt: _Try, outcome: bytes | Fault) -> None:
        if not isinstance(outcome, Fault):
            try:
                self._accept(attempt, outcome)
            except WrongDimensionsError as error:
                self._fail(
                    EmbeddingRefusedError(
                        f"{self._host} gives {error.dimensions} dimensions for {self._policy.model!r} where "
                        f"{self._policy.dimensions} are expected; correct the extra of its Airflow connection"
                    )
                )
            except UnusableAnswerError as error:
                self._again(attempt, f"answered with {error}")
        elif outcome.verdict is Verdict.WAIT:
            self._wait(attempt, outcome)
        elif outcome.verdict is Verdict.AGAIN:
            self._again(attempt, outcome.reason)
        elif outcome.verdict is Verdict.DIVIDE:
            self._divide(attempt, outcome.reason)
        elif outcome.verdict is Verdict.QUOTA:
            self._fail(
                EmbeddingQuotaError(
                    f"the quota at {self._host} is used up ({outcome.reason}); raise it, then clear the task",
                    retry_after=QUOTA_RETRY_SECONDS,
                )
            )
        else:
            self._fail(
                EmbeddingRefusedError(
                    f"{self._host} refuses model {self._policy.model!r} ({outcome.reason}); "
                    "correct key, host and model in its Airflow connection"
                )
            )

    def _accept(self, attempt: _Try, body: bytes) -> None:
        positions = attempt.request.positions
        answer = read_answer(body, len(positions), self._policy.dimensions)
        self._accepted = True
        self._gate.succeeded()
        self._pacing.answered()
        self._ready.append(
            EmbeddedBatch(
                positions=tuple(at for at, usable in zip(positions, answer.usable, strict=True) if usable),
                vectors=answer.vectors[answer.usable],
                tokens=attempt.request.tokens if answer.tokens is None else answer.tokens,
            )
        )
        broken = tuple(at for at, usable in zip(positions, answer.usable, strict=True) if not usable)
        if not broken:
            return
        if attempt.number >= self._policy.attempts:
            self._ready.append(no_vectors(self._policy, dict.fromkeys(broken, NOT_FINITE)))
            return
        tokens = attempt.request.tokens * len(broken) // len(positions)
        self._again(replace(attempt, request=Request(positions=broken, tokens=tokens)), f"answered with {NOT_FINITE}")

    def _wait(self, attempt: _Try, fault: Fault) -> None:
        now = time.monotonic()
        self._patience += Patience(throttled=1)
        stalled = self._pacing.told_to_wait(now, attempt.sent_at, fault.retry_after)
        if stalled > self._policy.max_wait_seconds:
            seconds = max(self._pacing.resume_at - now, 1.0)
            self._fail(
                EmbeddingQuotaError(
                    f"{self._host} asks for patience ({fault.reason}) for {seconds:.0f} s more; "
                    "what was answered is kept, the task goes on from there when it is run again",
                    retry_after=seconds,
                )
            )
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
            self._fail(
                EmbeddingUnavailableError(
                    f"{self._host} cannot be used ({reason}, {attempt.number} times); "
                    "what was answered is kept, the task goes on from there when it is run again"
                )
            )
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
        self._ready.append(no_vectors(self._policy, {position: reason}))
        if not self._accepted and len(self._refused) >= REFUSED_AT_FIRST:
            self._fail(
                EmbeddingRefusedError(
                    f"{self._host} refuses every text so far ({reason}); check the model in its Airflow connection",
                    positions=self._refused,
                )
            )

    def _put_back(self, attempt: _Try) -> None:
        if self._failure is None:
            self._waiting.appendleft(attempt)

    def _fail(self, error: EmbeddingError) -> None:
        """Send nothing more; the first error is the one that is raised."""
        self._waiting.clear()
        if self._failure is None:
            self._failure = error


def no_vectors(policy: EmbedPolicy, refused: Mapping[int, str]) -> EmbeddedBatch:
    """The batch that only says which positions are refused, and why."""
    nothing = np.empty((0, policy.dimensions), np.float32)
    return EmbeddedBatch(positions=(), vectors=nothing, tokens=0, refused=dict(refused))
