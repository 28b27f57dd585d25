"""Every error that Gleaner raises on purpose.

GleanerError
├── RequestError             what the caller asked for cannot be done: never retried
│   ├── InvalidParamError    a Param has a bad value (carries its name)
│   └── UnknownParamError    the run's conf has a key that no Param has
├── SetupError               the installation is not ready: never retried, names the command that mends it
│   ├── SchemaError          the database's schema is missing, old or changed by hand
│   │   ├── DataLossError    the way back would remove content, and nobody said that it may
│   │   └── PreflightError   what a migration needs is not there: disk, version, right or backup
│   ├── BackupError          a backup cannot be made, is damaged, or does not fit here
│   ├── ConnectionMissingError   an Airflow connection is not there
│   └── KnowledgeDamagedError    what must always be true of the tables is not
├── AirflowUnavailableError  Airflow could not be asked for a connection: try again
├── CrawlError               the crawl as a whole could not be done
│   ├── ForbiddenAddressError    an address that a tenant may not reach
│   └── StartPageError       the start page itself could not be fetched
├── ContentError             one page or chunk cannot be used: costs itself only
│   ├── UnreadablePageError  the bytes are no readable page
│   └── InvalidChunkError    a chunk that Postgres would refuse
├── EmbeddingError           the embedding endpoint or model
│   ├── EmbeddingRefusedError    the endpoint refuses an input for good (carries the positions)
│   ├── EmbeddingQuotaError      rate limit or quota: try later (carries the seconds)
│   ├── EmbeddingUnavailableError  the endpoint is down or unreachable: try again
│   └── EmbeddingPausedError     the endpoint failed for everybody: nobody asks for a while (carries the seconds)
└── RunFailedError           the run's last word: too little of what it had to do was done

Messages say what to do. They never carry credentials, cookies or page text.
"""

from __future__ import annotations

from collections.abc import Sequence


class GleanerError(Exception):
    """Base of all errors raised on purpose."""


class RequestError(GleanerError):
    """What the caller asked for cannot be done; asking again changes nothing."""


class InvalidParamError(RequestError):
    """A Param has a value that cannot be used."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(f"Param {name!r}: {problem}")


class UnknownParamError(RequestError):
    """The run's conf carries keys that are no Params of the DAG."""

    def __init__(self, names: Sequence[str], known: Sequence[str]) -> None:
        self.names = tuple(names)
        listed = ", ".join(repr(name) for name in names)
        super().__init__(f"unknown Param {listed}; this DAG takes {', '.join(sorted(known))}")


class SetupError(GleanerError):
    """The installation is not ready; the message names the command that mends it."""


class SchemaError(SetupError):
    """The schema in the database is missing, older or newer than this code, or was changed by hand."""


class DataLossError(SchemaError):
    """A rollback would remove content; nothing was changed."""


class PreflightError(SchemaError):
    """Something that a migration needs is missing; the message says what to do about each."""


class BackupError(SetupError):
    """A backup cannot be made or used; what was there before is untouched."""


class ConnectionMissingError(SetupError):
    """An Airflow connection that Gleaner needs does not exist."""


class KnowledgeDamagedError(SetupError):
    """A constraint is gone or an index is not valid; the message says what to type."""


class AirflowUnavailableError(GleanerError):
    """Airflow's API server could not say whether a connection is there, as while its database is being restarted."""


class CrawlError(GleanerError):
    """The crawl as a whole could not be done."""


class ForbiddenAddressError(CrawlError):
    """The address is not on the public internet and not allowed by the local setting."""


class StartPageError(CrawlError):
    """The start page could not be fetched, so nothing can be said about the site."""


class ContentError(GleanerError):
    """One page or chunk cannot be used; its neighbours are not touched."""


class UnreadablePageError(ContentError):
    """The stored bytes cannot be read as a page."""


class InvalidChunkError(ContentError):
    """A chunk holds what Postgres would refuse (wrong dimension, NaN, lone surrogates, ...)."""


class EmbeddingError(GleanerError):
    """Vectors could not be had."""


class EmbeddingRefusedError(EmbeddingError):
    """The endpoint refuses the request for good: key, model or inputs are wrong."""

    def __init__(self, message: str, positions: Sequence[int] = ()) -> None:
        self.positions = tuple(positions)
        super().__init__(message)


class EmbeddingQuotaError(EmbeddingError):
    """Rate limit or quota; worth another try after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 60.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class EmbeddingUnavailableError(EmbeddingError):
    """The endpoint cannot be reached or answers with a server error; worth another try."""


class EmbeddingPausedError(EmbeddingError):
    """The breaker is open: the endpoint failed again and again, so nobody asks it for `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 60.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class RunFailedError(GleanerError):
    """The run did not do what it had to; the message counts what is missing."""
