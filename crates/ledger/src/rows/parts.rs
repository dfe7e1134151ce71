//! The stored tables behind each table of rows: one for all columns, or a second one beside it for those of state.

use super::{Column, Table, Type};

/// State that is stored in a table of its own.
struct Beside {
    table: &'static str,
    /// The view that joins rows and their state.
    view: &'static str,
    /// Frozen columns that are stored there, too, for its indexes.
    with: &'static [&'static str],
}

/// A table as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name of the stored table.
    pub name: &'static str,
    /// The columns, `seq` first; each with its place in a row: 0 is `seq`, 1 is `id`, then come [`super::Row::values`].
    pub columns: Vec<(usize, Column)>,
}

impl Part {
    /// The columns without their places.
    pub fn columns(&self) -> impl Iterator<Item = Column> {
        self.columns.iter().map(|(_, column)| *column)
    }
}

impl Table {
    /// The state that is stored beside this table. Each event is marked soon after it is written; so the mark writes a
    /// narrow row, and not the event's body once more.
    fn beside(self) -> Option<Beside> {
        (self == Table::Outgoing).then_some(Beside { table: "outbox", view: "outgoing", with: &["merchant"] })
    }

    /// The stored table in which this table's state is updated.
    pub fn state_name(self) -> &'static str {
        self.beside().map_or(self.name(), |beside| beside.table)
    }

    /// The relation from which whole rows are selected: the stored table, or a view.
    pub fn source(self) -> &'static str {
        self.beside().map_or(self.name(), |beside| beside.view)
    }

    /// The stored tables of this table: each of its rows is one row in each of them, by `seq`.
    pub fn parts(self) -> Vec<Part> {
        let columns = self.columns().enumerate();
        let Some(beside) = self.beside() else { return vec![Part { name: self.name(), columns: columns.collect() }] };
        let (frozen, mut state): (Vec<_>, Vec<_>) = columns.partition(|(at, _)| *at < 2 + self.frozen().len());
        let with = frozen.iter().filter(|(at, column)| *at == 0 || beside.with.contains(&column.name)).copied();
        state.splice(..0, with);
        vec![Part { name: self.name(), columns: frozen }, Part { name: beside.table, columns: state }]
    }

    /// `seq`, `id`, frozen and state columns, in the order of a row.
    pub fn columns(self) -> impl Iterator<Item = Column> {
        let head = [("seq", Type::Int), ("id", Type::Text)];
        let head = head.into_iter().map(|(name, ty)| Column { name, ty, optional: false });
        head.chain(self.frozen().iter().copied()).chain(self.state().iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(part: &Part) -> Vec<(usize, &str)> {
        part.columns.iter().map(|(at, column)| (*at, column.name)).collect()
    }

    #[test]
    fn a_mark_of_an_event_writes_neither_its_body_nor_what_the_chain_covers() {
        let parts = Table::Outgoing.parts();
        assert_eq!(parts.iter().map(|part| part.name).collect::<Vec<_>>(), ["events", "outbox"]);
        let frozen = ["seq", "id", "kind", "transaction_id", "order_id", "merchant", "body", "created_at"];
        assert_eq!(names(&parts[0]), frozen.into_iter().enumerate().collect::<Vec<_>>());
        let state = [(0, "seq"), (5, "merchant"), (8, "state"), (9, "attempts"), (10, "round")];
        let state = [&state[..], &[(11, "next_attempt_at"), (12, "last_status"), (13, "delivered_at")]].concat();
        assert_eq!(names(&parts[1]), state);
    }

    #[test]
    fn other_tables_are_stored_as_they_are() {
        for table in Table::ALL.iter().filter(|table| **table != Table::Outgoing) {
            let parts = table.parts();
            assert_eq!((parts.len(), parts[0].name), (1, table.name()));
            assert!(parts[0].columns().eq(table.columns()));
            assert_eq!((table.source(), table.state_name()), (table.name(), table.name()));
        }
    }
}
