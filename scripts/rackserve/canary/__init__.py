"""How a new release is tried on a share of the traffic, judged, widened and taken back."""
