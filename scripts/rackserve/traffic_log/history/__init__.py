"""What request lines tell afterwards, on the operator's machine: the timeline of one request, and where time went."""
