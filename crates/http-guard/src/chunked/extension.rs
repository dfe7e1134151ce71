//! Chunk extensions, byte by byte: `;` and a token, or a token, `=`, and a token or a quoted string
//! (RFC 9112, section 7.1.1).
//!
//! The blanks that the grammar tolerates around its signs are refused: senders must not write them, and servers skip
//! them differently. A quoted string may hold what a header's value may, except for the tab.

use super::super::bytes::{TOKEN, class};
use super::super::violation::Violation;

/// What was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// A whole extension, or the chunk's size: another extension may begin.
    Whole,
    /// The sign that begins an extension.
    Begun,
    /// A byte of the extension's name.
    Name,
    /// The sign behind the name.
    Equals,
    /// A byte of a value that is a token.
    Token,
    /// The quote that begins a quoted string, or a byte of it.
    Quoted,
    /// A backslash in a quoted string.
    Escape,
}

impl Extension {
    /// Whether the line may end here.
    pub fn may_end(self) -> bool {
        matches!(self, Extension::Whole | Extension::Name | Extension::Token)
    }

    /// The state after one more byte.
    ///
    /// # Errors
    ///
    /// The byte may not follow.
    pub fn next(self, byte: u8) -> Result<Extension, Violation> {
        use Extension::{Begun, Equals, Escape, Name, Quoted, Token, Whole};
        let token = class(byte) & TOKEN != 0;
        match (self, byte) {
            (_, b'\n') => Err(Violation::BareLf),
            (_, byte) if byte.is_ascii_control() => Err(Violation::ChunkExtension),
            (Whole | Name | Token, b';') => Ok(Begun),
            (Begun | Name, _) if token => Ok(Name),
            (Name, b'=') => Ok(Equals),
            (Equals, b'"') => Ok(Quoted),
            (Equals | Token, _) if token => Ok(Token),
            (Quoted, b'"') => Ok(Whole),
            (Quoted, b'\\') => Ok(Escape),
            (Quoted | Escape, _) => Ok(Quoted),
            _ => Err(Violation::ChunkExtension),
        }
    }
}
