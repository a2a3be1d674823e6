"""Runs that can be trusted: what is stopped, repeated or copied changes no number."""
