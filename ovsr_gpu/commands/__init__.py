"""The commands of `ovsr`, one a file."""
