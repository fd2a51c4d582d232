-- The narrow shape: one row per device, time and metric.
create or replace view metrics as
select g.observed_at as time, g.device_id as resource_id, m.metric_name, m.value,
       jsonb_build_object('facility_id', g.facility_id, 'cluster_id', g.cluster_id, 'device_class', g.device_class, 'mode', g.mode) as tags
from gpu_telemetry g
cross join lateral (values
    ('power_watts', g.power_watts),
    ('temperature_celsius', g.temperature_celsius),
    ('memory_temperature_celsius', g.memory_temperature_celsius),
    ('utilisation_ratio', g.utilisation_ratio),
    ('hash_rate_mh_per_s', g.hash_rate_mh_per_s),
    ('tokens_per_s', g.tokens_per_s)) as m (metric_name, value)
where m.value is not null
union all
select a.observed_at, a.device_id, m.metric_name, m.value,
       jsonb_build_object('facility_id', a.facility_id, 'cluster_id', a.cluster_id, 'device_class', a.device_class, 'mode', a.mode)
from asic_telemetry a
cross join lateral (values
    ('power_watts', a.power_watts),
    ('chip_temperature_celsius', a.chip_temperature_celsius),
    ('inlet_temperature_celsius', a.inlet_temperature_celsius),
    ('hash_rate_th_per_s', a.hash_rate_th_per_s),
    ('fan_speed_rpm', a.fan_speed_rpm),
    ('reject_ratio', a.reject_ratio)) as m (metric_name, value)
where m.value is not null;

-- What became of each decision to switch, with the time of each phase.
create or replace view switch_events as
select s.*, d.policy, d.reason, d.gain_usd_per_hour, d.switch_cost_usd, d.cause_timestamp
from switches s
left join decisions d on d.command_id = s.decision_id;

-- The latest word of the Resource Manager (or, before its first, of the fleet monitor) on each device.
create or replace view fleet_state_now as
select distinct on (device_id) device_id, facility_id, cluster_id, shard_id, device_class, reported_by, mode, state, epoch, owner, observed_at
from resource_states
order by device_id, (reported_by = 'resources') desc, kafka_offset desc;

-- The latest score of every mode of every class at every site.
create or replace view profitability_by_class as
select distinct on (facility_id, device_class, mode)
       facility_id, device_class, mode, profit_usd_per_hour, revenue_usd_per_hour, energy_cost_usd_per_hour,
       best_mode, confidence, observed_at
from recommendations
order by facility_id, device_class, mode, observed_at desc, kafka_offset desc;
