-- Who reported, and what each shard drew and made by minute and by hour. Triggers keep both, in the transaction that stores the
-- readings and from the rows really stored: what is replayed is not counted twice, whoever writes. Both editions have it.
-- A tick is one time at which a shard reported; its devices come in one statement. What is there already is taken in.
create table devices (
    device_id text primary key,
    facility_id text not null,
    cluster_id text not null,
    shard_id text not null,
    device_class text not null,
    kind text not null check (kind in ('gpu', 'asic')),
    first_observed_at timestamptz not null
);
create table shards_1min (
    time timestamptz not null,
    shard_id text not null,
    cluster_id text not null,
    facility_id text not null,
    device_class text not null,
    tick_count bigint not null,
    reading_count bigint not null,
    mining_count bigint not null,
    mining_eco_count bigint not null,
    ai_inference_count bigint not null,
    idle_count bigint not null,
    sleep_count bigint not null,
    power_watts_sum double precision not null,
    power_watts_count bigint not null,
    hash_rate_th_per_s_sum double precision not null,
    hash_rate_th_per_s_count bigint not null,
    hash_rate_mh_per_s_sum double precision not null,
    hash_rate_mh_per_s_count bigint not null,
    tokens_per_s_sum double precision not null,
    tokens_per_s_count bigint not null,
    temperature_celsius_max double precision
) with (fillfactor = 50);
select create_hypertable('shards_1min', 'time', chunk_time_interval => interval '1 day', create_default_indexes => false);
create unique index shards_1min_bucket on shards_1min (shard_id, time);
create table shards_1h (
    time timestamptz not null,
    shard_id text not null,
    cluster_id text not null,
    facility_id text not null,
    device_class text not null,
    tick_count bigint not null,
    reading_count bigint not null,
    mining_count bigint not null,
    mining_eco_count bigint not null,
    ai_inference_count bigint not null,
    idle_count bigint not null,
    sleep_count bigint not null,
    power_watts_sum double precision not null,
    power_watts_count bigint not null,
    hash_rate_th_per_s_sum double precision not null,
    hash_rate_th_per_s_count bigint not null,
    hash_rate_mh_per_s_sum double precision not null,
    hash_rate_mh_per_s_count bigint not null,
    tokens_per_s_sum double precision not null,
    tokens_per_s_count bigint not null,
    temperature_celsius_max double precision
) with (fillfactor = 50);
select create_hypertable('shards_1h', 'time', chunk_time_interval => interval '30 days', create_default_indexes => false);
create unique index shards_1h_bucket on shards_1h (shard_id, time);

