//! Names of metrics, and a table of them.

/// The name, labels and help of a metric.
#[derive(Debug)]
pub struct Name {
    /// The full name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The names of the labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// The help text.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets, and their sum.
    Histogram,
}

/// Defines a constant for each metric, and `ALL` of them in their order: `ID KIND "name" ["label", …] "help";`. Names
/// are written without `tollgate_`.
#[macro_export]
macro_rules! metric_names {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Name = Name {
            name: concat!("tollgate_", $name),
            kind: $crate::metric::Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*
        /// Every metric.
        pub const ALL: &[&Name] = &[$(&$id),*];
    };
}
