//! Which subflow plays which part.
