-- Apache edition: by minute and device as continuous aggregates do it. Minutes below the watermark are settled rows, later ones
-- are aggregated on reading; readings that come late are noted by the trigger and settled again (sinks/timescale/maintenance.py).
create table rollup_watermarks (
    name text primary key,
    closing timestamptz not null default '-infinity',
    until timestamptz not null default '-infinity'
);
comment on column rollup_watermarks.closing is 'Readings before it are noted as late from now on.';
comment on column rollup_watermarks.until is 'Minutes before it are settled.';
insert into rollup_watermarks (name) values ('gpu'), ('asic');
create table rollup_late (
    name text not null,
    time timestamptz not null,
    primary key (name, time)
);
create function rollup_until(wanted text) returns timestamptz language sql stable as
$$ select until from rollup_watermarks where name = wanted $$;

create table gpu_telemetry_1min_settled (
    time timestamptz not null,
    device_id text not null,
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    mode text not null,
    power_watts_sum double precision,
    power_watts_count bigint not null,
    power_watts_min double precision,
    power_watts_max double precision,
    temperature_celsius_sum double precision,
    temperature_celsius_count bigint not null,
    temperature_celsius_min double precision,
    temperature_celsius_max double precision,
    memory_temperature_celsius_sum double precision,
    memory_temperature_celsius_count bigint not null,
    memory_temperature_celsius_min double precision,
    memory_temperature_celsius_max double precision,
    utilisation_ratio_sum double precision,
    utilisation_ratio_count bigint not null,
    utilisation_ratio_min double precision,
    utilisation_ratio_max double precision,
    hash_rate_mh_per_s_sum double precision,
    hash_rate_mh_per_s_count bigint not null,
    hash_rate_mh_per_s_min double precision,
    hash_rate_mh_per_s_max double precision,
    tokens_per_s_sum double precision,
    tokens_per_s_count bigint not null,
    tokens_per_s_min double precision,
    tokens_per_s_max double precision
);
select create_hypertable('gpu_telemetry_1min_settled', 'time', chunk_time_interval => interval '1 day', create_default_indexes => false);
create unique index gpu_telemetry_1min_bucket on gpu_telemetry_1min_settled (device_id, time);
create view gpu_telemetry_1min as
select * from gpu_telemetry_1min_settled where time < rollup_until('gpu')
union all
select time_bucket('1 minute', observed_at) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, observed_at) as mode,
       sum(power_watts) as power_watts_sum, count(power_watts) as power_watts_count, min(power_watts) as power_watts_min, max(power_watts) as power_watts_max,
       sum(temperature_celsius) as temperature_celsius_sum, count(temperature_celsius) as temperature_celsius_count, min(temperature_celsius) as temperature_celsius_min, max(temperature_celsius) as temperature_celsius_max,
       sum(memory_temperature_celsius) as memory_temperature_celsius_sum, count(memory_temperature_celsius) as memory_temperature_celsius_count, min(memory_temperature_celsius) as memory_temperature_celsius_min, max(memory_temperature_celsius) as memory_temperature_celsius_max,
       sum(utilisation_ratio) as utilisation_ratio_sum, count(utilisation_ratio) as utilisation_ratio_count, min(utilisation_ratio) as utilisation_ratio_min, max(utilisation_ratio) as utilisation_ratio_max,
       sum(hash_rate_mh_per_s) as hash_rate_mh_per_s_sum, count(hash_rate_mh_per_s) as hash_rate_mh_per_s_count, min(hash_rate_mh_per_s) as hash_rate_mh_per_s_min, max(hash_rate_mh_per_s) as hash_rate_mh_per_s_max,
       sum(tokens_per_s) as tokens_per_s_sum, count(tokens_per_s) as tokens_per_s_count, min(tokens_per_s) as tokens_per_s_min, max(tokens_per_s) as tokens_per_s_max
