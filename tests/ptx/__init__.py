"""An emulator of PTX: it runs the compiled Triton kernels on the CPU and finds their races. See README.md."""
