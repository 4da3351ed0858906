"""Exam manifests and their durable publication to the national index."""