from gpu_telemetry
where observed_at >= rollup_until('gpu')
group by 1, 2, 3, 4, 5, 6;
create view gpu_telemetry_1h as
select time_bucket('1 hour', time) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, time) as mode,
       sum(power_watts_sum) as power_watts_sum, sum(power_watts_count)::bigint as power_watts_count, min(power_watts_min) as power_watts_min, max(power_watts_max) as power_watts_max,
       sum(temperature_celsius_sum) as temperature_celsius_sum, sum(temperature_celsius_count)::bigint as temperature_celsius_count, min(temperature_celsius_min) as temperature_celsius_min, max(temperature_celsius_max) as temperature_celsius_max,
       sum(memory_temperature_celsius_sum) as memory_temperature_celsius_sum, sum(memory_temperature_celsius_count)::bigint as memory_temperature_celsius_count, min(memory_temperature_celsius_min) as memory_temperature_celsius_min, max(memory_temperature_celsius_max) as memory_temperature_celsius_max,
       sum(utilisation_ratio_sum) as utilisation_ratio_sum, sum(utilisation_ratio_count)::bigint as utilisation_ratio_count, min(utilisation_ratio_min) as utilisation_ratio_min, max(utilisation_ratio_max) as utilisation_ratio_max,
       sum(hash_rate_mh_per_s_sum) as hash_rate_mh_per_s_sum, sum(hash_rate_mh_per_s_count)::bigint as hash_rate_mh_per_s_count, min(hash_rate_mh_per_s_min) as hash_rate_mh_per_s_min, max(hash_rate_mh_per_s_max) as hash_rate_mh_per_s_max,
       sum(tokens_per_s_sum) as tokens_per_s_sum, sum(tokens_per_s_count)::bigint as tokens_per_s_count, min(tokens_per_s_min) as tokens_per_s_min, max(tokens_per_s_max) as tokens_per_s_max
from gpu_telemetry_1min
group by 1, 2, 3, 4, 5, 6;
create function gpu_telemetry_late() returns trigger language plpgsql as $$
declare
    closed_at timestamptz;
begin
    -- Shared until the commit: whoever moves the watermark waits for us, and so misses no row.
    select closing into closed_at from rollup_watermarks where name = 'gpu' for share;
    insert into rollup_late select distinct 'gpu', time_bucket('1 minute', observed_at) from fresh
    where observed_at < closed_at order by 2 on conflict do nothing;
    return null;
end
$$;
create trigger late after insert on gpu_telemetry referencing new table as fresh
for each statement execute function gpu_telemetry_late();
create function settle_gpu_telemetry(since timestamptz, before timestamptz) returns bigint language plpgsql as $$
declare
    settled bigint;
begin
    delete from gpu_telemetry_1min_settled where time >= since and time < before;
    insert into gpu_telemetry_1min_settled
    select time_bucket('1 minute', observed_at) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, observed_at) as mode,
           sum(power_watts) as power_watts_sum, count(power_watts) as power_watts_count, min(power_watts) as power_watts_min, max(power_watts) as power_watts_max,
           sum(temperature_celsius) as temperature_celsius_sum, count(temperature_celsius) as temperature_celsius_count, min(temperature_celsius) as temperature_celsius_min, max(temperature_celsius) as temperature_celsius_max,
           sum(memory_temperature_celsius) as memory_temperature_celsius_sum, count(memory_temperature_celsius) as memory_temperature_celsius_count, min(memory_temperature_celsius) as memory_temperature_celsius_min, max(memory_temperature_celsius) as memory_temperature_celsius_max,
           sum(utilisation_ratio) as utilisation_ratio_sum, count(utilisation_ratio) as utilisation_ratio_count, min(utilisation_ratio) as utilisation_ratio_min, max(utilisation_ratio) as utilisation_ratio_max,
           sum(hash_rate_mh_per_s) as hash_rate_mh_per_s_sum, count(hash_rate_mh_per_s) as hash_rate_mh_per_s_count, min(hash_rate_mh_per_s) as hash_rate_mh_per_s_min, max(hash_rate_mh_per_s) as hash_rate_mh_per_s_max,
           sum(tokens_per_s) as tokens_per_s_sum, count(tokens_per_s) as tokens_per_s_count, min(tokens_per_s) as tokens_per_s_min, max(tokens_per_s) as tokens_per_s_max
    from gpu_telemetry
    where observed_at >= since and observed_at < before
    group by 1, 2, 3, 4, 5, 6
    order by 2, 1;
    get diagnostics settled = row_count;
    return settled;
end
$$;

