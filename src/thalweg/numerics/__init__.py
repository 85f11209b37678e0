"""Pure functions of products, vectors and matrices: no model, no optimizer."""
