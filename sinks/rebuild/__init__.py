"""Databases made anew from topics alone, and held to the live ones."""
