"""The changes, each applied once and never altered afterwards."""
