"""Histogram buckets, in seconds: from what a decision costs on loopback up to what no training loop would wait for."""

# A decision is promised in 5 ms (service side) and a client waits 250 ms at most; both are bucket edges, so that rules
# can count "fast enough" exactly instead of interpolating.
LATENCY_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.010, 0.025, 0.050, 0.100, 0.250, 0.500, 1.0)
# The law itself is pure arithmetic: tens of microseconds.
COMPUTE_SECONDS = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 0.001, 0.005, 0.025)
