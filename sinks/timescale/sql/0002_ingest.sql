-- Offsets live with the rows: one transaction moves both, so nothing is lost or stored twice.
create table if not exists ingest_offsets (
    sink text not null,
    topic text not null,
    partition integer not null,
    next_offset bigint not null,
    updated_at timestamptz not null default now(),
    primary key (sink, topic, partition)
);
