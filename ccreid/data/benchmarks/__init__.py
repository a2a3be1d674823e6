"""One file per benchmark: its layout, counts, protocols and terms."""