create function gpu_telemetry_rolled_up() returns trigger language plpgsql as $$
begin
    insert into devices (device_id, facility_id, cluster_id, shard_id, device_class, kind, first_observed_at)
    select device_id, facility_id, cluster_id, shard_id, device_class, 'gpu', min(observed_at)
    from fresh
    where not exists (select from devices known where known.device_id = fresh.device_id)
    group by 1, 2, 3, 4, 5
    order by 1
    on conflict do nothing;

    with ticks as (
        select observed_at, shard_id, any_value(cluster_id) as cluster_id, any_value(facility_id) as facility_id,
               any_value(device_class) as device_class, count(*) as reading_count,
               count(*) filter (where mode = 'mining') as mining_count,
               count(*) filter (where mode = 'mining_eco') as mining_eco_count,
               count(*) filter (where mode = 'ai_inference') as ai_inference_count,
               count(*) filter (where mode = 'idle') as idle_count,
               count(*) filter (where mode = 'sleep') as sleep_count,
               coalesce(sum(power_watts), 0) as power_watts_sum, count(power_watts) as power_watts_count,
               0::double precision as hash_rate_th_per_s_sum, 0::bigint as hash_rate_th_per_s_count,
               coalesce(sum(hash_rate_mh_per_s), 0) as hash_rate_mh_per_s_sum, count(hash_rate_mh_per_s) as hash_rate_mh_per_s_count,
               coalesce(sum(tokens_per_s), 0) as tokens_per_s_sum, count(tokens_per_s) as tokens_per_s_count,
               max(temperature_celsius) as temperature_celsius_max
        from fresh
        group by 1, 2
    ), minutes (time, shard_id, cluster_id, facility_id, device_class, tick_count, reading_count, mining_count, mining_eco_count, ai_inference_count, idle_count, sleep_count, power_watts_sum, power_watts_count, hash_rate_th_per_s_sum, hash_rate_th_per_s_count, hash_rate_mh_per_s_sum, hash_rate_mh_per_s_count, tokens_per_s_sum, tokens_per_s_count, temperature_celsius_max) as (
        select time_bucket('1 minute', observed_at), shard_id, any_value(cluster_id), any_value(facility_id), any_value(device_class),
               count(*), sum(reading_count), sum(mining_count), sum(mining_eco_count), sum(ai_inference_count), sum(idle_count), sum(sleep_count), sum(power_watts_sum), sum(power_watts_count), sum(hash_rate_th_per_s_sum), sum(hash_rate_th_per_s_count), sum(hash_rate_mh_per_s_sum), sum(hash_rate_mh_per_s_count), sum(tokens_per_s_sum), sum(tokens_per_s_count),
               max(temperature_celsius_max)
        from ticks
        group by 1, 2
        order by 2, 1
    ), in_minutes as (
        insert into shards_1min as kept select * from minutes
        on conflict (shard_id, time) do update set
            tick_count = kept.tick_count + excluded.tick_count,
            reading_count = kept.reading_count + excluded.reading_count,
            mining_count = kept.mining_count + excluded.mining_count,
            mining_eco_count = kept.mining_eco_count + excluded.mining_eco_count,
            ai_inference_count = kept.ai_inference_count + excluded.ai_inference_count,
            idle_count = kept.idle_count + excluded.idle_count,
            sleep_count = kept.sleep_count + excluded.sleep_count,
            power_watts_sum = kept.power_watts_sum + excluded.power_watts_sum,
            power_watts_count = kept.power_watts_count + excluded.power_watts_count,
            hash_rate_th_per_s_sum = kept.hash_rate_th_per_s_sum + excluded.hash_rate_th_per_s_sum,
            hash_rate_th_per_s_count = kept.hash_rate_th_per_s_count + excluded.hash_rate_th_per_s_count,
            hash_rate_mh_per_s_sum = kept.hash_rate_mh_per_s_sum + excluded.hash_rate_mh_per_s_sum,
            hash_rate_mh_per_s_count = kept.hash_rate_mh_per_s_count + excluded.hash_rate_mh_per_s_count,
            tokens_per_s_sum = kept.tokens_per_s_sum + excluded.tokens_per_s_sum,
            tokens_per_s_count = kept.tokens_per_s_count + excluded.tokens_per_s_count,
            temperature_celsius_max = greatest(kept.temperature_celsius_max, excluded.temperature_celsius_max)
    )
    insert into shards_1h as kept
    select time_bucket('1 hour', time), shard_id, any_value(cluster_id), any_value(facility_id), any_value(device_class),
           sum(tick_count), sum(reading_count), sum(mining_count), sum(mining_eco_count), sum(ai_inference_count), sum(idle_count), sum(sleep_count), sum(power_watts_sum), sum(power_watts_count), sum(hash_rate_th_per_s_sum), sum(hash_rate_th_per_s_count), sum(hash_rate_mh_per_s_sum), sum(hash_rate_mh_per_s_count), sum(tokens_per_s_sum), sum(tokens_per_s_count),
           max(temperature_celsius_max)
    from minutes
    group by 1, 2
    order by 2, 1
    on conflict (shard_id, time) do update set
        tick_count = kept.tick_count + excluded.tick_count,
        reading_count = kept.reading_count + excluded.reading_count,
        mining_count = kept.mining_count + excluded.mining_count,
        mining_eco_count = kept.mining_eco_count + excluded.mining_eco_count,
        ai_inference_count = kept.ai_inference_count + excluded.ai_inference_count,
        idle_count = kept.idle_count + excluded.idle_count,
        sleep_count = kept.sleep_count + excluded.sleep_count,
        power_watts_sum = kept.power_watts_sum + excluded.power_watts_sum,
        power_watts_count = kept.power_watts_count + excluded.power_watts_count,
        hash_rate_th_per_s_sum = kept.hash_rate_th_per_s_sum + excluded.hash_rate_th_per_s_sum,
        hash_rate_th_per_s_count = kept.hash_rate_th_per_s_count + excluded.hash_rate_th_per_s_count,
        hash_rate_mh_per_s_sum = kept.hash_rate_mh_per_s_sum + excluded.hash_rate_mh_per_s_sum,
        hash_rate_mh_per_s_count = kept.hash_rate_mh_per_s_count + excluded.hash_rate_mh_per_s_count,
        tokens_per_s_sum = kept.tokens_per_s_sum + excluded.tokens_per_s_sum,
        tokens_per_s_count = kept.tokens_per_s_count + excluded.tokens_per_s_count,
        temperature_celsius_max = greatest(kept.temperature_celsius_max, excluded.temperature_celsius_max);
    return null;
end
$$;
create trigger rolled_up after insert on gpu_telemetry referencing new table as fresh
for each statement execute function gpu_telemetry_rolled_up();
create temporary table backfill (like gpu_telemetry) on commit drop;
create trigger rolled_up after insert on backfill referencing new table as fresh
for each statement execute function gpu_telemetry_rolled_up();
insert into backfill select * from gpu_telemetry;
drop table backfill;

