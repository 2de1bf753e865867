"""What the emulator runs: calls of the kernels' public functions."""
