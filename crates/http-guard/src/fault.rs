//! Why a request is not let in, in one table: the status of the answer and a word for the log. Metrics count by the
//! reason of the answer, of which there are fewer.
//!
//! A word is stable and names the rule that was broken, so that an operator who sees a refusal can look it up. Where a
//! head breaks several rules, the first one that its reader comes to is told.

/// The rule that a request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A line ends in LF alone.
    BareLf,
    /// A CR that no LF follows.
    BareCr,
    /// NUL or another control character.
    ControlByte,
    /// More than one empty line before the request line.
    EmptyLines,
    /// The request line is not three parts with one space between them.
    RequestLine,
    /// The method is no token, or too long.
    Method,
    /// `CONNECT`: this is no tunnel.
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
    /// A header goes on in a line that begins with a blank.
    ObsFold,
    /// A header without a colon.
    ColonMissing,
    /// A header's name is empty or no token; a blank before the colon is that too.
    HeaderName,
    /// A name that some servers take for a framing or forwarding header: `Content_Length`.
    LookalikeName,
    /// No `Host`.
    HostMissing,
    /// Several `Host`s.
    HostTwice,
    /// `Host` names no host.
    HostInvalid,
    /// `Host` is not what the target says.
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
    /// A body where none has a meaning: `GET`, `HEAD`, `TRACE`.
    UnexpectedBody,
    /// `Connection` is no list of tokens.
    ConnectionInvalid,
    /// `Connection` lists more than nine options.
    ConnectionTooLong,
    /// `Connection` names more than what is of a connection by definition.
    ConnectionNominates,
    /// Several `Upgrade`s.
    UpgradeTwice,
    /// `Upgrade: websocket` with a body, another method than `GET`, or nothing of it in `Connection`.
    UpgradeInvalid,
    /// `Expect` is not `100-continue`, or there are several: 417.
    Expect,
    /// HTTP/2: a header of HTTP/1.1's connections.
    ConnectionHeader,
    /// HTTP/2: `TE` is not `trailers`.
    Te,
    /// `%2F`, `%5C` or `;` make a dot segment to some servers, or `%00` an end. HTTP/2: the path is neither absolute nor
    /// `*` of `OPTIONS`.
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

impl Fault {
    /// All faults, in the order of their numbers.
    pub const ALL: [Fault; 44] = {
        use Fault::*;
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

    /// Status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Fault::Connect => 405,
            Fault::TargetTooLong => 414,
            Fault::Expect => 417,
            Fault::HeadTooLarge | Fault::TooManyHeaders | Fault::TrailersTooLarge => 431,
            Fault::Version => 505,
            _ => 400,
        }
    }

    /// What the log calls it.
    pub fn word(self) -> &'static str {
        match self {
            Fault::BareLf => "bare_lf",
            Fault::BareCr => "bare_cr",
            Fault::ControlByte => "control_byte",
            Fault::EmptyLines => "empty_lines",
            Fault::RequestLine => "request_line",
            Fault::Method => "method",
            Fault::Connect => "connect",
            Fault::Version => "version",
            Fault::TargetByte => "target_byte",
            Fault::TargetForm => "target_form",
            Fault::TargetTooLong => "target_too_long",
            Fault::HeadTooLarge => "head_too_large",
            Fault::TooManyHeaders => "too_many_headers",
            Fault::ObsFold => "obs_fold",
            Fault::ColonMissing => "colon_missing",
            Fault::HeaderName => "header_name",
            Fault::LookalikeName => "lookalike_name",
            Fault::HostMissing => "host_missing",
            Fault::HostTwice => "host_twice",
            Fault::HostInvalid => "host_invalid",
            Fault::HostMismatch => "host_mismatch",
            Fault::ContentLengthTwice => "content_length_twice",
            Fault::ContentLengthInvalid => "content_length_invalid",
            Fault::TwoFramings => "content_length_and_transfer_encoding",
            Fault::TransferEncodingTwice => "transfer_encoding_twice",
            Fault::TransferEncodingInvalid => "transfer_encoding_invalid",
            Fault::TransferEncodingVersion => "transfer_encoding_version",
            Fault::UnexpectedBody => "unexpected_body",
            Fault::ConnectionInvalid => "connection_invalid",
            Fault::ConnectionTooLong => "connection_too_long",
            Fault::ConnectionNominates => "connection_nominates",
            Fault::UpgradeTwice => "upgrade_twice",
            Fault::UpgradeInvalid => "upgrade_invalid",
            Fault::Expect => "expect",
            Fault::ConnectionHeader => "connection_header",
            Fault::Te => "te",
            Fault::Path => "path",
            Fault::ChunkSize => "chunk_size",
            Fault::ChunkExtension => "chunk_extension",
            Fault::ChunkEnd => "chunk_end",
            Fault::ChunkOverhead => "chunk_overhead",
            Fault::Trailer => "trailer",
            Fault::ForbiddenTrailer => "forbidden_trailer",
            Fault::TrailersTooLarge => "trailers_too_large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_stand_in_the_order_of_their_numbers_and_have_words_of_their_own() {
        let mut words = std::collections::BTreeSet::new();
        for (i, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, i);
            assert!(words.insert(fault.word()), "{fault:?}");
            assert!(matches!(fault.status(), 400 | 405 | 414 | 417 | 431 | 505));
        }
    }
}
