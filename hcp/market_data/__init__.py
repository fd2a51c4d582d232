"""Recorded markets, read once for all who replay them: files to points, points to `MarketPrice` in event-time order."""
