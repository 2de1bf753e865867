"""How the method runs: devices, asynchronous copies, threads, timing."""
