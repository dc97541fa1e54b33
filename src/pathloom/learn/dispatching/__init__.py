"""Dispatching learned from a constraint solver.

After P. Tassel, M. Gebser, K. Schekotihin, "An End-to-End Reinforcement Learning Approach for Job-Shop Scheduling
Problems Based on Constraint Programming", ICAPS 2023. `policy` is the network, `inference` schedules shops with it,
`teacher` lets CP-SAT improve the rest of a schedule, `trainer` learns from that, `card` writes and reads checkpoints,
`shops` generates what is trained on. Import the modules themselves: this package imports nothing, so that planning
works without PyTorch.
"""
