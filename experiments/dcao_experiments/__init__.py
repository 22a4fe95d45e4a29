"""Workloads, the demo and the experiments that DCAO's defaults rest on."""
