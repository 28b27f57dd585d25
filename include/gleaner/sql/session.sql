-- What a session of Gleaner's begins with.

-- pin --
-- What the statements take for granted, whatever is set for the role, the database or the server: names are those of
-- Postgres and of pgvector, wherever it is; texts are UTF-8; times and numbers are written as psycopg reads them; and a
-- statement sees what others have committed before it. Timeouts that are NULL stay as they are.
SELECT set_config('search_path', 'pg_catalog, ' || coalesce((
           SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
           WHERE e.extname = 'vector'), 'public'), false),
       set_config('client_encoding', 'UTF8', false),
       set_config('datestyle', 'ISO', false),
       set_config('intervalstyle', 'postgres', false),
       set_config('extra_float_digits', '1', false),
       set_config('standard_conforming_strings', 'on', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('statement_timeout', coalesce(%(statement_timeout)s, current_setting('statement_timeout')), false),
       set_config('lock_timeout', coalesce(%(lock_timeout)s, current_setting('lock_timeout')), false)

-- backend --
-- Which process of the server answers.
SELECT pg_backend_pid()
