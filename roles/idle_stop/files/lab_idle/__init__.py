"""Decides each minute whether this host is idle, and powers it off when it has been for long."""
