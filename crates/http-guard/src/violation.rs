//! Violations: the rules that a refused request can break, each with the status of the answer and a word for the access
//! log. Metrics count by the reason of the answer, of which there are fewer.
//!
//! A word is stable and names the rule, so that an operator who sees a refusal can look it up. Where a head breaks
//! several rules, the first one that validation comes to is reported.

base::refusals! {
    /// The rule that a request broke.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Violation {
        /// A line that ends in LF alone.
        BareLf = (400, "bare_lf"),
        /// A CR that no LF follows.
        BareCr = (400, "bare_cr"),
        /// NUL or another control character.
        ControlByte = (400, "control_byte"),
        /// More than one empty line before the request line.
        EmptyLines = (400, "empty_lines"),
        /// The request line is not three parts with one space between them.
        RequestLine = (400, "request_line"),
        /// The method is not a token, or is longer than 32 bytes.
        Method = (400, "method"),
        /// `CONNECT`: the gateway is not a forward proxy.
        Connect = (405, "connect"),
        /// The version is neither `HTTP/1.0` nor `HTTP/1.1`.
        Version = (505, "version"),
        /// A byte that no target may have: a space, a quote, a fragment, or one beyond ASCII.
        TargetByte = (400, "target_byte"),
        /// The target is neither a path nor `http://` or `https://` with a valid authority, nor `*` of `OPTIONS`.
        TargetForm = (400, "target_form"),
        /// The target is longer than `uri_max`.
        TargetTooLong = (414, "target_too_long"),
        /// The head is longer than `head_max`.
        HeadTooLarge = (431, "head_too_large"),
        /// There are more headers than `headers_max`.
        TooManyHeaders = (431, "too_many_headers"),
        /// A header that continues in a line that begins with a blank.
        ObsFold = (400, "obs_fold"),
        /// A header without a colon.
        ColonMissing = (400, "colon_missing"),
        /// A header's name that is empty or not a token, such as with a blank before the colon.
        HeaderName = (400, "header_name"),
        /// A name that some servers take for one that frames or forwards (`Content_Length`, `X_Forwarded_For`), or
        /// another spelling of a name that the route sets, removes or takes its API key from.
        LookalikeName = (400, "lookalike_name"),
        /// No `Host`, in HTTP/1.0 too.
        HostMissing = (400, "host_missing"),
        /// Several `Host`s.
        HostTwice = (400, "host_twice"),
        /// `Host` is not a valid authority.
        HostInvalid = (400, "host_invalid"),
        /// `Host` differs from the target, or from `:authority`.
        HostMismatch = (400, "host_mismatch"),
        /// Several `Content-Length`s.
        ContentLengthTwice = (400, "content_length_twice"),
        /// `Content-Length` is not one to eighteen digits.
        ContentLengthInvalid = (400, "content_length_invalid"),
        /// Both `Content-Length` and `Transfer-Encoding`.
        TwoFramings = (400, "content_length_and_transfer_encoding"),
        /// Several `Transfer-Encoding`s.
        TransferEncodingTwice = (400, "transfer_encoding_twice"),
        /// `Transfer-Encoding` is not `chunked`.
        TransferEncodingInvalid = (400, "transfer_encoding_invalid"),
        /// `Transfer-Encoding` in HTTP/1.0.
        TransferEncodingVersion = (400, "transfer_encoding_version"),
        /// A body where it has no meaning: `GET`, `HEAD`, `TRACE`.
        UnexpectedBody = (400, "unexpected_body"),
        /// `Connection` is not a list of tokens.
        ConnectionInvalid = (400, "connection_invalid"),
        /// `Connection` lists more than nine options.
        ConnectionTooLong = (400, "connection_too_long"),
        /// `Connection` names more than `close`, `keep-alive`, `te`, `trailer`, `upgrade`, `http2-settings` and
        /// `proxy-connection`.
        ConnectionNominates = (400, "connection_nominates"),
        /// Several `Upgrade`s.
        UpgradeTwice = (400, "upgrade_twice"),
        /// `Upgrade: websocket` with a body, with another method than `GET`, or without `upgrade` in `Connection`.
        UpgradeInvalid = (400, "upgrade_invalid"),
        /// `Expect` is not `100-continue`, or there are several.
        Expect = (417, "expect"),
        /// HTTP/2: a connection header of HTTP/1.1.
        ConnectionHeader = (400, "connection_header"),
        /// HTTP/2: `TE` is not `trailers`.
        Te = (400, "te"),
        /// `%2F`, `%5C` or `;` make a dot segment to some servers, or `%00` an end. HTTP/2: the path is neither
        /// absolute nor `*` of `OPTIONS`.
        Path = (400, "path"),
        /// A chunk's size is not one to fifteen hexadecimal digits and CRLF.
        ChunkSize = (400, "chunk_size"),
        /// A chunk's extension is malformed, or longer than 256 bytes. A well-formed one is accepted and not
        /// forwarded.
        ChunkExtension = (400, "chunk_extension"),
        /// A chunk does not end in CRLF where its size says.
        ChunkEnd = (400, "chunk_end"),
        /// The lines between chunks outweigh the chunks.
        ChunkOverhead = (400, "chunk_overhead"),
        /// A line of the trailers is malformed.
        Trailer = (400, "trailer"),
        /// A trailer that frames, routes or authenticates.
        ForbiddenTrailer = (400, "forbidden_trailer"),
        /// The trailers are too many or too long.
        TrailersTooLarge = (431, "trailers_too_large"),
    }
}

impl Violation {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// The word in the access log.
    pub fn word(self) -> &'static str {
        self.row().word
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
