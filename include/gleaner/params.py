"""The Params of the DAGs as JSON Schema: the form in the UI, and what the API refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from include.gleaner.config import DEFAULT_ENCODING, ENCODINGS, TENANT_PATTERN, URL_PATTERN

# For each Param: a default, and the fields of its schema. The bounds are those of `config.IngestRequest`, which checks
# again, because a run may also be started in ways that check less.
INGEST_FORM: Final[Mapping[str, Mapping[str, Any]]] = {
    "tenant": {
        "type": "string",
        "title": "Tenant",
        "description": "Whose knowledge it becomes: 1 to 63 of a-z, 0-9, '-' and '_'.",
        "pattern": TENANT_PATTERN,
        "section": "What",
    },
    "url": {
        "type": "string",
        "title": "Website",
        "description": "Where the crawl starts. Pages on the same host, below this address's folder, are in scope.",
        "format": "uri",
        "pattern": URL_PATTERN,
        "maxLength": 2_000,
        "section": "What",
    },
    "max_pages": {
        "default": 200,
        "type": "integer",
        "title": "Pages at most",
        "description": "The crawl stops after so many pages; it is then partial, and no page counts as vanished.",
        "minimum": 1,
        "maximum": 100_000,
        "section": "How far",
    },
    "max_depth": {
        "default": 10,
        "type": "integer",
        "title": "Depth at most",
        "description": "Clicks from the start page; pages of the sitemap count as one click away.",
        "minimum": 0,
        "maximum": 100,
        "section": "How far",
    },
    "include_patterns": {
        "default": [],
        "type": "array",
        "items": {"type": "string", "maxLength": 500},
        "maxItems": 50,
        "title": "Only addresses that match",
        "description": "Regular expressions, one a line, searched in the address. Empty: everything in scope.",
        "section": "How far",
    },
    "exclude_patterns": {
        "default": [],
        "type": "array",
        "items": {"type": "string", "maxLength": 500},
        "maxItems": 50,
        "title": "Not addresses that match",
        "description": "Regular expressions, one a line. They win over the ones above.",
        "section": "How far",
    },
    "delay_seconds": {
        "default": 0.5,
        "type": "number",
        "title": "Seconds between requests",
        "description": "To one host. The site's own Crawl-delay can only make it longer.",
        "minimum": 0,
        "maximum": 60,
        "section": "How",
    },
    "batch_size": {
        "default": 50,
        "type": "integer",
        "title": "Pages per batch",
        "description": "At most so many pages are one mapped task. Grows when a site would need over 1,000 tasks.",
        "minimum": 1,
        "maximum": 500,
        "section": "How",
    },
    "chunk_tokens": {
        "default": 500,
        "type": "integer",
        "title": "Tokens per chunk",
        "description": "At most, breadcrumb included. Another value embeds the whole site again.",
        "minimum": 64,
        "maximum": 2_000,
        "section": "How",
    },
    "chunk_overlap": {
        "default": 0,
        "type": "integer",
        "title": "Overlap in per cent",
        "description": "Of a chunk, in whole sentences that it shares with the one before.",
        "minimum": 0,
        "maximum": 25,
        "section": "How",
    },
    "chunk_encoding": {
        "default": DEFAULT_ENCODING,
        "type": "string",
        "enum": list(ENCODINGS),
        "title": "Encoding",
        "description": "Whose tokens are counted. Others than cl100k_base need their ranks in TIKTOKEN_CACHE_DIR.",
        "section": "How",
    },
    "embed_tldr": {
        "default": False,
        "type": "boolean",
        "title": "Embed gists",
        "description": "Gives the gist of each long chunk a vector of its own: found better, paid for once more.",
        "section": "How",
    },
    "dry_run": {
        "default": False,
        "type": "boolean",
        "title": "Dry run",
        "description": "Fetches and counts what would be stored and what it would cost. Embeds and loads nothing.",
        "section": "What",
    },
    "max_delete_share": {
        "default": 0.3,
        "type": "number",
        "title": "Share that may go at once",
        "description": "Of the loaded pages. When more seem gone, nothing is deleted and the log says so.",
        "minimum": 0,
        "maximum": 1,
        "section": "How",
    },
}
