//! Violations: the rules that a refused request can break, each with the status of the answer and a word for the access
//! log. Metrics count by the reason of the answer, of which there are fewer.
//!
//! A word is stable and names the rule, so that an operator who sees a refusal can look it up. Where a head breaks
//! several rules, the first one that validation comes to is reported.

/// The rule that a request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A line that ends in LF alone.
    BareLf,
    /// A CR that no LF follows.
    BareCr,
    /// NUL or another control character.
    ControlByte,
    /// More than one empty line before the request line.
    EmptyLines,
    /// The request line is not three parts with one space between them.
    RequestLine,
    /// The method is not a token, or too long.
    Method,
    /// `CONNECT`: the gateway is not a forward proxy.
    Connect,
    /// The version is neither `HTTP/1.0` nor `HTTP/1.1`.
    Version,
    /// A byte that no target may have: a space, a quote, a fragment, or one beyond ASCII.
    TargetByte,
    /// The target is neither a path nor `http://` or `https://` with a valid authority, nor `*` of `OPTIONS`.
    TargetForm,
    /// The target is longer than `uri_max`.
    TargetTooLong,
    /// The head is longer than `head_max`.
    HeadTooLarge,
    /// There are more headers than `headers_max`.
    TooManyHeaders,
    /// A header that continues in a line that begins with a blank.
    ObsFold,
    /// A header without a colon.
    ColonMissing,
    /// A header's name that is empty or not a token, such as with a blank before the colon.
    HeaderName,
    /// A name that some servers take for a framing or forwarding header: `Content_Length`.
    LookalikeName,
    /// No `Host`.
    HostMissing,
    /// Several `Host`s.
    HostTwice,
    /// `Host` is not a valid authority.
    HostInvalid,
    /// `Host` differs from the target.
    HostMismatch,
    /// Several `Content-Length`s.
    ContentLengthTwice,
    /// `Content-Length` is not one to eighteen digits.
    ContentLengthInvalid,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoFramings,
    /// Several `Transfer-Encoding`s.
    TransferEncodingTwice,
    /// `Transfer-Encoding` is not `chunked`.
    TransferEncodingInvalid,
    /// `Transfer-Encoding` in HTTP/1.0.
    TransferEncodingVersion,
    /// A body where it has no meaning: `GET`, `HEAD`, `TRACE`.
    UnexpectedBody,
    /// `Connection` is not a list of tokens.
    ConnectionInvalid,
    /// `Connection` lists more than nine options.
    ConnectionTooLong,
    /// `Connection` names more than what belongs to a connection by definition.
    ConnectionNominates,
    /// Several `Upgrade`s.
    UpgradeTwice,
    /// `Upgrade: websocket` with a body, with another method than `GET`, or without `upgrade` in `Connection`.
    UpgradeInvalid,
    /// `Expect` is not `100-continue`, or there are several: 417.
    Expect,
    /// HTTP/2: a connection header of HTTP/1.1.
    ConnectionHeader,
    /// HTTP/2: `TE` is not `trailers`.
    Te,
    /// `%2F`, `%5C` or `;` make a dot segment to some servers, or `%00` an end. HTTP/2: the path is neither
    /// absolute nor `*` of `OPTIONS`.
    Path,
    /// A chunk's size is not one to fifteen hexadecimal digits and CRLF.
    ChunkSize,
    /// A chunk's extension is malformed, or longer than 256 bytes.
    ChunkExtension,
    /// A chunk does not end in CRLF where its size says.
    ChunkEnd,
    /// The lines between chunks outweigh the chunks.
    ChunkOverhead,
    /// A line of the trailers is malformed.
    Trailer,
    /// A trailer that frames, routes or authenticates.
    ForbiddenTrailer,
    /// The trailers are too many or too long.
    TrailersTooLarge,
}

