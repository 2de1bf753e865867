"""The commands of `ovsr`, one module each."""
