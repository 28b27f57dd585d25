"""The records that travel between the stages. Frozen, keyword-only, no behaviour beyond identity.

Ids are derived, never drawn: the same tenant, source and URL give the same ids on every machine and in every run.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

ChunkType = Literal["website", "faq", "product", "manual"]
BlockKind = Literal["paragraph", "list", "table", "code", "quote", "definition"]

_NAMESPACE = uuid.UUID("6f9f6c0e-3f0a-5d5e-9a53-0d0f7c1b8a11")


def source_id_of(tenant_id: str, root_url: str) -> uuid.UUID:
    """Id of a tenant's website; `root_url` is canonical."""
    return uuid.uuid5(_NAMESPACE, f"{tenant_id}\n{root_url}")


def page_id_of(tenant_id: str, source_id: uuid.UUID, url: str) -> uuid.UUID:
    """Id of one page of a source; `url` is canonical."""
    return uuid.uuid5(_NAMESPACE, f"{tenant_id}\n{source_id}\n{url}")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The stored bytes of one fetch of one page."""

    page_id: uuid.UUID
    url: str
    generation: int  # drawn from a sequence when the bytes were fetched; newer is larger
    body: bytes  # as sent by the server, content encoding undone
    content_type: str  # the Content-Type header, whole; "" when the server sent none


@dataclass(frozen=True, kw_only=True)
class Block:
    """A run of main content that is read as one: a paragraph, a list, a table, ..."""

    kind: BlockKind
    text: str  # display text; lists as "- item" lines, tables as Markdown rows, code verbatim
    language: str | None = None  # of code that names it; ISO 639 of a long text in another language than the page's


@dataclass(frozen=True, kw_only=True)
class Section:
    """Content below one heading, up to the next heading of any level."""

    path: tuple[str, ...]  # headings from the top down to this one; () before the first heading
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A record the page publishes as structured data: a question with its answer, or a product with its offer."""

    kind: Literal["faq", "product"]
    title: str  # the question, or the product's name
    text: str  # the whole record as readable text
    data: Mapping[str, Any]  # plain JSON values: price, currency, availability, sku, ...


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a page says, without what surrounds it."""

    title: str
    language: str  # ISO 639, "und" when it cannot be told
    sections: tuple[Section, ...]
    facts: tuple[Fact, ...] = ()
    description: str = ""
    word_count: int = 0
    content_hash: bytes = b""  # SHA-256 over everything above; equal hash, equal document
    metadata: Mapping[str, Any] = field(default_factory=dict)  # canonical, dates, author: plain JSON values


@dataclass(frozen=True, kw_only=True)
class NotContent:
    """The verdict that a page holds nothing worth storing, with the reason."""

    reason: str  # one of process.rules.REASONS, e.g. "empty", "soft_404"
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One piece of a document, the unit of search."""

    chunk_type: ChunkType
    chunk_index: int  # 0, 1, 2, ... within its page and type
    section_title: str  # breadcrumb "Title > Heading > Heading"
    full_text: str  # display text
    embedded_text: str  # what the vector stands for: short breadcrumb, blank line, full_text
    search_text: str  # folded for lexical search
    language: str
    token_count: int  # tokens of embedded_text in the budget's encoding
    word_count: int
    tldr: str | None = None  # its gist, in sentences of full_text
    embedded_tldr: str | None = None  # what the gist's own vector stands for, if it is to have one
    metadata: Mapping[str, Any] = field(default_factory=dict)  # page_url, headings, fact data: plain JSON values


@dataclass(frozen=True, kw_only=True)
class TokenLimit:
    """What a model itself can take in at once."""

    count: Callable[[str], int]  # tokens of a text by the model's own tokenizer
    most: int


@dataclass(frozen=True, kw_only=True)
class TextGroup:
    """Texts that are to be embedded; may be empty."""

    texts: Sequence[str]
    token_counts: Sequence[int] | None = None  # by the model's tokenizer, one for each text


@dataclass(frozen=True, kw_only=True)
class Patience:
    """What it took to get an answer of the endpoint."""

    throttled: int = 0  # requests that were answered with 429, or asked to be sent later
    failures: int = 0  # requests that failed by the endpoint's fault
    waits: int = 0  # for a turn under the shared limits
    seconds: float = 0.0  # of these waits together

    def __add__(self, other: Patience) -> Patience:
        return Patience(
            throttled=self.throttled + other.throttled,
            failures=self.failures + other.failures,
            waits=self.waits + other.waits,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class EmbeddedBatch:
    """The answer to one embedding request: vectors for the inputs at `positions`, in that order."""

    positions: tuple[int, ...]  # into the sequence of texts that was asked for
    vectors: Vectors  # shape (len(positions), dimensions), float32
    tokens: int  # as billed by the endpoint; counted by the model's tokenizer when local
    refused: Mapping[int, str] = field(default_factory=dict)  # position -> the server's reason
    patience: Patience = Patience()  # since the answer before
    seconds: float = 0.0  # from the request to its answer; 0 when there was none


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an answer of the endpoint cost."""

    requests: int
    inputs: int
    tokens: int  # as billed


@dataclass(frozen=True, kw_only=True)
class PageChunks:
    """The whole set of chunks of one page for one model, ready to be loaded."""

    page_id: uuid.UUID
    generation: int
    fingerprint: str  # of the policies that made the set
    chunks: tuple[Chunk, ...]
    vectors: tuple[bytes | None, ...]  # per chunk: float32 little-endian, or None when there is no vector (yet)
    tldr_vectors: tuple[bytes | None, ...] = ()  # the same of the chunks' gists; empty when no chunk has one


@dataclass(frozen=True, kw_only=True)
class LoadCounts:
    """What the database says that a load did, in rows of tenant_knowledge."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    stale_pages: int = 0  # pages whose newer content was there already; nothing of them was written

    def __add__(self, other: LoadCounts) -> LoadCounts:
        return LoadCounts(
            created=self.created + other.created,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            deleted=self.deleted + other.deleted,
            stale_pages=self.stale_pages + other.stale_pages,
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A slice of a source's pages, by page id: what one mapped task works on.

    A range instead of a list keeps XCom small, and a retry finds by itself what is left to do in it.
    """

    index: int  # 1-based
    of: int
    first_page: uuid.UUID
    last_page: uuid.UUID  # inclusive
    pages: int

    @property
    def label(self) -> str:
        return f"batch {self.index}/{self.of} · {self.pages} pages"