create table asic_telemetry_1min_settled (
    time timestamptz not null,
    device_id text not null,
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    mode text not null,
    power_watts_sum double precision,
    power_watts_count bigint not null,
    power_watts_min double precision,
    power_watts_max double precision,
    chip_temperature_celsius_sum double precision,
    chip_temperature_celsius_count bigint not null,
    chip_temperature_celsius_min double precision,
    chip_temperature_celsius_max double precision,
    inlet_temperature_celsius_sum double precision,
    inlet_temperature_celsius_count bigint not null,
    inlet_temperature_celsius_min double precision,
    inlet_temperature_celsius_max double precision,
    hash_rate_th_per_s_sum double precision,
    hash_rate_th_per_s_count bigint not null,
    hash_rate_th_per_s_min double precision,
    hash_rate_th_per_s_max double precision,
    fan_speed_rpm_sum double precision,
    fan_speed_rpm_count bigint not null,
    fan_speed_rpm_min double precision,
    fan_speed_rpm_max double precision,
    reject_ratio_sum double precision,
    reject_ratio_count bigint not null,
    reject_ratio_min double precision,
    reject_ratio_max double precision
);
select create_hypertable('asic_telemetry_1min_settled', 'time', chunk_time_interval => interval '1 day', create_default_indexes => false);
create unique index asic_telemetry_1min_bucket on asic_telemetry_1min_settled (device_id, time);
create view asic_telemetry_1min as
select * from asic_telemetry_1min_settled where time < rollup_until('asic')
union all
select time_bucket('1 minute', observed_at) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, observed_at) as mode,
       sum(power_watts) as power_watts_sum, count(power_watts) as power_watts_count, min(power_watts) as power_watts_min, max(power_watts) as power_watts_max,
       sum(chip_temperature_celsius) as chip_temperature_celsius_sum, count(chip_temperature_celsius) as chip_temperature_celsius_count, min(chip_temperature_celsius) as chip_temperature_celsius_min, max(chip_temperature_celsius) as chip_temperature_celsius_max,
       sum(inlet_temperature_celsius) as inlet_temperature_celsius_sum, count(inlet_temperature_celsius) as inlet_temperature_celsius_count, min(inlet_temperature_celsius) as inlet_temperature_celsius_min, max(inlet_temperature_celsius) as inlet_temperature_celsius_max,
       sum(hash_rate_th_per_s) as hash_rate_th_per_s_sum, count(hash_rate_th_per_s) as hash_rate_th_per_s_count, min(hash_rate_th_per_s) as hash_rate_th_per_s_min, max(hash_rate_th_per_s) as hash_rate_th_per_s_max,
       sum(fan_speed_rpm) as fan_speed_rpm_sum, count(fan_speed_rpm) as fan_speed_rpm_count, min(fan_speed_rpm) as fan_speed_rpm_min, max(fan_speed_rpm) as fan_speed_rpm_max,
       sum(reject_ratio) as reject_ratio_sum, count(reject_ratio) as reject_ratio_count, min(reject_ratio) as reject_ratio_min, max(reject_ratio) as reject_ratio_max
from asic_telemetry
where observed_at >= rollup_until('asic')
group by 1, 2, 3, 4, 5, 6;
create view asic_telemetry_1h as
select time_bucket('1 hour', time) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, time) as mode,
       sum(power_watts_sum) as power_watts_sum, sum(power_watts_count)::bigint as power_watts_count, min(power_watts_min) as power_watts_min, max(power_watts_max) as power_watts_max,
       sum(chip_temperature_celsius_sum) as chip_temperature_celsius_sum, sum(chip_temperature_celsius_count)::bigint as chip_temperature_celsius_count, min(chip_temperature_celsius_min) as chip_temperature_celsius_min, max(chip_temperature_celsius_max) as chip_temperature_celsius_max,
       sum(inlet_temperature_celsius_sum) as inlet_temperature_celsius_sum, sum(inlet_temperature_celsius_count)::bigint as inlet_temperature_celsius_count, min(inlet_temperature_celsius_min) as inlet_temperature_celsius_min, max(inlet_temperature_celsius_max) as inlet_temperature_celsius_max,
       sum(hash_rate_th_per_s_sum) as hash_rate_th_per_s_sum, sum(hash_rate_th_per_s_count)::bigint as hash_rate_th_per_s_count, min(hash_rate_th_per_s_min) as hash_rate_th_per_s_min, max(hash_rate_th_per_s_max) as hash_rate_th_per_s_max,
       sum(fan_speed_rpm_sum) as fan_speed_rpm_sum, sum(fan_speed_rpm_count)::bigint as fan_speed_rpm_count, min(fan_speed_rpm_min) as fan_speed_rpm_min, max(fan_speed_rpm_max) as fan_speed_rpm_max,
       sum(reject_ratio_sum) as reject_ratio_sum, sum(reject_ratio_count)::bigint as reject_ratio_count, min(reject_ratio_min) as reject_ratio_min, max(reject_ratio_max) as reject_ratio_max
