//! What people and machines get to see.
pub mod status;
