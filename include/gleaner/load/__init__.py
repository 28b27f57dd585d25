"""The load stage: chunks and vectors into `tenant_knowledge`, exactly once."""
