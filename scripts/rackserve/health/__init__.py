"""The probe beside the engines of a node: looks, decides, tells the balancers. Knows no other package of ours."""
