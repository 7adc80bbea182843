//! The core against a model of the kernel, over thousands of random histories.
mod converge;
mod failures;
mod flaps;
mod kernel;
mod machine;
mod manage;
mod oracle;
mod ordering;
mod pace;
mod paths;
mod replays;
mod site;
mod unanswered;
mod users;