create function asic_telemetry_rolled_up() returns trigger language plpgsql as $$
begin
    insert into devices (device_id, facility_id, cluster_id, shard_id, device_class, kind, first_observed_at)
    select device_id, facility_id, cluster_id, shard_id, device_class, 'asic', min(observed_at)
    from fresh
    where not exists (select from devices known where known.device_id = fresh.device_id)
    group by 1, 2, 3, 4, 5
    order by 1
    on conflict do nothing;

    with ticks as (
        select observed_at, shard_id, any_value(cluster_id) as cluster_id, any_value(facility_id) as facility_id,
               any_value(device_class) as device_class, count(*) as reading_count,
               count(*) filter (where mode = 'mining') as mining_count,
               count(*) filter (where mode = 'mining_eco') as mining_eco_count,
               count(*) filter (where mode = 'ai_inference') as ai_inference_count,
               count(*) filter (where mode = 'idle') as idle_count,
               count(*) filter (where mode = 'sleep') as sleep_count,
               coalesce(sum(power_watts), 0) as power_watts_sum, count(power_watts) as power_watts_count,
               coalesce(sum(hash_rate_th_per_s), 0) as hash_rate_th_per_s_sum, count(hash_rate_th_per_s) as hash_rate_th_per_s_count,
               0::double precision as hash_rate_mh_per_s_sum, 0::bigint as hash_rate_mh_per_s_count,
               0::double precision as tokens_per_s_sum, 0::bigint as tokens_per_s_count,
               max(chip_temperature_celsius) as temperature_celsius_max
        from fresh
        group by 1, 2
    ), minutes (time, shard_id, cluster_id, facility_id, device_class, tick_count, reading_count, mining_count, mining_eco_count, ai_inference_count, idle_count, sleep_count, power_watts_sum, power_watts_count, hash_rate_th_per_s_sum, hash_rate_th_per_s_count, hash_rate_mh_per_s_sum, hash_rate_mh_per_s_count, tokens_per_s_sum, tokens_per_s_count, temperature_celsius_max) as (
        select time_bucket('1 minute', observed_at), shard_id, any_value(cluster_id), any_value(facility_id), any_value(device_class),
               count(*), sum(reading_count), sum(mining_count), sum(mining_eco_count), sum(ai_inference_count), sum(idle_count), sum(sleep_count), sum(power_watts_sum), sum(power_watts_count), sum(hash_rate_th_per_s_sum), sum(hash_rate_th_per_s_count), sum(hash_rate_mh_per_s_sum), sum(hash_rate_mh_per_s_count), sum(tokens_per_s_sum), sum(tokens_per_s_count),
               max(temperature_celsius_max)
        from ticks
        group by 1, 2
        order by 2, 1
    ), in_minutes as (
        insert into shards_1min as kept select * from minutes
        on conflict (shard_id, time) do update set
            tick_count = kept.tick_count + excluded.tick_count,
            reading_count = kept.reading_count + excluded.reading_count,
            mining_count = kept.mining_count + excluded.mining_count,
            mining_eco_count = kept.mining_eco_count + excluded.mining_eco_count,
            ai_inference_count = kept.ai_inference_count + excluded.ai_inference_count,
            idle_count = kept.idle_count + excluded.idle_count,
            sleep_count = kept.sleep_count + excluded.sleep_count,
            power_watts_sum = kept.power_watts_sum + excluded.power_watts_sum,
            power_watts_count = kept.power_watts_count + excluded.power_watts_count,
            hash_rate_th_per_s_sum = kept.hash_rate_th_per_s_sum + excluded.hash_rate_th_per_s_sum,
            hash_rate_th_per_s_count = kept.hash_rate_th_per_s_count + excluded.hash_rate_th_per_s_count,
            hash_rate_mh_per_s_sum = kept.hash_rate_mh_per_s_sum + excluded.hash_rate_mh_per_s_sum,
            hash_rate_mh_per_s_count = kept.hash_rate_mh_per_s_count + excluded.hash_rate_mh_per_s_count,
            tokens_per_s_sum = kept.tokens_per_s_sum + excluded.tokens_per_s_sum,
            tokens_per_s_count = kept.tokens_per_s_count + excluded.tokens_per_s_count,
            temperature_celsius_max = greatest(kept.temperature_celsius_max, excluded.temperature_celsius_max)
    )
    insert into shards_1h as kept
    select time_bucket('1 hour', time), shard_id, any_value(cluster_id), any_value(facility_id), any_value(device_class),
           sum(tick_count), sum(reading_count), sum(mining_count), sum(mining_eco_count), sum(ai_inference_count), sum(idle_count), sum(sleep_count), sum(power_watts_sum), sum(power_watts_count), sum(hash_rate_th_per_s_sum), sum(hash_rate_th_per_s_count), sum(hash_rate_mh_per_s_sum), sum(hash_rate_mh_per_s_count), sum(tokens_per_s_sum), sum(tokens_per_s_count),
           max(temperature_celsius_max)
    from minutes
    group by 1, 2
    order by 2, 1
    on conflict (shard_id, time) do update set
        tick_count = kept.tick_count + excluded.tick_count,
        reading_count = kept.reading_count + excluded.reading_count,
        mining_count = kept.mining_count + excluded.mining_count,
        mining_eco_count = kept.mining_eco_count + excluded.mining_eco_count,
        ai_inference_count = kept.ai_inference_count + excluded.ai_inference_count,
        idle_count = kept.idle_count + excluded.idle_count,
        sleep_count = kept.sleep_count + excluded.sleep_count,
        power_watts_sum = kept.power_watts_sum + excluded.power_watts_sum,
        power_watts_count = kept.power_watts_count + excluded.power_watts_count,
        hash_rate_th_per_s_sum = kept.hash_rate_th_per_s_sum + excluded.hash_rate_th_per_s_sum,
        hash_rate_th_per_s_count = kept.hash_rate_th_per_s_count + excluded.hash_rate_th_per_s_count,
        hash_rate_mh_per_s_sum = kept.hash_rate_mh_per_s_sum + excluded.hash_rate_mh_per_s_sum,
        hash_rate_mh_per_s_count = kept.hash_rate_mh_per_s_count + excluded.hash_rate_mh_per_s_count,
        tokens_per_s_sum = kept.tokens_per_s_sum + excluded.tokens_per_s_sum,
        tokens_per_s_count = kept.tokens_per_s_count + excluded.tokens_per_s_count,
        temperature_celsius_max = greatest(kept.temperature_celsius_max, excluded.temperature_celsius_max);
    return null;
