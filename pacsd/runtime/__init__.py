"""What every daemon needs: listening, threads, logs, metrics, readiness, start and stop in order."""
