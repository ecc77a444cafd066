"""Flask blueprints: the HTTP doors."""
