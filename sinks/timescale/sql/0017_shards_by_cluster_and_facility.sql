-- A cluster's hour is 60 rows of each of its shards among the 115,000 of the whole fleet's day: 12 ms to look through, under 1 ms by index.
-- Rows are added once a shard and minute and then updated in place, which touches no index.
create index shards_1min_cluster on shards_1min (cluster_id, time);
create index shards_1min_facility on shards_1min (facility_id, time);
