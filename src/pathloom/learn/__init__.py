"""Learning: models, trainers, learning-rate schedules."""
