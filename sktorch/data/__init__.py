"""How X and y become batches."""
