"""Simulated ASIC miners: one process, one loopback address a miner, the vendors' own protocols; faults on request."""
