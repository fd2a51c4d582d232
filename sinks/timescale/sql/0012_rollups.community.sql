-- Community edition: continuous aggregates that read on to the newest row, columnstore after a day, retention by policy.
-- A database that began under the Apache edition gives up what stood in for them; the aggregates are filled by their policies.
drop view if exists metrics_1min, metrics_1h, gpu_telemetry_1h, asic_telemetry_1h, gpu_telemetry_1min, asic_telemetry_1min;
drop trigger if exists late on gpu_telemetry;
drop trigger if exists late on asic_telemetry;
drop function if exists gpu_telemetry_late, asic_telemetry_late, settle_gpu_telemetry, settle_asic_telemetry, rollup_until;
drop table if exists gpu_telemetry_1min_settled;
drop table if exists asic_telemetry_1min_settled;
drop table if exists rollup_watermarks, rollup_late;

create materialized view gpu_telemetry_1min with (timescaledb.continuous, timescaledb.materialized_only = false) as
select time_bucket('1 minute', observed_at) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, observed_at) as mode,
       sum(power_watts) as power_watts_sum, count(power_watts) as power_watts_count, min(power_watts) as power_watts_min, max(power_watts) as power_watts_max,
       sum(temperature_celsius) as temperature_celsius_sum, count(temperature_celsius) as temperature_celsius_count, min(temperature_celsius) as temperature_celsius_min, max(temperature_celsius) as temperature_celsius_max,
       sum(memory_temperature_celsius) as memory_temperature_celsius_sum, count(memory_temperature_celsius) as memory_temperature_celsius_count, min(memory_temperature_celsius) as memory_temperature_celsius_min, max(memory_temperature_celsius) as memory_temperature_celsius_max,
       sum(utilisation_ratio) as utilisation_ratio_sum, count(utilisation_ratio) as utilisation_ratio_count, min(utilisation_ratio) as utilisation_ratio_min, max(utilisation_ratio) as utilisation_ratio_max,
       sum(hash_rate_mh_per_s) as hash_rate_mh_per_s_sum, count(hash_rate_mh_per_s) as hash_rate_mh_per_s_count, min(hash_rate_mh_per_s) as hash_rate_mh_per_s_min, max(hash_rate_mh_per_s) as hash_rate_mh_per_s_max,
       sum(tokens_per_s) as tokens_per_s_sum, count(tokens_per_s) as tokens_per_s_count, min(tokens_per_s) as tokens_per_s_min, max(tokens_per_s) as tokens_per_s_max
from gpu_telemetry
group by 1, 2, 3, 4, 5, 6
with no data;
create materialized view gpu_telemetry_1h with (timescaledb.continuous, timescaledb.materialized_only = false) as
select time_bucket('1 hour', time) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, time) as mode,
       sum(power_watts_sum) as power_watts_sum, sum(power_watts_count)::bigint as power_watts_count, min(power_watts_min) as power_watts_min, max(power_watts_max) as power_watts_max,
       sum(temperature_celsius_sum) as temperature_celsius_sum, sum(temperature_celsius_count)::bigint as temperature_celsius_count, min(temperature_celsius_min) as temperature_celsius_min, max(temperature_celsius_max) as temperature_celsius_max,
       sum(memory_temperature_celsius_sum) as memory_temperature_celsius_sum, sum(memory_temperature_celsius_count)::bigint as memory_temperature_celsius_count, min(memory_temperature_celsius_min) as memory_temperature_celsius_min, max(memory_temperature_celsius_max) as memory_temperature_celsius_max,
       sum(utilisation_ratio_sum) as utilisation_ratio_sum, sum(utilisation_ratio_count)::bigint as utilisation_ratio_count, min(utilisation_ratio_min) as utilisation_ratio_min, max(utilisation_ratio_max) as utilisation_ratio_max,
       sum(hash_rate_mh_per_s_sum) as hash_rate_mh_per_s_sum, sum(hash_rate_mh_per_s_count)::bigint as hash_rate_mh_per_s_count, min(hash_rate_mh_per_s_min) as hash_rate_mh_per_s_min, max(hash_rate_mh_per_s_max) as hash_rate_mh_per_s_max,
       sum(tokens_per_s_sum) as tokens_per_s_sum, sum(tokens_per_s_count)::bigint as tokens_per_s_count, min(tokens_per_s_min) as tokens_per_s_min, max(tokens_per_s_max) as tokens_per_s_max
from gpu_telemetry_1min
group by 1, 2, 3, 4, 5, 6
with no data;
select add_continuous_aggregate_policy('gpu_telemetry_1min', start_offset => null, end_offset => interval '2 minutes', schedule_interval => interval '1 minute');
select add_continuous_aggregate_policy('gpu_telemetry_1h', start_offset => null, end_offset => interval '1 hour', schedule_interval => interval '10 minutes');
alter table gpu_telemetry set (timescaledb.compress, timescaledb.compress_segmentby = 'device_id', timescaledb.compress_orderby = 'observed_at');
select add_compression_policy('gpu_telemetry', compress_after => interval '1 day');
select add_retention_policy('gpu_telemetry_1min', drop_after => interval '180 days');
select add_retention_policy('gpu_telemetry_1h', drop_after => interval '180 days');

