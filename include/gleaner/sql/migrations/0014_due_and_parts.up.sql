-- What several queries of the upkeep share is said once.

CREATE FUNCTION gleaner.is_due(attempts integer, last_at timestamptz, first_delay interval, last_attempt integer)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN attempts < last_attempt AND last_at <= now() - first_delay * power(4, attempts - 1);
COMMENT ON FUNCTION gleaner.is_due IS
    'Whether a failure that was met so often is to be tried again by itself: after the first delay, then after four times as long each time, and after the last attempt never.';

CREATE FUNCTION gleaner.in_parts(tenant_ids text[], source_ids uuid[], page_ids uuid[], size integer)
RETURNS TABLE (tenant_id text, source_id uuid, first_page uuid, last_page uuid, pages integer)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH numbered AS (
        SELECT p.tenant_id, p.source_id, p.page_id,
               (row_number() OVER (PARTITION BY p.tenant_id, p.source_id ORDER BY p.page_id) - 1) / size AS part
        FROM unnest(tenant_ids, source_ids, page_ids) AS p (tenant_id, source_id, page_id)
    )
    SELECT n.tenant_id, n.source_id, (array_agg(n.page_id ORDER BY n.page_id))[1],
           (array_agg(n.page_id ORDER BY n.page_id DESC))[1], count(*)::integer
    FROM numbered n GROUP BY n.tenant_id, n.source_id, n.part
    ORDER BY row_number() OVER (PARTITION BY n.tenant_id ORDER BY n.part, n.source_id), n.tenant_id;
END;
COMMENT ON FUNCTION gleaner.in_parts IS
    'Pages in ranges of one source each, so many at most; tenants in fair turns, so that the first range of each tenant comes before the second of any.';

REVOKE ALL ON FUNCTION gleaner.is_due, gleaner.in_parts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gleaner.is_due, gleaner.in_parts TO gleaner_reader, gleaner_writer;
