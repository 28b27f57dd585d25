-- Queries of the shared politeness. A host belongs to no tenant: all crawls of all tenants share its pace.

-- settle --
-- A pace that a crash of the server forgets is no loss: nothing here waits for the disk.
SELECT set_config('synchronous_commit', 'off', false), set_config('lock_timeout', '10s', false)

-- know_site --
INSERT INTO gleaner.site_pace (site) VALUES (%(site)s) ON CONFLICT (site) DO NOTHING

-- claim_turn --
-- The next turn of a site, if it is due; else how long it takes. The slowest crawl of the last minute sets the pace.
WITH asked AS (
    SELECT %(site)s::text AS site, %(delay)s::float8 AS delay
), claimed AS (
    UPDATE gleaner.site_pace p
    SET delay = greatest(asked.delay, CASE WHEN p.delay_until > clock_timestamp() THEN p.delay ELSE 0 END),
        delay_until = CASE WHEN asked.delay >= p.delay OR p.delay_until <= clock_timestamp()
                           THEN clock_timestamp() + make_interval(secs => greatest(60, 3 * asked.delay))
                           ELSE p.delay_until END,
        next_turn = clock_timestamp() + make_interval(secs => %(margin)s * greatest(
            asked.delay, p.penalty, CASE WHEN p.delay_until > clock_timestamp() THEN p.delay ELSE 0 END))
    FROM asked
    WHERE p.site = asked.site AND p.next_turn <= clock_timestamp()
    RETURNING greatest(p.delay, p.penalty) AS delay
)
SELECT CASE WHEN EXISTS (SELECT FROM claimed) THEN 0
            ELSE greatest(0.001, extract(epoch FROM p.next_turn - clock_timestamp())) END::float8 AS wait,
       coalesce((SELECT delay FROM claimed), greatest(p.delay, p.penalty, asked.delay))::float8 AS delay
FROM gleaner.site_pace p JOIN asked USING (site)

-- penalize --
-- The site is busy: twice the delay. Answers to requests that were sent before the last penalty bring no further one.
UPDATE gleaner.site_pace
SET penalty = CASE WHEN penalized_at <= clock_timestamp() - make_interval(secs => %(elapsed)s)
                   THEN least(%(longest)s, greatest(%(first)s, 2 * penalty)) ELSE penalty END,
    next_turn = greatest(next_turn, clock_timestamp() + make_interval(secs => greatest(
        %(retry_after)s::float8,
        CASE WHEN penalized_at <= clock_timestamp() - make_interval(secs => %(elapsed)s)
             THEN least(%(longest)s, greatest(%(first)s, 2 * penalty)) ELSE penalty END))),
    penalized_at = CASE WHEN penalized_at <= clock_timestamp() - make_interval(secs => %(elapsed)s)
                        THEN clock_timestamp() ELSE penalized_at END
WHERE site = %(site)s
RETURNING penalty

-- ease --
-- Additive increase of the rate, a tenth of a request a second for each answer; below 0.1 s the penalty is over.
UPDATE gleaner.site_pace
SET penalty = CASE WHEN penalty / (1 + 0.1 * penalty) > 0.1 THEN penalty / (1 + 0.1 * penalty) ELSE 0 END
WHERE site = %(site)s AND penalty > 0
RETURNING penalty

-- lease_slots --
-- Free slots of a site, and those whose holder has not been heard of.
INSERT INTO gleaner.site_slot AS s (site, slot, holder, held_until)
SELECT %(site)s, free.slot, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s)
FROM generate_series(1, %(limit)s) AS free (slot)
WHERE NOT EXISTS (SELECT FROM gleaner.site_slot other
                  WHERE other.site = %(site)s AND other.slot = free.slot AND other.held_until > clock_timestamp())
ORDER BY free.slot LIMIT %(wanted)s
ON CONFLICT (site, slot) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
WHERE s.held_until <= clock_timestamp()
RETURNING slot

-- want_slots --
-- There is none: those who hold them are told.
UPDATE gleaner.site_pace SET wanted_at = clock_timestamp() WHERE site = %(site)s

-- release_slots --
DELETE FROM gleaner.site_slot WHERE site = %(site)s AND slot = ANY(%(slots)s) AND holder = %(holder)s

-- keep_slots --
UPDATE gleaner.site_slot SET held_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE holder = %(holder)s

-- wanted_sites --
SELECT site FROM gleaner.site_pace
WHERE wanted_at > clock_timestamp() - interval '2 seconds'
  AND site IN (SELECT site FROM gleaner.site_slot WHERE holder = %(holder)s)

-- leave --
DELETE FROM gleaner.site_slot WHERE holder = %(holder)s

-- forget_sites --
-- Sites that nobody asked for a day.
DELETE FROM gleaner.site_pace p
WHERE p.next_turn < clock_timestamp() - interval '1 day' AND p.penalized_at < clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM gleaner.site_slot s WHERE s.site = p.site)
