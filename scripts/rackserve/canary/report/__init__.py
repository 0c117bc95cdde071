"""What a run did and why, for a person who attaches it to a change ticket. Pure but for `write`: a record in, pages and plots out."""
