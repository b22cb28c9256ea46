//! The types on the wire: what is read is written back, and hashes are those that Karpenter writes.

mod hash;
mod round_trip;
