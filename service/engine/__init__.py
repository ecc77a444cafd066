"""Where torch lives: weights, model, the one thread that owns it, and the call both doors use."""
