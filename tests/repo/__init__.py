"""The repository itself: who imports whom, what the wheel holds, whether the documents tell the truth."""
