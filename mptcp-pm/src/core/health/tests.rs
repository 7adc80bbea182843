//! The health of ways, over random histories.
