"""The probe in JAX: products by forward over reverse, compiled once; nothing to leave a trace in."""
