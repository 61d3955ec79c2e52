"""Weights of other libraries' networks, put into ours."""
