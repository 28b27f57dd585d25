"""The batches of rebuilds and of maintenance."""

from __future__ import annotations

import uuid

from include.gleaner.models import Batch
from include.gleaner.pipeline import rework


def test_many_small_websites_share_a_batch_and_no_run_has_too_many() -> None:
    def parts(count: int, pages: int) -> list[rework.Part]:
        batch = Batch(index=1, of=0, first_page=uuid.UUID(int=1), last_page=uuid.UUID(int=2), pages=pages)
        return [
            rework.Part(tenant_id=f"t{number}", source_id=uuid.UUID(int=number), job_id=number, batch=batch)
            for number in range(count)
        ]

    assert rework.to_batches([]) == []
    (only,) = rework.to_batches(parts(10, 5))
    assert only["label"] == "batch 1/1 · t0 and 9 more · 50 pages"
    assert [len(batch["parts"]) for batch in rework.to_batches(parts(30, 5))] == [10, 10, 10]
    many = rework.to_batches(parts(5_000, 50))
    assert len(many) <= 1_000
    assert [part["tenant"] for batch in many for part in batch["parts"]] == [f"t{number}" for number in range(5_000)]
