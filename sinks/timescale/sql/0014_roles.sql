-- Two roles without passwords: whoever runs the database gives them one from its secrets. The owner alone changes tables.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['hcp_writer', 'hcp_analyst'] loop
        begin
            execute format('create role %I login', wanted);
        exception when duplicate_object or unique_violation then
            null;  -- roles belong to the server: another of its databases made it
        end;
    end loop;
    execute format('alter role hcp_analyst in database %I set default_transaction_read_only = on', current_database());
    execute format('alter role hcp_analyst in database %I set statement_timeout = %L', current_database(), '30s');
    execute format('alter role hcp_analyst in database %I set idle_in_transaction_session_timeout = %L', current_database(), '5min');
    execute format('alter role hcp_analyst in database %I set lock_timeout = %L', current_database(), '5s');
end
$$;
grant usage on schema public to hcp_writer, hcp_analyst;
grant select on all tables in schema public to hcp_analyst;
grant select, insert, update, delete on all tables in schema public to hcp_writer;
revoke insert, update, delete on schema_migrations from hcp_writer;
alter default privileges in schema public grant select on tables to hcp_analyst;
alter default privileges in schema public grant select, insert, update, delete on tables to hcp_writer;

-- Retention where no policy does it. In a replay time is the data's own: what is old is told by the newest chunk, not by the clock.
create function retire_chunks(kept interval) returns table (hypertable text, chunk_count bigint) language plpgsql
security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    each record;
begin
    for each in
        select c.hypertable_name as name, least(max(c.range_start), now()) as newest
        from timescaledb_information.chunks c
        join timescaledb_information.hypertables h using (hypertable_schema, hypertable_name)
        where c.hypertable_schema = 'public'
        group by 1
        order by 1
    loop
        hypertable := each.name;
        select count(*) into chunk_count from drop_chunks(format('public.%I', each.name)::regclass, older_than => each.newest - kept);
        if chunk_count > 0 then
            return next;
        end if;
    end loop;
end
$$;
revoke all on function retire_chunks from public;
grant execute on function retire_chunks to hcp_writer;
