"""Is this machine fit: packages, GPU, tracking store, disk. `doctor` gathers the checks."""
