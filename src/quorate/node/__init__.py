"""A node: the pure core composed through the ports into replica, coordinator and background work."""
