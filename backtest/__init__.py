"""Backtests: policies replayed over recorded markets, beside the best that could have been done."""
