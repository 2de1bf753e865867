"""What a run writes: one module a format, all behind `record.Writer`; `results.Results` runs them together."""
