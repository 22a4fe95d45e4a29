"""The proposal's propositions as experiments: rates of convergence, alignment with the top of the spectrum, regret."""
