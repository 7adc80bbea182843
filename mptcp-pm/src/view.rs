//! What people and machines get to see.
pub mod connections;
pub mod event;
pub mod figures;
pub mod openmetrics;
pub mod paths;
pub mod status;
pub mod top;
