"""Sheets on which people compare the answers of two models, and what they say when they return."""
