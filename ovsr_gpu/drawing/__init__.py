"""From maps and names to an image."""
