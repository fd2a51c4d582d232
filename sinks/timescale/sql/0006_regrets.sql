-- What each hour made of each class, beside what hindsight and the best fixed mode would have made.
create table if not exists regrets (
    regret_id uuid not null,
    facility_id text not null,
    device_class text not null,
    hour_start timestamptz not null,
    since timestamptz not null,
    covered_ms bigint not null,
    device_count bigint not null,
    counted_ratio double precision not null,
    realised_usd_micros bigint not null,
    switch_cost_usd_micros bigint not null,
    realised_so_far_usd_micros bigint not null,
    hindsight_so_far_usd_micros bigint not null,
    best_fixed_so_far_usd_micros bigint not null,
    best_fixed_mode text not null check (best_fixed_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco')),
    observed_at timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('regrets', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists regrets_event on regrets (regret_id, observed_at);
