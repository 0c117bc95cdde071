"""Does a canary answer at all, in every way that clients ask? Asked through a balancer, on the forced route, before any user is."""
