"""Which errors deserve another try: Gleaner's exception tree told to Airflow."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from include.gleaner import errors

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        # Asking again changes nothing: fail at the first try, whatever `retries` says.
        RetryRule(
            exception=[
                errors.RequestError,
                errors.SetupError,
                errors.ForbiddenAddressError,
                errors.RunFailedError,
                errors.EmbeddingRefusedError,
            ],
            action=RetryAction.FAIL,
        ),
        # The endpoint asks for patience.
        RetryRule(exception=errors.EmbeddingQuotaError, action=RetryAction.RETRY, retry_delay=timedelta(minutes=2)),
    ],
)
