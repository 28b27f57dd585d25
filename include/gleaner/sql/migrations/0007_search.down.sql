-- The roles stay: they belong to the cluster, and other databases may use them.
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT index_name FROM gleaner.vector_index LOOP
        EXECUTE format('DROP INDEX IF EXISTS gleaner.%I', name);
    END LOOP;
    FOR name IN SELECT table_name FROM information_schema.columns
                WHERE table_schema = 'gleaner' AND column_name = 'tenant_id' AND table_name <> 'reader_tenant' LOOP
        EXECUTE format('DROP POLICY one_tenant ON gleaner.%I', name);
        EXECUTE format('DROP POLICY every_tenant ON gleaner.%I', name);
        EXECUTE format('ALTER TABLE gleaner.%I DISABLE ROW LEVEL SECURITY', name);
    END LOOP;
END $$;
REVOKE ALL ON ALL TABLES IN SCHEMA gleaner FROM gleaner_reader, gleaner_writer;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA gleaner FROM gleaner_writer;
REVOKE USAGE ON SCHEMA gleaner FROM gleaner_reader, gleaner_writer;
ALTER TABLE gleaner.tenant_knowledge ALTER COLUMN embedding SET STORAGE EXTERNAL;
DROP FUNCTION gleaner.search;
DROP FUNCTION gleaner.search_words;
DROP FUNCTION gleaner.fold;
DROP FUNCTION gleaner.readable_tenant;
DROP FUNCTION gleaner.may_read;
DROP TABLE gleaner.vector_index;
DROP TABLE gleaner.reader_tenant;
