"""Bad and odd inputs, as a table that can be run on several libraries."""
