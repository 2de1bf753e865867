"""Formats: those written picture by picture during a run, and those made afterwards from its store."""
