DO $$ BEGIN PERFORM '[1]'::vector; END $$;

ALTER FUNCTION gleaner.search RESET standard_conforming_strings;
