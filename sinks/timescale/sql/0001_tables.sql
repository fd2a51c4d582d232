-- One table per topic; columns bear the names of the records' fields (see sinks/timescale/tables.py).
create table if not exists market_prices (
    facility_id text not null,
    series text not null check (series in ('energy_real_time', 'energy_day_ahead', 'btc', 'difficulty', 'block_subsidy', 'block_fees', 'gpu_rental', 'gpu_hash_price', 'inference_utilisation')),
    instrument text not null,
    value double precision not null,
    unit text not null check (unit in ('usd_per_mwh', 'usd_per_btc', 'difficulty', 'btc_per_block', 'usd_per_gpu_hour', 'usd_per_mh_hour', 'ratio')),
    interval_start timestamptz not null,
    interval_ms bigint not null,
    observed_at timestamptz not null,
    source text not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('market_prices', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists market_prices_event on market_prices (facility_id, series, instrument, observed_at);

create table if not exists gpu_telemetry (
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    observed_at timestamptz not null,
    device_index bigint not null,
    mode text not null check (mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    power_watts double precision,
    temperature_celsius double precision,
    memory_temperature_celsius double precision,
    utilisation_ratio double precision,
    hash_rate_mh_per_s double precision,
    tokens_per_s double precision,
    device_id text not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('gpu_telemetry', 'observed_at', chunk_time_interval => interval '1 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists gpu_telemetry_event on gpu_telemetry (device_id, observed_at);

create table if not exists asic_telemetry (
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    observed_at timestamptz not null,
    device_index bigint not null,
    mode text not null check (mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    power_watts double precision,
    chip_temperature_celsius double precision,
    inlet_temperature_celsius double precision,
    hash_rate_th_per_s double precision,
    fan_speed_rpm double precision,
    reject_ratio double precision,
    device_id text not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('asic_telemetry', 'observed_at', chunk_time_interval => interval '1 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists asic_telemetry_event on asic_telemetry (device_id, observed_at);

create table if not exists recommendations (
    recommendation_id uuid not null,
    facility_id text not null,
    observed_at timestamptz not null,
    cause_topic text not null,
    cause_partition bigint not null,
    cause_offset bigint not null,
    cause_timestamp timestamptz not null,
    energy_price_usd_per_mwh double precision,
    energy_observed_at timestamptz,
    btc_price_usd double precision,
    btc_observed_at timestamptz,
    difficulty double precision,
    subsidy_btc double precision,
    fees_btc_per_block double precision,
    hash_price_usd_per_th_hour double precision,
    device_class text not null,
    best_mode text not null check (best_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    runner_up_mode text not null check (runner_up_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    delta_usd_per_hour double precision not null,
    runner_up_confidence double precision not null,
    mode text not null check (mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    revenue_usd_per_hour double precision not null,
    energy_cost_usd_per_hour double precision not null,
    demand_cost_usd_per_hour double precision not null,
    wear_usd_per_hour double precision not null,
    profit_usd_per_hour double precision not null,
    power_watts double precision not null,
    gain_usd_per_hour double precision not null,
    switch_cost_usd double precision not null,
    payback_ms bigint,
    confidence double precision not null,
    break_even_usd_per_mwh double precision,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('recommendations', 'observed_at', chunk_time_interval => interval '24 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists recommendations_event on recommendations (recommendation_id, device_class, mode, observed_at);

create table if not exists decisions (
    command_id uuid not null,
    facility_id text not null,
    device_class text not null,
    action text not null check (action in ('switch', 'hold')),
    reason text not null check (reason in ('gain_pays', 'already_best', 'gain_too_small', 'confidence_too_low', 'dwell', 'minimum_on_time', 'minimum_off_time', 'switch_pending', 'price_stale', 'telemetry_stale', 'no_devices', 'policy_never')),
    policy text not null,
    from_mode text not null check (from_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    to_mode text not null check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    device_count bigint not null,
    best_mode text not null check (best_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    runner_up_mode text not null check (runner_up_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    gain_usd_per_hour double precision not null,
    switch_cost_usd double precision not null,
    threshold_usd_per_hour double precision not null,
    confidence double precision not null,
    flip_usd_per_mwh double precision,
    observed_at timestamptz not null,
    recommendation_id uuid not null,
    cause_topic text not null,
    cause_partition bigint not null,
    cause_offset bigint not null,
    cause_timestamp timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('decisions', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists decisions_event on decisions (command_id, observed_at);

create table if not exists controller_commands (
    command_id uuid not null,
    decision_id uuid not null,
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    from_mode text not null check (from_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    to_mode text not null check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    attempt bigint not null,
    device_index bigint not null,
    epoch bigint not null,
    observed_at timestamptz not null,
    device_id text not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('controller_commands', 'observed_at', chunk_time_interval => interval '24 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists controller_commands_event on controller_commands (command_id, device_id, observed_at);

create table if not exists switches (
    command_id uuid not null,
    decision_id uuid not null,
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    from_mode text not null check (from_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    to_mode text not null check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    attempt bigint not null,
    controller_id text not null,
    device_index bigint not null,
    epoch bigint not null,
    outcome text not null check (outcome in ('committed', 'already_there', 'duplicate', 'fenced', 'stale_telemetry', 'unsafe', 'rolled_back', 'quarantined', 'unknown_device', 'expired')),
    mode text not null check (mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    detail text not null,
    begin_ms double precision,
    validate_ms double precision,
    pause_ms double precision,
    save_ms double precision,
    activate_ms double precision,
    verify_ms double precision,
    commit_ms double precision,
    total_ms double precision,
    settled_ms double precision,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    observed_at timestamptz not null,
    device_id text not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('switches', 'observed_at', chunk_time_interval => interval '24 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists switches_event on switches (command_id, device_id, observed_at);

create table if not exists resource_states (
    state_key text not null,
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    reported_by text not null check (reported_by in ('fleet_monitor', 'resources')),
    device_index bigint not null,
    mode text not null check (mode in ('mining', 'ai_inference', 'idle', 'sleep')),
    state text not null check (state in ('active', 'switching', 'quarantined', 'maintenance', 'unreachable')),
    epoch bigint not null,
    owner text not null,
    observed_at timestamptz not null,
    device_id text not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('resource_states', 'observed_at', chunk_time_interval => interval '24 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists resource_states_event on resource_states (device_id, reported_by, kafka_partition, kafka_offset, observed_at);

create table if not exists workload_events (
    event_id uuid not null,
    workload_id uuid not null,
    customer_id uuid not null,
    event_type text not null check (event_type in ('workload.created', 'workload.queued', 'workload.placed', 'workload.started', 'workload.preempted', 'workload.completed', 'workload.failed', 'workload.cancelled')),
    workload_type text not null check (workload_type in ('inference_real_time', 'inference_interactive', 'batch')),
    priority bigint not null,
    device_class text not null,
    device_count bigint not null,
    facility_id text,
    reason text not null,
    observed_at timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('workload_events', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists workload_events_event on workload_events (event_id, observed_at);

create table if not exists allocation_requests (
    allocation_id uuid not null,
    workload_id uuid not null,
    customer_id uuid not null,
    facility_id text not null,
    device_class text not null,
    device_count bigint not null,
    priority bigint not null,
    is_preemptible boolean not null,
    observed_at timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('allocation_requests', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists allocation_requests_event on allocation_requests (allocation_id, observed_at);

create table if not exists billing_usage (
    usage_id uuid not null,
    workload_id uuid not null,
    customer_id uuid not null,
    facility_id text not null,
    device_class text not null,
    interval_start timestamptz not null,
    interval_end timestamptz not null,
    device_seconds bigint not null,
    price_usd_micros_per_device_hour bigint not null,
    amount_usd_micros bigint not null,
    observed_at timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('billing_usage', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists billing_usage_event on billing_usage (usage_id, observed_at);

create table if not exists alerts (
    alert_id uuid not null,
    facility_id text not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    alert_type text not null check (alert_type in ('device_overheated', 'device_silent', 'device_quarantined', 'mode_mismatch', 'switch_failed', 'price_stale')),
    subject text not null,
    message text not null,
    observed_at timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('alerts', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists alerts_event on alerts (alert_id, observed_at);

create table if not exists audit_events (
    audit_id uuid not null,
    actor text not null,
    action text not null,
    subject text not null,
    origin text not null,
    before text,
    after text,
    observed_at timestamptz not null,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('audit_events', 'observed_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists audit_events_event on audit_events (audit_id, observed_at);

create table if not exists dead_letters (
    source_topic text not null,
    source_partition bigint not null,
    source_offset bigint not null,
    source_timestamp timestamptz,
    reason text not null check (reason in ('not_a_record', 'unknown_schema', 'undecodable', 'wrong_type', 'out_of_range', 'unequal_columns', 'from_the_future', 'unknown_facility', 'unknown_shard', 'unknown_device', 'unknown_device_class', 'too_large', 'store_refused', 'transform_failed')),
    detail text not null,
    rejected_by text not null,
    record_key bytea,
    record_value bytea,
    recorded_at timestamptz not null,
    kafka_partition integer not null,
    kafka_offset bigint not null
);
select create_hypertable('dead_letters', 'recorded_at', chunk_time_interval => interval '168 hours', create_default_indexes => false, if_not_exists => true);
create unique index if not exists dead_letters_event on dead_letters (source_topic, source_partition, source_offset, rejected_by, recorded_at);