impl Violation {
    /// All violations, in the order of their numbers.
    pub const ALL: [Violation; 44] = {
        use Violation::*;
        [
            BareLf,
            BareCr,
            ControlByte,
            EmptyLines,
            RequestLine,
            Method,
            Connect,
            Version,
            TargetByte,
            TargetForm,
            TargetTooLong,
            HeadTooLarge,
            TooManyHeaders,
            ObsFold,
            ColonMissing,
            HeaderName,
            LookalikeName,
            HostMissing,
            HostTwice,
            HostInvalid,
            HostMismatch,
            ContentLengthTwice,
            ContentLengthInvalid,
            TwoFramings,
            TransferEncodingTwice,
            TransferEncodingInvalid,
            TransferEncodingVersion,
            UnexpectedBody,
            ConnectionInvalid,
            ConnectionTooLong,
            ConnectionNominates,
            UpgradeTwice,
            UpgradeInvalid,
            Expect,
            ConnectionHeader,
            Te,
            Path,
            ChunkSize,
            ChunkExtension,
            ChunkEnd,
            ChunkOverhead,
            Trailer,
            ForbiddenTrailer,
            TrailersTooLarge,
        ]
    };

    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Violation::Connect => 405,
            Violation::TargetTooLong => 414,
            Violation::Expect => 417,
            Violation::HeadTooLarge | Violation::TooManyHeaders | Violation::TrailersTooLarge => 431,
            Violation::Version => 505,
            _ => 400,
        }
    }

    /// The word in the access log.
    pub fn word(self) -> &'static str {
        match self {
            Violation::BareLf => "bare_lf",
            Violation::BareCr => "bare_cr",
            Violation::ControlByte => "control_byte",
            Violation::EmptyLines => "empty_lines",
            Violation::RequestLine => "request_line",
            Violation::Method => "method",
            Violation::Connect => "connect",
            Violation::Version => "version",
            Violation::TargetByte => "target_byte",
            Violation::TargetForm => "target_form",
            Violation::TargetTooLong => "target_too_long",
            Violation::HeadTooLarge => "head_too_large",
            Violation::TooManyHeaders => "too_many_headers",
            Violation::ObsFold => "obs_fold",
            Violation::ColonMissing => "colon_missing",
            Violation::HeaderName => "header_name",
            Violation::LookalikeName => "lookalike_name",
            Violation::HostMissing => "host_missing",
            Violation::HostTwice => "host_twice",
            Violation::HostInvalid => "host_invalid",
            Violation::HostMismatch => "host_mismatch",
            Violation::ContentLengthTwice => "content_length_twice",
            Violation::ContentLengthInvalid => "content_length_invalid",
            Violation::TwoFramings => "content_length_and_transfer_encoding",
            Violation::TransferEncodingTwice => "transfer_encoding_twice",
            Violation::TransferEncodingInvalid => "transfer_encoding_invalid",
            Violation::TransferEncodingVersion => "transfer_encoding_version",
            Violation::UnexpectedBody => "unexpected_body",
            Violation::ConnectionInvalid => "connection_invalid",
            Violation::ConnectionTooLong => "connection_too_long",
            Violation::ConnectionNominates => "connection_nominates",
            Violation::UpgradeTwice => "upgrade_twice",
            Violation::UpgradeInvalid => "upgrade_invalid",
            Violation::Expect => "expect",
            Violation::ConnectionHeader => "connection_header",
            Violation::Te => "te",
            Violation::Path => "path",
            Violation::ChunkSize => "chunk_size",
            Violation::ChunkExtension => "chunk_extension",
            Violation::ChunkEnd => "chunk_end",
            Violation::ChunkOverhead => "chunk_overhead",
            Violation::Trailer => "trailer",
            Violation::ForbiddenTrailer => "forbidden_trailer",
            Violation::TrailersTooLarge => "trailers_too_large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_stand_in_the_order_of_their_numbers_and_have_words_of_their_own() {
        let mut words = std::collections::BTreeSet::new();
        for (i, fault) in Violation::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, i);
            assert!(words.insert(fault.word()), "{fault:?}");
            assert!(matches!(fault.status(), 400 | 405 | 414 | 417 | 431 | 505));
        }
    }
}
