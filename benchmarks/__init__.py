"""What Pulselake reaches on this machine, measured beside references in the same run."""
