//! What a metric is called, and a table of them.

/// A metric's name, labels and help.
#[derive(Debug)]
pub struct Name {
    /// Full name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Label names, in the order of the values.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts in buckets, and their sum.
    Histogram,
}

/// A constant for each metric, and `ALL` of them in their order: `ID KIND "name" ["label", …] "help";`. Names are written
/// without `tollgate_`.
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
