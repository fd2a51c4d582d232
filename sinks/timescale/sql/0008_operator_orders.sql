-- What people ordered done with devices; and the ends a switch, and states a device, can have since then.
create table if not exists operator_orders (
    order_id uuid not null,
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    action text not null check (action in ('maintenance', 'pause', 'lock_out', 'release', 'switch')),
    to_mode text check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco')),
    device_index bigint not null,
    operator text not null,
    origin text not null,
    why text not null,
    observed_at timestamptz not null,
    device_id text not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('operator_orders', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists operator_orders_event on operator_orders (order_id, device_id, observed_at);
alter table switches drop constraint switches_outcome_check, add constraint switches_outcome_check check (outcome in ('committed', 'already_there', 'duplicate', 'fenced', 'stale_telemetry', 'unsafe', 'rolled_back', 'quarantined', 'unknown_device', 'expired', 'held', 'limited'));
alter table resource_states drop constraint resource_states_state_check, add constraint resource_states_state_check check (state in ('active', 'switching', 'quarantined', 'maintenance', 'unreachable', 'paused', 'locked_out'));
