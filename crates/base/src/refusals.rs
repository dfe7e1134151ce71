//! An enum whose variants are the rows of a table of refusals.

/// Defines an enum of refusals. Each variant has its documentation, which is also its row in docs/errors.md, the status
/// of the answer, a stable word, and, where clients read one, a sentence for them.
///
/// The enum gets `ALL`, in the order of their numbers, and `row`.
#[macro_export]
macro_rules! refusals {
    (
        $(#[$about:meta])*
        pub enum $Refusals:ident {
            $( $(#[doc = $when:literal])+ $Refusal:ident = ($status:literal, $word:literal $(, $detail:literal)?), )+
        }
    ) => {
        $(#[$about])*
        pub enum $Refusals {
            $( $(#[doc = $when])+ $Refusal, )+
        }

        impl $Refusals {
            /// All of them, in the order of their numbers.
            pub const ALL: [$Refusals; [$($word),+].len()] = [$($Refusals::$Refusal),+];

            /// What the table says of it.
            pub const fn row(self) -> &'static $crate::refusals::Row {
                const ROWS: &[$crate::refusals::Row] = &[$(
                    $crate::refusals::Row {
                        status: $status,
                        word: $word,
                        detail: concat!($($detail)?),
                        when: concat!($($when),+),
                    },
                )+];
                &ROWS[self as usize]
            }
        }
    };
}

/// A row of a table of refusals.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Status of the answer.
    pub status: u16,
    /// The stable word.
    pub word: &'static str,
    /// What a client reads, if any.
    pub detail: &'static str,
    /// When the refusal happens: the documentation of its variant, with a space before each line.
    pub when: &'static str,
}

#[cfg(test)]
mod tests {
    crate::refusals! {
        /// Refusals of a test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Two {
            /// One line
            /// and another.
            First = (400, "first", "Say it otherwise."),
            /// No text.
            Second = (404, "second"),
        }
    }

    #[test]
    fn a_row_says_what_stands_at_its_variant() {
        assert_eq!(Two::ALL, [Two::First, Two::Second]);
        let (first, second) = (Two::First.row(), Two::Second.row());
        assert_eq!((first.status, first.word, first.detail), (400, "first", "Say it otherwise."));
        assert_eq!(first.when, " One line and another.");
        assert_eq!((second.status, second.word, second.detail), (404, "second", ""));
    }
}
