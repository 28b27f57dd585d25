"""Long answers that no reader can hold on to: one that stops reading is cut off, and what it held is free again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import anyio
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

SECONDS_A_BLOCK: Final = 60.0  # that a reader may take


class HeldStream(StreamingResponse):
    """Blocks of bytes, made in threads; `held` is closed when all are sent, or the reader is gone or too slow."""

    def __init__(self, blocks: Iterator[bytes], held: ExitStack, *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(blocks, media_type=media_type, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._held.close)

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Message) -> None:
            with anyio.fail_after(SECONDS_A_BLOCK):
                await send(message)

        await super().stream_response(in_time)
