"""NumPy's arrays: the plainest there are, beside which the other frameworks' are tested."""
