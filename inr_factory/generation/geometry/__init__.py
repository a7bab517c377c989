"""Geometry: meshes, point clouds, distances and their files."""
