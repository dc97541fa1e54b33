"""A shop floor at work: arrivals, noise, breakdowns, blocking with swaps, and who decides which job goes next."""
