-- Queries of the monthly quota. A month is a calendar month in UTC.

-- quota --
SELECT monthly_token_quota FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s

-- lock --
-- Tasks of one tenant reserve one after the other.
SELECT monthly_token_quota FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s FOR NO KEY UPDATE

-- taken --
-- Tokens of this month that are spent, and those that other tasks hold.
SELECT (SELECT coalesce(sum(tokens), 0) FROM gleaner.embedding_usage
        WHERE tenant_id = %(tenant_id)s AND month = date_trunc('month', now() AT TIME ZONE 'UTC')::date)
     + (SELECT coalesce(sum(tokens), 0) FROM gleaner.token_reservation
        WHERE tenant_id = %(tenant_id)s AND holder <> %(holder)s AND held_until > now())

-- reserve --
INSERT INTO gleaner.token_reservation AS r (tenant_id, holder, tokens, held_until)
VALUES (%(tenant_id)s, %(holder)s, %(tokens)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (tenant_id, holder) DO UPDATE SET tokens = excluded.tokens, held_until = excluded.held_until

-- hold --
-- What is charged is held no longer.
UPDATE gleaner.token_reservation SET tokens = %(tokens)s
WHERE tenant_id = %(tenant_id)s AND holder = %(holder)s

-- release --
DELETE FROM gleaner.token_reservation
WHERE tenant_id = %(tenant_id)s AND (holder = %(holder)s OR held_until < now())

-- set_quota --
INSERT INTO gleaner.tenant (tenant_id, monthly_token_quota) VALUES (%(tenant_id)s, %(quota)s)
ON CONFLICT (tenant_id) DO UPDATE SET monthly_token_quota = excluded.monthly_token_quota

-- usage --
-- Per model, newest month first.
SELECT month, embedding_model, requests, inputs, tokens FROM gleaner.embedding_usage
WHERE tenant_id = %(tenant_id)s ORDER BY month DESC, embedding_model

-- month --
-- Tokens of this month, and the quota.
SELECT (SELECT coalesce(sum(u.tokens), 0)::bigint FROM gleaner.embedding_usage u
        WHERE u.tenant_id = t.tenant_id AND u.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date),
       t.monthly_token_quota
FROM gleaner.tenant t WHERE t.tenant_id = %(tenant_id)s
