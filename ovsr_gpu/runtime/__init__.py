"""How the method runs: devices, copies, threads, timing."""