create materialized view asic_telemetry_1min with (timescaledb.continuous, timescaledb.materialized_only = false) as
select time_bucket('1 minute', observed_at) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, observed_at) as mode,
       sum(power_watts) as power_watts_sum, count(power_watts) as power_watts_count, min(power_watts) as power_watts_min, max(power_watts) as power_watts_max,
       sum(chip_temperature_celsius) as chip_temperature_celsius_sum, count(chip_temperature_celsius) as chip_temperature_celsius_count, min(chip_temperature_celsius) as chip_temperature_celsius_min, max(chip_temperature_celsius) as chip_temperature_celsius_max,
       sum(inlet_temperature_celsius) as inlet_temperature_celsius_sum, count(inlet_temperature_celsius) as inlet_temperature_celsius_count, min(inlet_temperature_celsius) as inlet_temperature_celsius_min, max(inlet_temperature_celsius) as inlet_temperature_celsius_max,
       sum(hash_rate_th_per_s) as hash_rate_th_per_s_sum, count(hash_rate_th_per_s) as hash_rate_th_per_s_count, min(hash_rate_th_per_s) as hash_rate_th_per_s_min, max(hash_rate_th_per_s) as hash_rate_th_per_s_max,
       sum(fan_speed_rpm) as fan_speed_rpm_sum, count(fan_speed_rpm) as fan_speed_rpm_count, min(fan_speed_rpm) as fan_speed_rpm_min, max(fan_speed_rpm) as fan_speed_rpm_max,
       sum(reject_ratio) as reject_ratio_sum, count(reject_ratio) as reject_ratio_count, min(reject_ratio) as reject_ratio_min, max(reject_ratio) as reject_ratio_max
from asic_telemetry
group by 1, 2, 3, 4, 5, 6
with no data;
create materialized view asic_telemetry_1h with (timescaledb.continuous, timescaledb.materialized_only = false) as
select time_bucket('1 hour', time) as time, device_id, facility_id, cluster_id, shard_id, device_class, last(mode, time) as mode,
       sum(power_watts_sum) as power_watts_sum, sum(power_watts_count)::bigint as power_watts_count, min(power_watts_min) as power_watts_min, max(power_watts_max) as power_watts_max,
       sum(chip_temperature_celsius_sum) as chip_temperature_celsius_sum, sum(chip_temperature_celsius_count)::bigint as chip_temperature_celsius_count, min(chip_temperature_celsius_min) as chip_temperature_celsius_min, max(chip_temperature_celsius_max) as chip_temperature_celsius_max,
       sum(inlet_temperature_celsius_sum) as inlet_temperature_celsius_sum, sum(inlet_temperature_celsius_count)::bigint as inlet_temperature_celsius_count, min(inlet_temperature_celsius_min) as inlet_temperature_celsius_min, max(inlet_temperature_celsius_max) as inlet_temperature_celsius_max,
       sum(hash_rate_th_per_s_sum) as hash_rate_th_per_s_sum, sum(hash_rate_th_per_s_count)::bigint as hash_rate_th_per_s_count, min(hash_rate_th_per_s_min) as hash_rate_th_per_s_min, max(hash_rate_th_per_s_max) as hash_rate_th_per_s_max,
       sum(fan_speed_rpm_sum) as fan_speed_rpm_sum, sum(fan_speed_rpm_count)::bigint as fan_speed_rpm_count, min(fan_speed_rpm_min) as fan_speed_rpm_min, max(fan_speed_rpm_max) as fan_speed_rpm_max,
       sum(reject_ratio_sum) as reject_ratio_sum, sum(reject_ratio_count)::bigint as reject_ratio_count, min(reject_ratio_min) as reject_ratio_min, max(reject_ratio_max) as reject_ratio_max
from asic_telemetry_1min
group by 1, 2, 3, 4, 5, 6
with no data;
select add_continuous_aggregate_policy('asic_telemetry_1min', start_offset => null, end_offset => interval '2 minutes', schedule_interval => interval '1 minute');
select add_continuous_aggregate_policy('asic_telemetry_1h', start_offset => null, end_offset => interval '1 hour', schedule_interval => interval '10 minutes');
alter table asic_telemetry set (timescaledb.compress, timescaledb.compress_segmentby = 'device_id', timescaledb.compress_orderby = 'observed_at');
select add_compression_policy('asic_telemetry', compress_after => interval '1 day');
select add_retention_policy('asic_telemetry_1min', drop_after => interval '180 days');
select add_retention_policy('asic_telemetry_1h', drop_after => interval '180 days');

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

select add_retention_policy(format('%I.%I', hypertable_schema, hypertable_name)::regclass, drop_after => interval '180 days')
from timescaledb_information.hypertables
where hypertable_schema = 'public';
