-- The price at which a mode's score overtakes comes with the score: joining for it by time found a row for each price of that instant.
create or replace view profitability_by_class as
select distinct on (facility_id, device_class, mode)
       facility_id, device_class, mode, profit_usd_per_hour, revenue_usd_per_hour, energy_cost_usd_per_hour,
       best_mode, confidence, observed_at, recommendation_id, break_even_usd_per_mwh
from recommendations
order by facility_id, device_class, mode, observed_at desc, kafka_offset desc;
