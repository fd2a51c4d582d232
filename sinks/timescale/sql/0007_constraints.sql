-- What a policy that remembers weighed, and prices that were not believed.
alter table decisions add column advantage_usd double precision;
alter table decisions add column advantage_threshold_usd double precision;
alter table recommendations add column implausible text not null default '';
alter table alerts drop constraint alerts_alert_type_check, add constraint alerts_alert_type_check check (alert_type in ('device_overheated', 'device_silent', 'device_quarantined', 'mode_mismatch', 'switch_failed', 'price_stale', 'price_implausible'));
