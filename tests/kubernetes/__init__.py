"""The manifests on a real node of the oldest Kubernetes that they are written for."""
