-- What a workload's run is: its devices, price, place in the queue; and what is asked of the Resource Manager for it.
alter table workload_events drop constraint workload_events_event_type_check, add constraint workload_events_event_type_check check (event_type in ('workload.created', 'workload.queued', 'workload.placed', 'workload.starting', 'workload.started', 'workload.metered', 'workload.preempting', 'workload.preempted', 'workload.completed', 'workload.failed', 'workload.cancelled'));
alter table workload_events add column run_number bigint not null default 0;
alter table workload_events add column queue_position bigint;
alter table workload_events add column device_ids text not null default '';
alter table workload_events add column price_usd_micros_per_device_hour bigint;
alter table workload_events add column price_usd_micros_per_device_hour_max bigint;
alter table workload_events add column run_seconds_max bigint;
alter table workload_events add column checkpoint_seconds bigint;
alter table allocation_requests add column action text not null default 'reserve' check (action in ('reserve', 'release'));
alter table allocation_requests add column workload_type text not null default 'batch' check (workload_type in ('inference_real_time', 'inference_interactive', 'batch'));
alter table allocation_requests add column price_usd_micros_per_device_hour bigint not null default 0;
alter table allocation_requests add column run_seconds_max bigint;
alter table allocation_requests add column checkpoint_seconds bigint;
