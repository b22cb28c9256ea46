"""AWS on loopback for development and tests: moto, what moto lacks, and nodes that join the cluster."""
