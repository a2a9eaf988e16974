"""Laws of the design: over random cases, under kills and damage."""
