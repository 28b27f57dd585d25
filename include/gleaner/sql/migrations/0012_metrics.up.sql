-- What /gleaner/metrics tells, kept up by the database itself: in the transaction of each change, whoever makes it.

ALTER TABLE gleaner.batch_report
    ADD COLUMN throttled         integer          NOT NULL DEFAULT 0,
    ADD COLUMN endpoint_failures integer          NOT NULL DEFAULT 0,
    ADD COLUMN limiter_waits     integer          NOT NULL DEFAULT 0,
    ADD COLUMN limiter_seconds   double precision NOT NULL DEFAULT 0;
COMMENT ON COLUMN gleaner.batch_report.throttled IS 'Requests that the endpoint answered with 429, or asked to be sent later.';
COMMENT ON COLUMN gleaner.batch_report.limiter_waits IS 'Times that requests waited for a turn under the shared limits; limiter_seconds: how long together.';

CREATE TABLE gleaner.metric_total (
    tenant_id text             NOT NULL,
    source_id uuid             NOT NULL,
    name      text             NOT NULL,
    label     text             NOT NULL,
    amount    double precision NOT NULL,
    PRIMARY KEY (tenant_id, source_id, name, label)
);
COMMENT ON TABLE gleaner.metric_total IS
    'Numbers that would take a look at every row: with metric_change they are exact. Those of no tenant have an empty tenant_id, those of no source a source_id of zeros.';

CREATE TABLE gleaner.metric_change (
    change_id bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text             NOT NULL,
    source_id uuid             NOT NULL,
    name      text             NOT NULL,
    label     text             NOT NULL,
    amount    double precision NOT NULL
);
COMMENT ON TABLE gleaner.metric_change IS
    'What changed since it was last added to metric_total: rows that are only added, so that nobody waits for anybody.';
ALTER TABLE gleaner.metric_change SET (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE gleaner.knowledge_check (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    checked_at timestamptz NOT NULL,
    report     jsonb       NOT NULL
);
COMMENT ON TABLE gleaner.knowledge_check IS 'What maintain_knowledge found when it last looked over the knowledge.';

CREATE FUNCTION gleaner.fold_metrics() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE folded bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('gleaner.metric_change', 0)) THEN
        RETURN 0; -- another one is at it
    END IF;
    WITH gone AS (
        DELETE FROM gleaner.metric_change RETURNING tenant_id, source_id, name, label, amount
    ), added AS (
        INSERT INTO gleaner.metric_total AS t (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, name, label, sum(amount) FROM gone GROUP BY tenant_id, source_id, name, label
        ON CONFLICT (tenant_id, source_id, name, label) DO UPDATE SET amount = t.amount + excluded.amount
    )
    SELECT count(*) INTO folded FROM gone;
    DELETE FROM gleaner.metric_total WHERE tenant_id <> '' AND amount = 0;
    RETURN folded;
END $$;
COMMENT ON FUNCTION gleaner.fold_metrics IS 'Adds metric_change up into metric_total; how many rows that were. Changes no number: what is read is always the sum of both.';

CREATE FUNCTION gleaner.duration_bucket(seconds double precision) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT min(bound)::text FROM unnest(ARRAY[1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400])
                     AS bound WHERE seconds <= bound), '+Inf')
$$;
COMMENT ON FUNCTION gleaner.duration_bucket IS 'The bucket of a histogram of durations, by its upper bound in seconds.';

CREATE FUNCTION gleaner.count_duration(name text, label text, seconds double precision) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    VALUES ('', '00000000-0000-0000-0000-000000000000', name || '_bucket', label || '/' || gleaner.duration_bucket(seconds), 1),
           ('', '00000000-0000-0000-0000-000000000000', name || '_sum', label, greatest(seconds, 0))
$$;

