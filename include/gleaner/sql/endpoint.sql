-- Queries of what all workers know of an embedding endpoint. An endpoint belongs to no tenant; its limits are for all.

-- settle --
-- What a crash of the server forgets is a pause of seconds: nothing here waits for the disk.
SELECT set_config('synchronous_commit', 'off', true)

-- lock --
SELECT state FROM gleaner.endpoint_state WHERE endpoint = %(endpoint)s FOR UPDATE

-- create --
INSERT INTO gleaner.endpoint_state (endpoint, state) VALUES (%(endpoint)s, '') ON CONFLICT (endpoint) DO NOTHING

-- now --
SELECT extract(epoch FROM clock_timestamp())::float8

-- store --
UPDATE gleaner.endpoint_state SET state = %(state)s, updated_at = clock_timestamp() WHERE endpoint = %(endpoint)s

-- forget_tenant --
-- What the shared limits remember of one tenant's turns.
UPDATE gleaner.endpoint_state SET state = (state::jsonb #- ARRAY['bucket', 'tenants', %(tenant_id)s::text])::text
WHERE CASE WHEN state LIKE '{%%' THEN state::jsonb #> '{bucket,tenants}' ? %(tenant_id)s::text END

-- known --
-- Endpoints that were asked of late, the newest first, and what time it is.
SELECT endpoint, state, extract(epoch FROM clock_timestamp())::float8 FROM gleaner.endpoint_state
WHERE updated_at > now() - interval '7 days' ORDER BY updated_at DESC LIMIT %(most)s
