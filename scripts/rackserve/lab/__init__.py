"""The rack lab: a small rack of systemd-nspawn nodes on the machine you sit at.

``rack`` is the front (up, down, status); ``nodes``, ``disks``, ``network``, ``bases`` and ``cgroups`` each know one
thing of this machine. What is true is read from the machine (mounts, control groups, interfaces), not from a record of
what was done, so a lab whose ``up`` was killed half-way can always be understood and taken over.
"""
