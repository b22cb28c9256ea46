"""Nodes that join: what an instance's user data tells it, and the Node a kubelet would then register."""
