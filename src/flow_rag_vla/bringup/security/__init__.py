"""Who may do what in the graph: permission without keys, and the SROS2 policy that the declared graph makes."""
