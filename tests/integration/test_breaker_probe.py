"""A probe that is answered with anything but a failure shows that the endpoint works."""

from __future__ import annotations

from include.gleaner import pipeline
from tests.support.rework import end_of_pause, without_vectors
from tests.support.tenant import Tenant


def test_a_probe_with_a_text_that_is_refused_closes_the_breaker(tenant: Tenant) -> None:
    without_vectors(tenant)
    end_of_pause(tenant)
    ((text,),) = tenant.rows("SELECT full_text FROM gleaner.tenant_knowledge ORDER BY source_id LIMIT 1")
    tenant.endpoint.configure(refuse_marker=text)
    (batch,) = pipeline.find_missing_vectors()
    done = pipeline.fill_vectors(batch, 1)
    assert (done["paused"], done["embedded"]) == (0, 4)
    found = tenant.rows("SELECT reason FROM gleaner.dead_letter WHERE stage = 'embed' AND resolved_at IS NULL")
    assert found == [("HTTP 400 invalid_request_error invalid_input",)]
    assert pipeline.find_missing_vectors() == []
