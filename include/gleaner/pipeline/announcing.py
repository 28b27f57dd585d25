"""What a run over many websites tells those who wait for a tenant: which website fed the table with how many rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from include.gleaner.pipeline.batches import BatchData
from include.gleaner.rebuild_request import RebuildRequest

MOST_WEBSITES: Final = 100  # with an announcement each; of more, one for each tenant: Airflow stores them with the task
WORK: Final = ("chunks", "embedded", "reused", "requests", "tokens", "created", "updated", "unchanged", "deleted",
               "stale_pages")  # fmt: skip
GAP: Final = ("pages_not_chunked", "chunks_without_vector", "unexplained")
NEVER: Final = "infinity"


def rebuilt_websites(
    params: Mapping[str, Any], run_id: str, interval: tuple[datetime | None, datetime | None]
) -> list[dict[str, Any]]:
    """What a run of rebuild_knowledge wrote, one dict for each website that it changed; none after a dry run.

    Each has what a report of `ingest_website` has of it: `tenant`, `source`, `model`, `work`, `cost`, `gap`, and
    `retired`. Where more than MOST_WEBSITES changed, there is one dict for each tenant: `source` is None then, and
    `websites` says how many they are.
    """
    request = RebuildRequest.from_params(params, interval)
    if request.dry_run:
        return []
    from include.gleaner.pipeline.connections import knowledge_connection
    from include.gleaner.sql import queries

    own = f"rebuild:{run_id}"
    with knowledge_connection() as conn:
        jobs = conn.execute(
            queries("rebuild")["jobs_of_run"], {"run_id": own, "kind": "rebuild", "tenant_id": request.tenant_id}
        ).fetchall()
    sources = [(tenant_id, str(source_id)) for tenant_id, source_id, _ in jobs]
    return _written(sources, own, NEVER, (request.model, request.dimensions))


def maintained_websites(
    filled: Sequence[BatchData] | None, mended: Sequence[BatchData] | None, run_id: str, since: datetime
) -> list[dict[str, Any]]:
    """What a run of maintain_knowledge wrote since it began, as `rebuilt_websites` tells it.

    `filled` and `mended` are the batches that were found, None where none could be looked for.
    """
    found = [(batch["tenant"], batch["source"]) for batch in filled or ()]
    found += [(part["tenant"], part["source"]) for batch in mended or () for part in batch["parts"]]
    return _written(found, f"mend:{run_id}", since, (None, None))


def _written(
    sources: Sequence[tuple[str, str]], run_id: str, since: datetime | str, model: tuple[str | None, int | None]
) -> list[dict[str, Any]]:
    if not sources:
        return []
    from include.gleaner.pipeline.connections import embedding, knowledge_connection
    from include.gleaner.sql import queries

    policy, _ = embedding(*model)
    with knowledge_connection() as conn:
        key = {
            "tenant_id": None, "run_id": run_id, "since": since, "tenant_ids": [tenant for tenant, _ in sources],
            "source_ids": [source for _, source in sources],
        }  # fmt: skip
        found = []
        for tenant_id, source_id, root_url, *counts, retired in conn.execute(queries("announce")["written"], key):
            website = {"tenant": tenant_id, "source": root_url, "model": policy.model, "websites": 1}
            gap = conn.execute(
                queries("reconcile")["gap"], {"tenant_id": tenant_id, "source_id": source_id, "model": policy.model}
            ).fetchone()
            found.append({
                **website, "work": dict(zip(WORK, counts, strict=True)), "retired": retired,
                "gap": dict(zip(GAP, gap or (0, 0, 0), strict=True)),
            })  # fmt: skip
    told = found if len(found) <= MOST_WEBSITES else by_tenant(found)
    for each in told:
        tokens = each["work"]["tokens"]
        each["cost"] = None if policy.price is None else round(tokens * policy.price / 1_000_000, 6)
    return told


def by_tenant(websites: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sums of each tenant's websites, in the order of the tenants."""
    told: dict[str, dict[str, Any]] = {}
    for one in websites:
        known = told.get(one["tenant"])
        if known is None:
            told[one["tenant"]] = {**one, "source": None, "work": dict(one["work"]), "gap": dict(one["gap"])}
            continue
        known["websites"] += one["websites"]
        known["retired"] += one["retired"]
        for sums in ("work", "gap"):
            for name, count in one[sums].items():
                known[sums][name] += count
    return list(told.values())
