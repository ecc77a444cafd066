"""Who listens to the work: Prometheus metrics and OpenTelemetry traces. Nothing below knows of either."""