CREATE FUNCTION gleaner.count_pages() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, 'pages', state, count(*) FROM new_rows GROUP BY tenant_id, source_id, state
        UNION ALL
        SELECT '', '00000000-0000-0000-0000-000000000000', 'page_transitions', state, count(*) FROM new_rows GROUP BY state;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, 'pages', state, -count(*) FROM old_rows GROUP BY tenant_id, source_id, state;
    ELSE
        WITH moved AS MATERIALIZED (
            SELECT n.tenant_id, n.source_id, o.state AS was, n.state AS is_now, count(*) AS pages
            FROM old_rows o JOIN new_rows n ON n.tenant_id = o.tenant_id AND n.page_id = o.page_id
            WHERE o.state <> n.state
            GROUP BY n.tenant_id, n.source_id, o.state, n.state
        )
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, source_id, 'pages', was, -pages FROM moved
        UNION ALL SELECT tenant_id, source_id, 'pages', is_now, pages FROM moved
        UNION ALL SELECT '', '00000000-0000-0000-0000-000000000000', 'page_transitions', is_now, pages FROM moved;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_chunks() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks', embedding_model, -sum(chunk_count)
        FROM old_rows GROUP BY tenant_id, embedding_model HAVING sum(chunk_count) <> 0;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks', embedding_model, sum(chunk_count)
        FROM new_rows GROUP BY tenant_id, embedding_model HAVING sum(chunk_count) <> 0;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_missing_vector() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE row_of record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
        is_missing boolean := TG_OP <> 'DELETE' AND (
            row_of.embedding IS NULL OR (row_of.tldr_hash IS NOT NULL AND row_of.tldr_embedding IS NULL));
BEGIN
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    VALUES (row_of.tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks_without_vector', row_of.embedding_model,
            CASE WHEN is_missing THEN 1 ELSE -1 END);
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.dead_letter_label(stage text, reason text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT stage || '/' || CASE WHEN stage = 'embed' THEN 'refused'
        ELSE left(regexp_replace(split_part(reason, ':', 1), '[^A-Za-z0-9_]+', '_', 'g'), 40) END
$$;
COMMENT ON FUNCTION gleaner.dead_letter_label IS 'Stage and kind of a failure, without what differs from page to page. What an endpoint says of a text is its own words.';

CREATE FUNCTION gleaner.count_dead_letter() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.resolved_at IS NULL) = (NEW.resolved_at IS NULL) AND OLD.reason = NEW.reason THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' AND OLD.resolved_at IS NULL THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        VALUES (OLD.tenant_id, '00000000-0000-0000-0000-000000000000', 'dead_letters', gleaner.dead_letter_label(OLD.stage, OLD.reason), -1);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.resolved_at IS NULL THEN
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        VALUES (NEW.tenant_id, '00000000-0000-0000-0000-000000000000', 'dead_letters', gleaner.dead_letter_label(NEW.stage, NEW.reason), 1);
    END IF;
    RETURN NULL;
END $$;

