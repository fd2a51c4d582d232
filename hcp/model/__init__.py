"""Pure values: units, facilities, devices, markets, workloads, commands, telemetry.

No I/O, no clock, no randomness, no environment, no logging: a value means the same live, in replay and in a test.
"""
