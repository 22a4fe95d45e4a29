"""Steps per second in each framework's loop, with the hook attached and a probe every 100 steps, beside without."""