-- Counters only grow: a row of maintenance that begins anew takes nothing back.
CREATE FUNCTION gleaner.count_batch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE was gleaner.batch_report;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := OLD;
    END IF;
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    SELECT '', '00000000-0000-0000-0000-000000000000', name, label, is_now - was_before FROM (VALUES
        ('chunk_writes', 'created', NEW.created::float8, coalesce(was.created, 0)::float8),
        ('chunk_writes', 'updated', NEW.updated, coalesce(was.updated, 0)),
        ('chunk_writes', 'unchanged', NEW.unchanged, coalesce(was.unchanged, 0)),
        ('chunk_writes', 'deleted', NEW.deleted, coalesce(was.deleted, 0)),
        ('vectors_reused', '', NEW.reused, coalesce(was.reused, 0)),
        ('texts_postponed', 'quota', NEW.withheld, coalesce(was.withheld, 0)),
        ('texts_postponed', 'breaker', NEW.paused, coalesce(was.paused, 0)),
        ('stale_pages', '', NEW.stale_pages, coalesce(was.stale_pages, 0)),
        ('endpoint_throttled', '', NEW.throttled, coalesce(was.throttled, 0)),
        ('endpoint_failures', '', NEW.endpoint_failures, coalesce(was.endpoint_failures, 0)),
        ('limiter_waits', '', NEW.limiter_waits, coalesce(was.limiter_waits, 0)),
        ('limiter_wait_seconds', '', NEW.limiter_seconds, coalesce(was.limiter_seconds, 0))
    ) AS found (name, label, is_now, was_before) WHERE is_now > was_before;
    IF NEW.finished_at IS NOT NULL AND was.finished_at IS NULL THEN
        PERFORM gleaner.count_duration('stage_seconds', NEW.stage, extract(epoch FROM NEW.finished_at - NEW.started_at)::float8);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.crawled_at IS NULL AND NEW.crawled_at IS NOT NULL THEN
        PERFORM gleaner.count_duration('stage_seconds', 'crawl', extract(epoch FROM NEW.crawled_at - NEW.started_at)::float8);
    END IF;
    IF OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL THEN
        PERFORM gleaner.count_duration('run_seconds', NEW.kind, extract(epoch FROM NEW.finished_at - NEW.started_at)::float8);
        INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
        VALUES ('', '00000000-0000-0000-0000-000000000000', 'runs', NEW.kind || '/' || NEW.state, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.count_usage() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE was gleaner.embedding_usage;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := OLD;
    END IF;
    INSERT INTO gleaner.metric_change (tenant_id, source_id, name, label, amount)
    SELECT '', '00000000-0000-0000-0000-000000000000', name, NEW.embedding_model, more FROM (VALUES
        ('embedding_requests', NEW.requests - coalesce(was.requests, 0)),
        ('embedding_inputs', NEW.inputs - coalesce(was.inputs, 0)),
        ('embedding_tokens', NEW.tokens - coalesce(was.tokens, 0))
    ) AS found (name, more) WHERE more > 0;
    RETURN NULL;
END $$;

CREATE FUNCTION gleaner.recount_metrics() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('gleaner.metric_change', 0)); -- nobody adds up meanwhile
    -- One statement sees one moment: rows with the changes that led to them, and of later ones neither.
    WITH gone AS (
        DELETE FROM gleaner.metric_change
        WHERE name IN ('pages', 'chunks', 'chunks_without_vector', 'dead_letters') RETURNING tenant_id, source_id, name, label
    ), counted AS (
        SELECT tenant_id, source_id, 'pages' AS name, state AS label, count(*)::float8 AS amount FROM gleaner.website_page GROUP BY tenant_id, source_id, state
        UNION ALL
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks', embedding_model, sum(chunk_count)
        FROM gleaner.knowledge_generation GROUP BY tenant_id, embedding_model HAVING sum(chunk_count) <> 0
        UNION ALL
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'chunks_without_vector', embedding_model, count(*)
        FROM gleaner.tenant_knowledge WHERE embedding IS NULL OR (tldr_hash IS NOT NULL AND tldr_embedding IS NULL)
        GROUP BY tenant_id, embedding_model
        UNION ALL
        SELECT tenant_id, '00000000-0000-0000-0000-000000000000', 'dead_letters', gleaner.dead_letter_label(stage, reason), count(*)
        FROM gleaner.dead_letter WHERE resolved_at IS NULL GROUP BY tenant_id, gleaner.dead_letter_label(stage, reason)
    ), known AS (
        SELECT tenant_id, source_id, name, label FROM gleaner.metric_total
        WHERE name IN ('pages', 'chunks', 'chunks_without_vector', 'dead_letters')
    )
    INSERT INTO gleaner.metric_total AS t (tenant_id, source_id, name, label, amount)
    SELECT tenant_id, source_id, name, label, coalesce(c.amount, 0)
    FROM counted c FULL JOIN known k USING (tenant_id, source_id, name, label)
    ON CONFLICT (tenant_id, source_id, name, label) DO UPDATE SET amount = excluded.amount;
