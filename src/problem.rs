//! The problems that the gateway itself answers with (RFC 9457), in one table.
//!
//! A problem has a status, a stable last part of its `type`, and a sentence for the client. It never contains an
//! upstream's address; the access log says what happened inside.

/// Why the gateway itself answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request breaks HTTP.
    BadRequest,
    /// The caller did not prove its identity.
    Unauthorized,
    /// The app waits for the platform's approval.
    AppPending,
    /// The app was suspended.
    AppSuspended,
    /// `allow` and `deny` refuse this client.
    Forbidden,
    /// No route matches.
    NoRoute,
    /// The route leads to the ledger, but the path to no callback.
    NotACallback,
    /// The method is never proxied.
    MethodNotAllowed,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body arrived too slowly.
    BodyTooSlow,
    /// The body is longer than `body_max`.
    BodyTooLarge,
    /// The body is longer than a signed one may be.
    SignedBodyTooLarge,
    /// The target is longer than `uri_max`.
    UriTooLong,
    /// The request expects more than `100 Continue`.
    ExpectationFailed,
    /// The certificate for the TLS name does not cover the requested host.
    Misdirected,
    /// The head is larger than `head_max`, or has more headers than `headers_max`.
    HeadTooLarge,
    /// The address has its maximum of connections. Closed without an answer.
    TooManyConnections,
    /// The client opens no window for the answers to its requests. The stream is reset without an answer.
    WindowShut,
    /// All listeners together have their maximum of connections. Closed without an answer.
    Full,
    /// The PROXY header is missing or its sender is not trusted. Closed without an answer.
    UntrustedProxy,
    /// A rate is used up.
    LimitedRate,
    /// Too many requests are in flight.
    LimitedConcurrency,
    /// An internal error, which should not happen.
    Internal,
    /// The protocol's version is not supported.
    VersionNotSupported,
    /// The upstream has no room under its adaptive limit, or the process has no memory for the request.
    Overloaded,
    /// There was no connection to a server, or it broke.
    BadGateway,
    /// The upstream has no server that takes requests.
    NoServer,
    /// Every server has `max_requests_per_server` requests in flight.
    Saturated,
    /// A server did not answer in time.
    GatewayTimeout,
    /// The ledger was not reached, broke off, or did not answer in time.
    LedgerUnavailable,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 30] = [
        Reason::BadRequest,
        Reason::Unauthorized,
        Reason::AppPending,
        Reason::AppSuspended,
        Reason::Forbidden,
        Reason::NoRoute,
        Reason::NotACallback,
        Reason::MethodNotAllowed,
        Reason::HeadTimeout,
        Reason::BodyTooSlow,
        Reason::BodyTooLarge,
        Reason::SignedBodyTooLarge,
        Reason::UriTooLong,
        Reason::ExpectationFailed,
        Reason::Misdirected,
        Reason::HeadTooLarge,
        Reason::TooManyConnections,
        Reason::WindowShut,
        Reason::Full,
        Reason::UntrustedProxy,
        Reason::LimitedRate,
        Reason::LimitedConcurrency,
        Reason::Internal,
        Reason::VersionNotSupported,
        Reason::Overloaded,
        Reason::BadGateway,
        Reason::NoServer,
        Reason::Saturated,
        Reason::GatewayTimeout,
        Reason::LedgerUnavailable,
    ];

    /// Label in metrics, `error` in the access log, and last part of the problem's `type`.
    pub fn label(self) -> &'static str {
        self.row().1
    }

    /// Status of the answer.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// What a client can do about it.
    pub fn detail(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Reason::BadRequest => (400, "bad_request", "The request is not valid HTTP."),
            Reason::Unauthorized => (401, "unauthorized", "The caller is not authenticated."),
            Reason::AppPending => (403, "app_pending", "This application is not approved yet."),
            Reason::AppSuspended => (403, "app_suspended", "This application was suspended."),
            Reason::Forbidden => (403, "forbidden", "This client address may not use this route."),
            Reason::NoRoute => (404, "no_route", "No route matches this request."),
            Reason::NotACallback => (404, "no_callback", "Not a payment callback path."),
            Reason::MethodNotAllowed => (405, "method_not_allowed", "This method is not proxied."),
            Reason::HeadTimeout => (408, "head_timeout", "The head of the request did not come in time."),
            Reason::BodyTooSlow => (408, "body_too_slow", "The body of the request came too slowly."),
            Reason::BodyTooLarge => (413, "body_too_large", "The request body is longer than this route takes."),
            Reason::SignedBodyTooLarge => {
                (413, "signed_body_too_large", "A signed request has at most 64 KiB of body.")
            }
            Reason::UriTooLong => (414, "uri_too_long", "The request target is longer than this gateway takes."),
            Reason::Misdirected => (421, "misdirected", "Ask again on a new connection, made for this host."),
            Reason::ExpectationFailed => {
                (417, "expectation_failed", "Only the expectation `100-continue` is supported.")
            }
            Reason::HeadTooLarge => {
                (431, "head_too_large", "The head of the request is larger than this gateway takes.")
            }
            Reason::TooManyConnections => (429, "too_many_connections", "This address has too many connections."),
            Reason::WindowShut => (429, "window_shut", "No answer can be sent before the client opens its windows."),
            Reason::Full => (503, "max_connections", "This gateway has too many connections."),
            Reason::UntrustedProxy => (400, "untrusted_proxy", "The PROXY header is missing or not trusted."),
            Reason::LimitedRate => (429, "rate_limited", "Too many requests. Try again later."),
            Reason::LimitedConcurrency => (429, "concurrency_limited", "Too many requests at once. Try again soon."),
            Reason::VersionNotSupported => (505, "version_not_supported", "Unsupported HTTP version."),
            Reason::Overloaded => (503, "overloaded", "The servers behind the gateway are busy. Try again soon."),
            Reason::Internal => (500, "internal", "The gateway failed."),
            Reason::BadGateway => {
                (502, "bad_gateway", "The server behind the gateway could not be reached or broke off.")
            }
            Reason::NoServer => (503, "no_server", "No server behind the gateway takes requests now."),
            Reason::Saturated => (503, "saturated", "Every server behind the gateway is busy. Try again soon."),
            Reason::GatewayTimeout => (504, "gateway_timeout", "The server behind the gateway did not answer in time."),
            Reason::LedgerUnavailable => {
                (503, "ledger_unavailable", "The callback could not be recorded. Send it again soon.")
            }
        }
    }

    /// Whether a retry in a second may succeed.
    pub fn passes(self) -> bool {
        matches!(self, Reason::NoServer | Reason::Saturated | Reason::Overloaded | Reason::LedgerUnavailable)
    }

    /// Whether a limit refused the request.
    pub fn is_limit(self) -> bool {
        matches!(self, Reason::LimitedRate | Reason::LimitedConcurrency)
    }
}
