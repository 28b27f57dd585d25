-- A session that reads backslashes in texts as escapes searches as others do.

-- Loads pgvector, without which nobody but a superuser may name its settings.
DO $$ BEGIN PERFORM '[1]'::vector; END $$;

ALTER FUNCTION gleaner.search SET standard_conforming_strings = on;
