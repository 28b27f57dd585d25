"""Sends embedding requests through the `openai` client: several at once, each with a deadline, all of them cancellable.

Requests run on an event loop in a thread of their own. A blocked thread could not be cancelled: a task that is told to
end would hang until the endpoint answers.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self

import openai

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed.faults import Fault, Verdict, of_answer
from include.gleaner.errors import EmbeddingRefusedError, EmbeddingUnavailableError

log = logging.getLogger(__name__)

_BYTES_PER_NUMBER: Final = 32  # the longest that a number takes in JSON, with room to spare
_ENVELOPE_BYTES: Final = 1 << 20
_MOST_OF_AN_ERROR: Final = 1 << 16  # bytes, decoded; no reason is longer
_THREAD: Final = "embedding-requests"
_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 5.0


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Of the client's log: it writes the whole address of each request, which may carry a password."""
    return record.threadName != _THREAD


class _ErrorAnswer(Exception):
    """The endpoint answered with an error."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.reason)


async def _raise_for_error(response: Any) -> None:
    """Called when the head of an answer is there. The client would read the body of an error whatever its length."""
    if response.is_success:
        return
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _MOST_OF_AN_ERROR:
            break
    raise _ErrorAnswer(of_answer(response.status_code, response.headers, bytes(body), time.time()))


class Transport:
    """A connection pool to one endpoint; a context manager, at whose end everything under way is cancelled."""

    def __init__(self, policy: EmbedPolicy, api_key: str) -> None:
        for name in ("httpx", "httpx2"):
            logging.getLogger(name).addFilter(_is_not_ours)
        self._policy = policy
        self._api_key = api_key
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: openai.AsyncOpenAI | None = None
        self._stop: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[bytes | Fault]] = set()
        # A daemon, so that even a client that will not close cannot keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name=_THREAD, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(_END_SECONDS)

    def send(self, texts: Sequence[str]) -> Future[bytes | Fault]:
        """Ask for the vectors of `texts`; the body of the answer, or what went wrong. The future raises nothing.

        Raises EmbeddingRefusedError at the first call when the address cannot be one.
        """
        if self._thread.ident is None:
            self._start()
        if self._loop is None or not self._thread.is_alive():
            raise EmbeddingUnavailableError("the embedding client has ended; run the task again")
        return asyncio.run_coroutine_threadsafe(self._tracked(texts), self._loop)

    def _start(self) -> None:
        self._thread.start()
        self._started.wait(_START_SECONDS)
        if self._client is None:
            raise EmbeddingRefusedError(
                "the embedding client cannot be made; correct host and password of its Airflow connection"
            )

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; `send` notices
            log.warning("the embedding client ended: %s", type(error).__name__)
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        client = openai.AsyncOpenAI(
            api_key=self._api_key or "none",  # the client insists on one; without ours, its header is left out
            base_url=self._policy.base_url,
            max_retries=0,  # its own waits end at two minutes and know nothing of the other requests
            timeout=self._policy.timeout_seconds,
            # Texts and key go to the address that was configured, and nowhere else.
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [_raise_for_error]}
            ),
        )
        self._client = client
        self._started.set()
        try:
            await self._stop.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await client.close()

    async def _tracked(self, texts: Sequence[str]) -> bytes | Fault:
        task = asyncio.ensure_future(self._post(texts))
        self._tasks.add(task)
        try:
            return await task
        finally:
            self._tasks.discard(task)

    async def _post(self, texts: Sequence[str]) -> bytes | Fault:
        try:
            # Over all of it: a server that sends a byte a second never runs into a timeout between reads.
            async with asyncio.timeout(self._policy.timeout_seconds):
                return await self._body(texts)
        except (TimeoutError, openai.APITimeoutError):
            return Fault(verdict=Verdict.AGAIN, reason=f"no answer within {self._policy.timeout_seconds:g} s")
        except _ErrorAnswer as answer:
            return answer.fault
        except openai.APIConnectionError as error:
            return Fault(verdict=Verdict.AGAIN, reason=f"no connection ({type(error.__cause__ or error).__name__})")
        except Exception as error:  # noqa: BLE001 - mostly a connection that broke within the body
            # Only the kind of error: its message may quote texts or the key.
            return Fault(verdict=Verdict.AGAIN, reason=f"the request failed ({type(error).__name__})")

    async def _body(self, texts: Sequence[str]) -> bytes | Fault:
        policy = self._policy
        assert self._client is not None  # `send` is called inside the context only
        most = len(texts) * policy.dimensions * _BYTES_PER_NUMBER + _ENVELOPE_BYTES
        # Only this family can be cut to other dimensions; other models refuse the parameter.
        cut = policy.dimensions if policy.model.startswith("text-embedding-3-") else openai.omit
        async with self._client.embeddings.with_streaming_response.create(
            model=policy.model,
            input=list(texts),
            encoding_format="base64",
            dimensions=cut,
            extra_headers=None if self._api_key else {"Authorization": openai.Omit()},
        ) as response:
            body = bytearray()
            async for piece in response.iter_bytes():
                body += piece
                if len(body) > most:
                    return Fault(verdict=Verdict.AGAIN, reason="a body that never ends")
            return bytes(body)
