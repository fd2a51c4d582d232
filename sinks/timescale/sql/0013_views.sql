-- What analysts ask most, by name. Hours and minutes begin in UTC.
create view device_latest as
select d.device_id, d.facility_id, d.cluster_id, d.shard_id, d.device_class, d.kind, g.observed_at, g.mode, g.power_watts,
       g.temperature_celsius, null::double precision as hash_rate_th_per_s, g.hash_rate_mh_per_s, g.tokens_per_s, g.recorded_at
from devices d
cross join lateral (select * from gpu_telemetry t where t.device_id = d.device_id order by t.observed_at desc limit 1) g
where d.kind = 'gpu'
union all
select d.device_id, d.facility_id, d.cluster_id, d.shard_id, d.device_class, d.kind, a.observed_at, a.mode, a.power_watts,
       a.chip_temperature_celsius, a.hash_rate_th_per_s, null, null, a.recorded_at
from devices d
cross join lateral (select * from asic_telemetry t where t.device_id = d.device_id order by t.observed_at desc limit 1) a
where d.kind = 'asic';
comment on view device_latest is 'The last reading of each device that ever sent one.';

create view switch_latency_1h as
select time_bucket('1 hour', observed_at) as time, facility_id, device_class, count(*) as switch_count,
       percentile_cont(0.5) within group (order by total_ms) as total_ms_p50,
       percentile_cont(0.95) within group (order by total_ms) as total_ms_p95,
       percentile_cont(0.99) within group (order by total_ms) as total_ms_p99,
       max(total_ms) as total_ms_max,
       percentile_cont(0.99) within group (order by settled_ms) as settled_ms_p99
from switches
where outcome = 'committed'
group by 1, 2, 3;
comment on view switch_latency_1h is 'Time of committed switches of single devices, from begin to commit, by hour of event time.';

create view workload_timeline as
with steps as (
    select workload_id, customer_id, workload_type, max(priority) as priority, device_class, max(device_count) as device_count,
           last(facility_id, observed_at) filter (where facility_id is not null) as facility_id,
           min(observed_at) filter (where event_type = 'workload.created') as created_at,
           min(observed_at) filter (where event_type = 'workload.queued') as queued_at,
           min(observed_at) filter (where event_type = 'workload.placed') as placed_at,
           min(observed_at) filter (where event_type = 'workload.started') as started_at,
           max(observed_at) filter (where event_type in ('workload.completed', 'workload.failed', 'workload.cancelled')) as ended_at,
           count(*) filter (where event_type = 'workload.preempted') as preempted_count,
           last(event_type, observed_at) as last_event_type,
           last(reason, observed_at) as last_reason
    from workload_events
    group by workload_id, customer_id, workload_type, device_class
), bills as (
    select workload_id, sum(device_seconds)::bigint as device_seconds, sum(amount_usd_micros)::bigint as amount_usd_micros
    from billing_usage
    group by 1
)
select steps.*, extract(epoch from started_at - created_at) * 1000 as waited_ms, extract(epoch from ended_at - started_at) * 1000 as ran_ms,
       bills.device_seconds, bills.amount_usd_micros
from steps
left join bills using (workload_id);
comment on view workload_timeline is 'A workload a row: when it was created, queued, placed, started, ended, and what was billed; null is not yet.';

create view revenue_by_facility_1h as
with rates as (
    select time_bucket('1 hour', observed_at) as time, facility_id, device_class, mode,
           avg(revenue_usd_per_hour) as revenue, avg(energy_cost_usd_per_hour) as energy, avg(demand_cost_usd_per_hour) as demand,
           avg(wear_usd_per_hour) as wear
    from recommendations
    group by 1, 2, 3, 4
), devices_in_mode as (
    select c.time, c.facility_id, c.device_class, m.mode, sum(m.device_count) as device_count
    from clusters_1h c
    cross join lateral (values
        ('mining', c.mining_device_count), ('mining_eco', c.mining_eco_device_count), ('ai_inference', c.ai_inference_device_count),
        ('idle', c.idle_device_count), ('sleep', c.sleep_device_count)) as m (mode, device_count)
    group by 1, 2, 3, 4
), earned as (
    select time, facility_id, sum(d.device_count * r.revenue) as revenue_usd, sum(d.device_count * r.energy) as energy_cost_usd,
           sum(d.device_count * r.demand) as demand_cost_usd, sum(d.device_count * r.wear) as wear_usd
    from devices_in_mode d
    join rates r using (time, facility_id, device_class, mode)
    group by 1, 2
), settled as (
    select hour_start as time, facility_id, sum(realised_usd_micros) / 1e6 as realised_usd,
           sum(switch_cost_usd_micros) / 1e6 as switch_cost_usd
    from regrets
    group by 1, 2
), billed as (
    select time_bucket('1 hour', interval_start) as time, facility_id, sum(amount_usd_micros) / 1e6 as billed_usd
    from billing_usage
    group by 1, 2
)
select time, facility_id, revenue_usd, energy_cost_usd, demand_cost_usd, wear_usd,
       revenue_usd - energy_cost_usd - demand_cost_usd - wear_usd as profit_usd, realised_usd::double precision as realised_usd,
       switch_cost_usd::double precision as switch_cost_usd, billed_usd::double precision as billed_usd
from earned
full join settled using (time, facility_id)
full join billed using (time, facility_id);
comment on view revenue_by_facility_1h is
    'An hour of a site: devices in each mode (mean of the telemetry) times the mean rates of that mode; beside it what was settled '
    '(regrets, switch costs taken off) and billed to customers. The hour that runs is shown at its rate so far, as if it were full.';

