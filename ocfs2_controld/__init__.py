"""Which mount groups this node is in, and who is alive in each: ocfs2_controld, a pure mind in a thin shell."""
