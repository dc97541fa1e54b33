"""Robot cells: transfer robots that carry items between ports, process stations and buffers.

The problem and the approach are those of H. Lee, C. Kim, M. Kim, "Reinforcement learning of display transfer robots in
glass flow control systems: a physical simulation-based approach" (arXiv 2310.07981, 2023): a simulated robot with real
speeds, and a policy learned in it that takes the place of hand-written flow control. The paper publishes neither code
nor parameters; cells, rules and figures here are our own.
"""
