//! `gate`.
