//! Conversions on bytes of this kernel.
