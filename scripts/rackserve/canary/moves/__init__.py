"""What is done to balancers while a release is tried: shares of the traffic, engines from track to track, the heartbeat."""
