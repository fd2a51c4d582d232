-- Switches that were expected before they were ordered, or never were.
create table if not exists outlooks (
    outlook_id uuid not null,
    facility_id text not null,
    device_class text not null,
    from_mode text not null check (from_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco')),
    to_mode text check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco')),
    probability double precision not null,
    horizon_ms bigint not null,
    recommendation_id uuid not null,
    observed_at timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('outlooks', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists outlooks_event on outlooks (outlook_id, observed_at);
