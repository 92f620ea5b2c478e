"""The ``flow_rag_vla`` console command: one file a group of commands."""
