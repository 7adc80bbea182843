//! What people and machines get to see.
pub mod connections;
pub mod event;
pub mod status;
