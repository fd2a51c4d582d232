-- What a recommendation knew of the day-ahead market: the hour that its energy price is for, and the four after.
alter table recommendations add column day_ahead_0h_usd_per_mwh double precision;
alter table recommendations add column day_ahead_1h_usd_per_mwh double precision;
alter table recommendations add column day_ahead_2h_usd_per_mwh double precision;
alter table recommendations add column day_ahead_3h_usd_per_mwh double precision;
alter table recommendations add column day_ahead_4h_usd_per_mwh double precision;