END $$;
COMMENT ON FUNCTION gleaner.recount_metrics IS 'Counts anew what is there, row by row, while everybody goes on. Counters stay as they are.';

-- From here on every change is counted.
CREATE TRIGGER count_inserted AFTER INSERT ON gleaner.website_page
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_pages();
CREATE TRIGGER count_updated AFTER UPDATE ON gleaner.website_page
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_pages();
CREATE TRIGGER count_deleted AFTER DELETE ON gleaner.website_page
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_pages();
CREATE TRIGGER count_inserted AFTER INSERT ON gleaner.knowledge_generation
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_chunks();
CREATE TRIGGER count_updated AFTER UPDATE ON gleaner.knowledge_generation
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_chunks();
CREATE TRIGGER count_deleted AFTER DELETE ON gleaner.knowledge_generation
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION gleaner.count_chunks();
CREATE TRIGGER count_inserted AFTER INSERT ON gleaner.tenant_knowledge FOR EACH ROW
    WHEN (NEW.embedding IS NULL OR (NEW.tldr_hash IS NOT NULL AND NEW.tldr_embedding IS NULL))
    EXECUTE FUNCTION gleaner.count_missing_vector();
CREATE TRIGGER count_updated AFTER UPDATE ON gleaner.tenant_knowledge FOR EACH ROW
    WHEN ((OLD.embedding IS NULL OR (OLD.tldr_hash IS NOT NULL AND OLD.tldr_embedding IS NULL))
          <> (NEW.embedding IS NULL OR (NEW.tldr_hash IS NOT NULL AND NEW.tldr_embedding IS NULL)))
    EXECUTE FUNCTION gleaner.count_missing_vector();
CREATE TRIGGER count_deleted AFTER DELETE ON gleaner.tenant_knowledge FOR EACH ROW
    WHEN (OLD.embedding IS NULL OR (OLD.tldr_hash IS NOT NULL AND OLD.tldr_embedding IS NULL))
    EXECUTE FUNCTION gleaner.count_missing_vector();
CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON gleaner.dead_letter
    FOR EACH ROW EXECUTE FUNCTION gleaner.count_dead_letter();
CREATE TRIGGER count_change AFTER INSERT OR UPDATE ON gleaner.batch_report
    FOR EACH ROW WHEN (NEW.stage <> 'estimate') EXECUTE FUNCTION gleaner.count_batch();
CREATE TRIGGER count_change AFTER UPDATE ON gleaner.crawl_job FOR EACH ROW
    WHEN (OLD.crawled_at IS NULL AND NEW.crawled_at IS NOT NULL OR OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION gleaner.count_job();
CREATE TRIGGER count_change AFTER INSERT OR UPDATE ON gleaner.embedding_usage
    FOR EACH ROW EXECUTE FUNCTION gleaner.count_usage();

SELECT gleaner.recount_metrics();

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['metric_total', 'metric_change'] LOOP
        EXECUTE format('ALTER TABLE gleaner.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY one_tenant ON gleaner.%I FOR SELECT TO gleaner_reader '
                       'USING (tenant_id = (SELECT gleaner.readable_tenant()))', name);
        EXECUTE format('CREATE POLICY every_tenant ON gleaner.%I TO gleaner_writer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT ON gleaner.%I TO gleaner_reader', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON gleaner.metric_total, gleaner.metric_change, gleaner.knowledge_check TO gleaner_writer;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA gleaner TO gleaner_writer;
REVOKE ALL ON FUNCTION gleaner.fold_metrics, gleaner.recount_metrics, gleaner.duration_bucket, gleaner.count_duration, gleaner.count_pages,
    gleaner.count_chunks, gleaner.count_missing_vector, gleaner.dead_letter_label, gleaner.count_dead_letter,
    gleaner.count_batch, gleaner.count_job, gleaner.count_usage FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gleaner.fold_metrics, gleaner.recount_metrics, gleaner.duration_bucket, gleaner.count_duration,
    gleaner.dead_letter_label TO gleaner_writer;
