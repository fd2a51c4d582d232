-- Audit events hang in a chain, one a partition of audit.events: each link is the hash of the one before and of the event, so that
-- an event changed, removed or slipped in is found (docs/audit.md, ADR 11). The database makes the links; no writer can skip them.
create table audit_chain (
    kafka_partition integer not null,
    link bigint not null,
    kafka_offset bigint not null,
    audit_id uuid not null,
    observed_at timestamptz not null,
    content_hash bytea not null,
    link_hash bytea not null,
    primary key (kafka_partition, link)
);
create index audit_chain_event on audit_chain (audit_id);
comment on table audit_chain is 'Links of the audit chain; they stay when retention drops the events they stand for.';
comment on column audit_chain.link is '1, 2, 3 … within a partition.';
comment on column audit_chain.content_hash is 'SHA-256 of the event and its address as netstrings.';
comment on column audit_chain.link_hash is 'SHA-256 of the link_hash before (of link 1: 32 zero bytes) and content_hash.';

-- Length, colon, bytes, comma: no two lists of texts are written alike.
create function netstring(value text) returns bytea language sql immutable parallel safe set search_path = pg_catalog, pg_temp as
$$ select case when value is null then '-,'::bytea
               else convert_to(octet_length(convert_to(value, 'UTF8')) || ':' || value || ',', 'UTF8') end $$;

create function audit_content_hash(event audit_events) returns bytea language sql stable set search_path = pg_catalog, public, pg_temp as
$$ select sha256(netstring(event.audit_id::text) || netstring(event.actor) || netstring(event.action) || netstring(event.subject)
                 || netstring(event.origin) || netstring(event.before) || netstring(event.after)
                 || netstring((extract(epoch from event.observed_at) * 1000)::bigint::text)
                 || netstring(event.kafka_partition::text) || netstring(event.kafka_offset::text)) $$;

create function audit_append(event audit_events) returns void language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    newest record;
    content bytea := audit_content_hash(event);
begin
    perform pg_advisory_xact_lock(4811021, event.kafka_partition);  -- one at a time, whoever writes beside the sink
    select link, link_hash into newest from audit_chain
    where kafka_partition = event.kafka_partition order by link desc limit 1;
    insert into audit_chain values (
        event.kafka_partition, coalesce(newest.link, 0) + 1, event.kafka_offset, event.audit_id, event.observed_at, content,
        sha256(coalesce(newest.link_hash, decode(repeat('00', 32), 'hex')) || content));
end
$$;

create function audit_events_append() returns trigger language plpgsql
security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    perform audit_append(ordered.event)
    from (select fresh::audit_events as event from fresh order by kafka_partition, kafka_offset) as ordered;
    return null;
end
$$;
create trigger chain after insert on audit_events referencing new table as fresh
for each statement execute function audit_events_append();

-- What is there already.
select count(audit_append(ordered.event))
from (select held::audit_events as event from audit_events as held order by kafka_partition, kafka_offset) as ordered;

-- The writer adds events, and can take back neither an event nor a link.
revoke update, delete, truncate on audit_events from hcp_writer;
revoke all on audit_chain from hcp_writer;
grant select on audit_chain to hcp_writer, hcp_analyst;
revoke all on function audit_append, audit_events_append from public;
