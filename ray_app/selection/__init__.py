"""Selection live: candidates trained stage by stage on the cluster, as a policy of ``analysis.selection`` decides."""
