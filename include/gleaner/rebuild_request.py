"""One run of rebuild_knowledge, as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from include.gleaner import param_checks
from include.gleaner.errors import InvalidParamError, UnknownParamError

STAGES: Final = ("process", "chunk", "embed")  # from which one on the pages are done again
REBUILD_PARAMS: Final = frozenset({"tenant", "stage", "model", "dimensions", "since", "until", "dry_run"})


@dataclass(frozen=True, kw_only=True)
class RebuildRequest:
    """Which stored pages are done again, and how far back."""

    since: datetime  # of the fetch that brought the page's newest content
    until: datetime  # exclusive
    tenant_id: str | None = None  # None: all of them
    stage: str = "process"
    model: str | None = None  # None: that of the connection
    dimensions: int | None = None
    dry_run: bool = False

    @classmethod
    def from_params(cls, params: Mapping[str, Any], interval: tuple[datetime | None, datetime | None]) -> Self:
        """The request that the Params describe, for the run's data interval where they name no time themselves.

        Raises InvalidParamError or UnknownParamError, naming the Param.
        """
        if unknown := sorted(set(params) - REBUILD_PARAMS):
            raise UnknownParamError(unknown, sorted(REBUILD_PARAMS))
        since, until = param_checks.moment(params, "since"), param_checks.moment(params, "until")
        if (since is None) != (until is None):
            raise InvalidParamError("until" if until is None else "since", "needs a time, as the other end has one")
        if since is None or until is None:
            since, until = interval
        if since is None or until is None or since >= until:
            raise InvalidParamError(
                "since", "a run without a data interval needs since and until, the earlier one first; or use a backfill"
            )
        model = params.get("model")
        if model is not None and (
            not isinstance(model, str) or len(model) > 200 or (model and not model.strip())
            or not param_checks.can_be_stored(model)
        ):  # fmt: skip
            raise InvalidParamError("model", "needs the name of an embedding model, or nothing")
        return cls(
            since=since,
            until=until,
            tenant_id=None if params.get("tenant") in (None, "") else param_checks.tenant(params),
            stage=param_checks.one_of(params, "stage", STAGES),
            model=model or None,
            dimensions=param_checks.integer(params, "dimensions", 0, 0, 16_000) or None,
            dry_run=param_checks.flag(params, "dry_run"),
        )