from asic_telemetry_1min
group by 1, 2, 3, 4, 5, 6;
create function asic_telemetry_late() returns trigger language plpgsql as $$
declare
    closed_at timestamptz;
begin
    -- Shared until the commit: whoever moves the watermark waits for us, and so misses no row.
    select closing into closed_at from rollup_watermarks where name = 'asic' for share;
    insert into rollup_late select distinct 'asic', time_bucket('1 minute', observed_at) from fresh
    where observed_at < closed_at order by 2 on conflict do nothing;
    return null;
end
$$;
create trigger late after insert on asic_telemetry referencing new table as fresh
for each statement execute function asic_telemetry_late();
create function settle_asic_telemetry(since timestamptz, before timestamptz) returns bigint language plpgsql as $$
declare
    settled bigint;
begin
    delete from asic_telemetry_1min_settled where time >= since and time < before;
    insert into asic_telemetry_1min_settled
    select time_bucket('1 minute', observed_at) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, observed_at) as mode,
           sum(power_watts) as power_watts_sum, count(power_watts) as power_watts_count, min(power_watts) as power_watts_min, max(power_watts) as power_watts_max,
           sum(chip_temperature_celsius) as chip_temperature_celsius_sum, count(chip_temperature_celsius) as chip_temperature_celsius_count, min(chip_temperature_celsius) as chip_temperature_celsius_min, max(chip_temperature_celsius) as chip_temperature_celsius_max,
           sum(inlet_temperature_celsius) as inlet_temperature_celsius_sum, count(inlet_temperature_celsius) as inlet_temperature_celsius_count, min(inlet_temperature_celsius) as inlet_temperature_celsius_min, max(inlet_temperature_celsius) as inlet_temperature_celsius_max,
           sum(hash_rate_th_per_s) as hash_rate_th_per_s_sum, count(hash_rate_th_per_s) as hash_rate_th_per_s_count, min(hash_rate_th_per_s) as hash_rate_th_per_s_min, max(hash_rate_th_per_s) as hash_rate_th_per_s_max,
           sum(fan_speed_rpm) as fan_speed_rpm_sum, count(fan_speed_rpm) as fan_speed_rpm_count, min(fan_speed_rpm) as fan_speed_rpm_min, max(fan_speed_rpm) as fan_speed_rpm_max,
           sum(reject_ratio) as reject_ratio_sum, count(reject_ratio) as reject_ratio_count, min(reject_ratio) as reject_ratio_min, max(reject_ratio) as reject_ratio_max
    from asic_telemetry
    where observed_at >= since and observed_at < before
    group by 1, 2, 3, 4, 5, 6
    order by 2, 1;
    get diagnostics settled = row_count;
    return settled;
end
$$;

create view metrics_1min as
select r.time, r.device_id as resource_id, m.metric_name, m.value_sum / m.reading_count as value,
       m.value_min, m.value_max, m.reading_count,
       jsonb_build_object('facility_id', r.facility_id, 'cluster_id', r.cluster_id, 'device_class', r.device_class, 'mode', r.mode) as tags
from gpu_telemetry_1min r
cross join lateral (values
    ('power_watts', r.power_watts_sum, r.power_watts_count, r.power_watts_min, r.power_watts_max),
    ('temperature_celsius', r.temperature_celsius_sum, r.temperature_celsius_count, r.temperature_celsius_min, r.temperature_celsius_max),
    ('memory_temperature_celsius', r.memory_temperature_celsius_sum, r.memory_temperature_celsius_count, r.memory_temperature_celsius_min, r.memory_temperature_celsius_max),
    ('utilisation_ratio', r.utilisation_ratio_sum, r.utilisation_ratio_count, r.utilisation_ratio_min, r.utilisation_ratio_max),
    ('hash_rate_mh_per_s', r.hash_rate_mh_per_s_sum, r.hash_rate_mh_per_s_count, r.hash_rate_mh_per_s_min, r.hash_rate_mh_per_s_max),
    ('tokens_per_s', r.tokens_per_s_sum, r.tokens_per_s_count, r.tokens_per_s_min, r.tokens_per_s_max)) as m (metric_name, value_sum, reading_count, value_min, value_max)
