from __future__ import annotations

import pytest

from include.gleaner.embed.faults import Verdict, of_status, retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("status", "headers", "code", "param", "verdict"),
    [
        (429, {}, "rate_limit_exceeded", None, Verdict.WAIT),
        (429, {}, "insufficient_quota", None, Verdict.QUOTA),
        (403, {}, "billing_not_active", None, Verdict.QUOTA),
        (503, {"retry-after": "3"}, None, None, Verdict.WAIT),
        (503, {}, None, None, Verdict.AGAIN),
        (500, {}, None, None, Verdict.AGAIN),
        (529, {}, None, None, Verdict.AGAIN),
        (408, {}, None, None, Verdict.AGAIN),
        (400, {}, None, None, Verdict.DIVIDE),
        (400, {}, ["a", "list"], {"an": "object"}, Verdict.DIVIDE),
        (413, {}, None, None, Verdict.DIVIDE),
        (422, {}, "invalid_input", "input", Verdict.DIVIDE),
        (400, {}, None, "dimensions", Verdict.REFUSED),
        (400, {}, "model_not_found", None, Verdict.REFUSED),
        (401, {}, "invalid_api_key", None, Verdict.REFUSED),
        (403, {}, None, None, Verdict.REFUSED),
        (404, {}, "model_not_found", None, Verdict.REFUSED),
        (307, {}, None, None, Verdict.REFUSED),
        (405, {}, None, None, Verdict.REFUSED),
    ],
)
def test_verdicts(status: int, headers: dict[str, str], code: object, param: object, verdict: Verdict) -> None:
    fault = of_status(status, headers, code, "invalid_request_error", param, NOW)
    assert fault.verdict is verdict
    assert fault.reason.startswith(f"HTTP {status}")


@pytest.mark.parametrize("code", ["sk-abc_def", "Private words", "x" * 60, "a1", "two words", "", None, 7])
def test_only_what_looks_like_a_code_is_quoted(code: object) -> None:
    assert of_status(400, {}, code, code, None, NOW).reason == "HTTP 400"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),  # past
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT", "date": "Tue, 14 Nov 2023 21:59:00 GMT"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "now"}, 60.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Tue, 99 Nov 2023 22:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds
