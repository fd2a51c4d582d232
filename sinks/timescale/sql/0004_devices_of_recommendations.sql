-- A recommendation carries the devices it was made for: what there was to move, and up to which state record.
alter table recommendations add column resource_state_offset bigint;
alter table recommendations add column stale_count bigint not null default 0;
alter table recommendations add column movable_count bigint not null default 0;
alter table recommendations add column switching_count bigint not null default 0;
alter table recommendations add column epoch_sum bigint not null default 0;
