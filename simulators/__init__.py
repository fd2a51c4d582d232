"""Simulators: recorded and synthetic markets, and fleets of any size, on the real topics.

They know no other process: what they learn and tell goes through Kafka.
"""
