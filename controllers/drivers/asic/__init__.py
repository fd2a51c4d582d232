"""Drivers of ASIC miners over pyasic_rs, and over pyasic for what it alone serves."""