where m.reading_count > 0
union all
select r.time, r.device_id as resource_id, m.metric_name, m.value_sum / m.reading_count as value,
       m.value_min, m.value_max, m.reading_count,
       jsonb_build_object('facility_id', r.facility_id, 'cluster_id', r.cluster_id, 'device_class', r.device_class, 'mode', r.mode) as tags
from asic_telemetry_1min r
cross join lateral (values
    ('power_watts', r.power_watts_sum, r.power_watts_count, r.power_watts_min, r.power_watts_max),
    ('chip_temperature_celsius', r.chip_temperature_celsius_sum, r.chip_temperature_celsius_count, r.chip_temperature_celsius_min, r.chip_temperature_celsius_max),
    ('inlet_temperature_celsius', r.inlet_temperature_celsius_sum, r.inlet_temperature_celsius_count, r.inlet_temperature_celsius_min, r.inlet_temperature_celsius_max),
    ('hash_rate_th_per_s', r.hash_rate_th_per_s_sum, r.hash_rate_th_per_s_count, r.hash_rate_th_per_s_min, r.hash_rate_th_per_s_max),
    ('fan_speed_rpm', r.fan_speed_rpm_sum, r.fan_speed_rpm_count, r.fan_speed_rpm_min, r.fan_speed_rpm_max),
    ('reject_ratio', r.reject_ratio_sum, r.reject_ratio_count, r.reject_ratio_min, r.reject_ratio_max)) as m (metric_name, value_sum, reading_count, value_min, value_max)
where m.reading_count > 0;
create view metrics_1h as
select r.time, r.device_id as resource_id, m.metric_name, m.value_sum / m.reading_count as value,
       m.value_min, m.value_max, m.reading_count,
       jsonb_build_object('facility_id', r.facility_id, 'cluster_id', r.cluster_id, 'device_class', r.device_class, 'mode', r.mode) as tags
from gpu_telemetry_1h r
cross join lateral (values
    ('power_watts', r.power_watts_sum, r.power_watts_count, r.power_watts_min, r.power_watts_max),
    ('temperature_celsius', r.temperature_celsius_sum, r.temperature_celsius_count, r.temperature_celsius_min, r.temperature_celsius_max),
    ('memory_temperature_celsius', r.memory_temperature_celsius_sum, r.memory_temperature_celsius_count, r.memory_temperature_celsius_min, r.memory_temperature_celsius_max),
    ('utilisation_ratio', r.utilisation_ratio_sum, r.utilisation_ratio_count, r.utilisation_ratio_min, r.utilisation_ratio_max),
    ('hash_rate_mh_per_s', r.hash_rate_mh_per_s_sum, r.hash_rate_mh_per_s_count, r.hash_rate_mh_per_s_min, r.hash_rate_mh_per_s_max),
    ('tokens_per_s', r.tokens_per_s_sum, r.tokens_per_s_count, r.tokens_per_s_min, r.tokens_per_s_max)) as m (metric_name, value_sum, reading_count, value_min, value_max)
where m.reading_count > 0
union all
select r.time, r.device_id as resource_id, m.metric_name, m.value_sum / m.reading_count as value,
       m.value_min, m.value_max, m.reading_count,
       jsonb_build_object('facility_id', r.facility_id, 'cluster_id', r.cluster_id, 'device_class', r.device_class, 'mode', r.mode) as tags
from asic_telemetry_1h r
cross join lateral (values
    ('power_watts', r.power_watts_sum, r.power_watts_count, r.power_watts_min, r.power_watts_max),
    ('chip_temperature_celsius', r.chip_temperature_celsius_sum, r.chip_temperature_celsius_count, r.chip_temperature_celsius_min, r.chip_temperature_celsius_max),
    ('inlet_temperature_celsius', r.inlet_temperature_celsius_sum, r.inlet_temperature_celsius_count, r.inlet_temperature_celsius_min, r.inlet_temperature_celsius_max),
    ('hash_rate_th_per_s', r.hash_rate_th_per_s_sum, r.hash_rate_th_per_s_count, r.hash_rate_th_per_s_min, r.hash_rate_th_per_s_max),
    ('fan_speed_rpm', r.fan_speed_rpm_sum, r.fan_speed_rpm_count, r.fan_speed_rpm_min, r.fan_speed_rpm_max),
    ('reject_ratio', r.reject_ratio_sum, r.reject_ratio_count, r.reject_ratio_min, r.reject_ratio_max)) as m (metric_name, value_sum, reading_count, value_min, value_max)
where m.reading_count > 0;
