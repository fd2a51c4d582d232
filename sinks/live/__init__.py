"""Changes as they happen, into Redis: published to who listens, and kept a while for who comes back."""
