-- Power targets (mining_eco), and the reasons of the constraint layer: what the enums say now.
alter table gpu_telemetry drop constraint gpu_telemetry_mode_check, add constraint gpu_telemetry_mode_check check (mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table asic_telemetry drop constraint asic_telemetry_mode_check, add constraint asic_telemetry_mode_check check (mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table recommendations drop constraint recommendations_best_mode_check, add constraint recommendations_best_mode_check check (best_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table recommendations drop constraint recommendations_runner_up_mode_check, add constraint recommendations_runner_up_mode_check check (runner_up_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table recommendations drop constraint recommendations_mode_check, add constraint recommendations_mode_check check (mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table decisions drop constraint decisions_reason_check, add constraint decisions_reason_check check (reason in ('gain_pays', 'already_best', 'gain_too_small', 'confidence_too_low', 'dwell', 'minimum_on_time', 'minimum_off_time', 'switch_pending', 'price_stale', 'telemetry_stale', 'no_devices', 'policy_never', 'power_cap', 'ramp_limit', 'switches_per_hour', 'wear_budget', 'loss_floor', 'price_implausible', 'safe_state'));
alter table decisions drop constraint decisions_from_mode_check, add constraint decisions_from_mode_check check (from_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table decisions drop constraint decisions_to_mode_check, add constraint decisions_to_mode_check check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table decisions drop constraint decisions_best_mode_check, add constraint decisions_best_mode_check check (best_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table decisions drop constraint decisions_runner_up_mode_check, add constraint decisions_runner_up_mode_check check (runner_up_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table controller_commands drop constraint controller_commands_from_mode_check, add constraint controller_commands_from_mode_check check (from_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table controller_commands drop constraint controller_commands_to_mode_check, add constraint controller_commands_to_mode_check check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table switches drop constraint switches_from_mode_check, add constraint switches_from_mode_check check (from_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table switches drop constraint switches_to_mode_check, add constraint switches_to_mode_check check (to_mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table switches drop constraint switches_mode_check, add constraint switches_mode_check check (mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table resource_states drop constraint resource_states_mode_check, add constraint resource_states_mode_check check (mode in ('mining', 'ai_inference', 'idle', 'sleep', 'mining_eco'));
alter table recommendations add column energy_interval_ms bigint;
