"""Agents' tables made anew from the topics that fed them, and held to what the agents have."""
