"""A small Pub/Sub emulator that speaks gRPC to Google's own clients.

Google's emulator needs Java and knows no OIDC tokens and no filters; this one runs wherever the service's
tests run.  It keeps its state in memory.  `tools/localcloud/README.md` lists what it does and what it leaves out.
"""
