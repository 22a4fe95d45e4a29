"""The probe in torch: what multiplies by a Hessian, and what leaves no trace of it in a training."""
