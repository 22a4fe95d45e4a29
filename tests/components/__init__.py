"""The real things that tests talk to, as processes that can be killed and brought back."""
