"""A stand-in for Terraform's Google provider: its real schema, no cloud. `terraform` itself is the real one."""
