"""Recorded decisions taken again: recommendations of the past through the pure streams, by the same rules or others."""
