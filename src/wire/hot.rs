//! Produce and Fetch answers, written as they arise.
