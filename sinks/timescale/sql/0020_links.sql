-- What led to what, for `hcp trace`: ids and addresses that records name as their cause.
create index recommendations_address on recommendations (kafka_partition, kafka_offset);
create index recommendations_cause on recommendations (cause_partition, cause_offset);
create index market_prices_address on market_prices (kafka_partition, kafka_offset);
create index decisions_recommendation on decisions (recommendation_id);
create index decisions_cause on decisions (cause_partition, cause_offset);
create index outlooks_recommendation on outlooks (recommendation_id);
create index controller_commands_decision on controller_commands (decision_id);
create index switches_decision on switches (decision_id);
create index switches_device on switches (device_id, observed_at);
create index operator_orders_device on operator_orders (device_id, observed_at);
create index workload_events_workload on workload_events (workload_id);
create index allocation_requests_workload on allocation_requests (workload_id);
create index billing_usage_workload on billing_usage (workload_id);
create index billing_usage_address on billing_usage (kafka_partition, kafka_offset);
create index audit_events_subject on audit_events (subject);
create index alerts_subject on alerts (subject);
