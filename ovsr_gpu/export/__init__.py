"""Formats: those written image by image during a run, and those made afterwards from its store."""
