"""Who listens to the work: logs, Prometheus metrics, OpenTelemetry traces. Nothing below knows of the last two."""
