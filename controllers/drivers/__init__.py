"""Drivers of hardware behind the ports; each sits the same exam."""
