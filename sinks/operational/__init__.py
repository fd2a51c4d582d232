"""Workloads' events and usage into the gateway's database: what customers read there, exactly once by offset."""
