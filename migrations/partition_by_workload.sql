-- Partitions the large tables of a new Postgres database, for stores of hundreds of millions of requests.
--
--     batchkit db upgrade
--     psql "$DATABASE" --single-transaction --file partition_by_workload.sql
--
-- requests and results get a partition for each of the next 200 workloads, bodies and attempts (which know their shard only) one
-- for each 10,000 of the next two million shards; what comes after them goes into a partition of its own. To be rid of a workload
-- that is finished and exported, without deleting its rows one by one, drop its partitions and then clean it:
--
--     DROP TABLE requests_7, results_7;   -- 7 is its id in the table workloads
--     batchkit clean NAME
--
-- Nothing else changes: names, keys, indexes, views and every later migration are as before.
DO $$
DECLARE
    name text;
    part integer;
    statement text;
    statements text[];
    views text[];
    -- Vacuum is what lets an index answer alone; by default it waits for a fifth of a table to change.
    eager CONSTANT text :=
        'WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02)';
BEGIN
    LOCK TABLE workloads IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM workloads) THEN
        RAISE EXCEPTION 'only an empty database can be partitioned; begin with a new one';
    END IF;

    -- The views hold on to the tables that are replaced.
    SELECT array_agg(format('CREATE VIEW %I AS %s', relname, pg_get_viewdef(oid)) ORDER BY oid) INTO views
        FROM pg_class WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace
            AND relname IN ('succeeded', 'failed', 'progress', 'scored', 'usage');
    DROP VIEW succeeded, failed, progress, scored, usage;

    FOREACH name IN ARRAY ARRAY['requests', 'results', 'bodies', 'attempts'] LOOP
        SELECT array_agg(definition ORDER BY is_key DESC) INTO statements FROM (
            SELECT format('ALTER TABLE %I ADD CONSTRAINT %I %s', name, conname, pg_get_constraintdef(oid)), true
                FROM pg_constraint WHERE conrelid = name::regclass AND contype = 'p'
            UNION ALL
            SELECT indexdef, false FROM pg_indexes
                WHERE schemaname = current_schema() AND tablename = name AND indexname <> name || '_pkey'
        ) AS kept (definition, is_key);
        EXECUTE format('ALTER TABLE %I RENAME TO replaced', name);
        EXECUTE format(
            'CREATE TABLE %I (LIKE replaced INCLUDING ALL EXCLUDING INDEXES) PARTITION BY %s', name,
            CASE WHEN name IN ('requests', 'results') THEN 'LIST (workload_id)' ELSE 'RANGE (shard_id)' END);
        DROP TABLE replaced;
        FOREACH statement IN ARRAY statements LOOP
            EXECUTE statement;
        END LOOP;
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT %s', name || '_rest', name, eager);
        FOR part IN 1..200 LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES %s %s', name || '_' || part, name,
                CASE WHEN name IN ('requests', 'results') THEN format('IN (%s)', part)
                    ELSE format('FROM (%s) TO (%s)', (part - 1) * 10000 + 1, part * 10000 + 1) END,
                eager);
        END LOOP;
    END LOOP;

    FOREACH statement IN ARRAY views LOOP
        EXECUTE statement;
    END LOOP;
END $$;
