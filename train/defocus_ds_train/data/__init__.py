"""Training data, in the order it flows: cut or decoded once, cached, chosen, batched."""
