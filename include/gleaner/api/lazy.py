"""The app as the plugin registers it: imported by every process of Airflow, built by the one that serves it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class KnowledgeApp:
    """An ASGI app that imports and builds the real one at its first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app: App | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        app = self._app
        if app is None:
            app = await asyncio.to_thread(self._built)  # it takes seconds, in which Airflow goes on answering
        await app(scope, receive, send)

    def _built(self) -> App:
        with self._lock:
            if self._app is None:
                from include.gleaner.api.app import create_app

                self._app = create_app()
            return self._app
