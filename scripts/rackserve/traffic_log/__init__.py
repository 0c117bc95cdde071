"""The service on a balancer that keeps HAProxy's request lines and turns them into metrics. Knows no other package of ours."""
