"""The probe in TensorFlow: products by nested tapes, compiled once; every variable that the loss writes is put back."""
