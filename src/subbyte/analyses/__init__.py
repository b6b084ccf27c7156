"""Many runs: sweeps and clip searches."""
