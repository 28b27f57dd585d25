-- What all workers know of an embedding endpoint.

CREATE UNLOGGED TABLE gleaner.endpoint_state (
    endpoint   text        PRIMARY KEY,
    state      text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gleaner.endpoint_state IS
    'The token bucket and the circuit breaker of each embedding endpoint, for all workers and tenants. Unlogged: what a crash forgets is a pause of seconds.';
