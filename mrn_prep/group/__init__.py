"""The group level: cohort tables and their page."""
