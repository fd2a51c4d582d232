"""Replay: topics run again, elsewhere; the pure streams over recorded topics; what led to what."""
