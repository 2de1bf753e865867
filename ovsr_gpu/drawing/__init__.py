"""Drawing: overlays, label maps, colors and fonts."""
