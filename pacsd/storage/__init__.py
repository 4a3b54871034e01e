"""The file servers: pools, staging, reading stored objects and converting them; see docs/architecture.md."""