end
$$;
create trigger rolled_up after insert on asic_telemetry referencing new table as fresh
for each statement execute function asic_telemetry_rolled_up();
create temporary table backfill (like asic_telemetry) on commit drop;
create trigger rolled_up after insert on backfill referencing new table as fresh
for each statement execute function asic_telemetry_rolled_up();
insert into backfill select * from asic_telemetry;
drop table backfill;

-- A shard's power is the mean of what was measured, times the devices that reported; other rates are sums of what was measured.
-- Device counts are means over the ticks of the bucket.
create view clusters_1min as
select time, facility_id, cluster_id, device_class,
       sum(reading_count::double precision / tick_count) as device_count,
       sum(mining_count::double precision / tick_count) as mining_device_count,
       sum(mining_eco_count::double precision / tick_count) as mining_eco_device_count,
       sum(ai_inference_count::double precision / tick_count) as ai_inference_device_count,
       sum(idle_count::double precision / tick_count) as idle_device_count,
       sum(sleep_count::double precision / tick_count) as sleep_device_count,
       sum(power_watts_sum / nullif(power_watts_count, 0) * reading_count / tick_count) as power_watts,
       sum(hash_rate_th_per_s_sum / tick_count) filter (where hash_rate_th_per_s_count > 0) as hash_rate_th_per_s,
       sum(hash_rate_mh_per_s_sum / tick_count) filter (where hash_rate_mh_per_s_count > 0) as hash_rate_mh_per_s,
       sum(tokens_per_s_sum / tick_count) filter (where tokens_per_s_count > 0) as tokens_per_s,
       max(temperature_celsius_max) as temperature_celsius_max,
       sum(reading_count)::bigint as reading_count
from shards_1min
group by 1, 2, 3, 4;
create view clusters_1h as
select time, facility_id, cluster_id, device_class,
       sum(reading_count::double precision / tick_count) as device_count,
       sum(mining_count::double precision / tick_count) as mining_device_count,
       sum(mining_eco_count::double precision / tick_count) as mining_eco_device_count,
       sum(ai_inference_count::double precision / tick_count) as ai_inference_device_count,
       sum(idle_count::double precision / tick_count) as idle_device_count,
       sum(sleep_count::double precision / tick_count) as sleep_device_count,
       sum(power_watts_sum / nullif(power_watts_count, 0) * reading_count / tick_count) as power_watts,
       sum(hash_rate_th_per_s_sum / tick_count) filter (where hash_rate_th_per_s_count > 0) as hash_rate_th_per_s,
       sum(hash_rate_mh_per_s_sum / tick_count) filter (where hash_rate_mh_per_s_count > 0) as hash_rate_mh_per_s,
       sum(tokens_per_s_sum / tick_count) filter (where tokens_per_s_count > 0) as tokens_per_s,
       max(temperature_celsius_max) as temperature_celsius_max,
       sum(reading_count)::bigint as reading_count
from shards_1h
group by 1, 2, 3, 4;
