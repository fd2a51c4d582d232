-- Devices that a workload holds now, by the last event of its life; its requests for inference go to the first.
alter table workloads add column device_ids text[] not null default '{}';
