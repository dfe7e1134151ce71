//! The problems that the gateway itself answers with (RFC 9457), in one table.
//!
//! A problem has a status, a stable last part of its `type`, and a sentence for the client. It never contains an
//! upstream's address; the access log says what happened inside.

base::refusals! {
    /// Why the gateway itself answered.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Reason {
        /// The request breaks HTTP, or two servers could read it in two ways.
        BadRequest = (400, "bad_request", "The request is not valid HTTP."),
        /// The caller did not prove its identity; `detail` says what is missing.
        Unauthorized = (401, "unauthorized", "The caller is not authenticated."),
        /// The app waits for the platform's approval.
        AppPending = (403, "app_pending", "This application is not approved yet."),
        /// The app was suspended.
        AppSuspended = (403, "app_suspended", "This application was suspended."),
        /// `allow` and `deny` keep this client out.
        Forbidden = (403, "forbidden", "This client address may not use this route."),
        /// No route matches.
        NoRoute = (404, "no_route", "No route matches this request."),
        /// The route leads to the ledger, but the path to no payment callback.
        NotACallback = (404, "no_callback", "Not a payment callback path."),
        /// The method is `CONNECT`.
        MethodNotAllowed = (405, "method_not_allowed", "This method is not proxied."),
        /// The head did not come within `header_timeout`.
        HeadTimeout = (408, "head_timeout", "The head of the request did not come in time."),
        /// The body came slower than `body_min_rate`.
        BodyTooSlow = (408, "body_too_slow", "The body of the request came too slowly."),
        /// The body is longer than `body_max`.
        BodyTooLarge = (413, "body_too_large", "The request body is longer than this route takes."),
        /// A signed request has more than 64 KiB of body.
        SignedBodyTooLarge = (413, "signed_body_too_large", "A signed request has at most 64 KiB of body."),
        /// The target is longer than `uri_max`.
        UriTooLong = (414, "uri_too_long", "The request target is longer than this gateway takes."),
        /// The request expects more than `100-continue`.
        ExpectationFailed = (417, "expectation_failed", "Only the expectation `100-continue` is supported."),
        /// The certificate shown does not cover this host, or the gateway would no longer accept the client's own
        /// certificate.
        Misdirected = (421, "misdirected", "Ask again on a new connection, made for this host."),
        /// The head is larger than `head_max`, or has more headers than `headers_max`.
        HeadTooLarge = (431, "head_too_large", "The head of the request is larger than this gateway takes."),
        /// The address has `max_connections_per_ip`: the gateway closes the connection without reading it and only
        /// counts it.
        TooManyConnections = (429, "too_many_connections", "This address has too many connections."),
        /// An HTTP/2 client that never opens a window asks for more: the gateway resets the stream and only counts
        /// it.
        WindowShut = (429, "window_shut", "No answer can be sent before the client opens its windows."),
        /// The gateway has `[server] max_connections`, or `memory_max` leaves no room: it closes the connection
        /// without reading it and only counts it.
        Full = (503, "max_connections", "This gateway has too many connections."),
        /// `proxy_protocol`: the header is missing, or its sender is not trusted. The gateway closes the connection
        /// and only counts it.
        UntrustedProxy = (400, "untrusted_proxy", "The PROXY header is missing or not trusted."),
        /// A limit's rate is used up.
        LimitedRate = (429, "rate_limited", "The limit `NAME` is used up. Try again in N s."),
        /// A limit has too many requests in flight.
        LimitedConcurrency = (
            429,
            "concurrency_limited",
            "The limit `NAME` has as many requests in flight as it may. Try again in N s."
        ),
        /// The gateway failed, which should not happen.
        Internal = (500, "internal", "The gateway failed."),
        /// The version is neither HTTP/1.0, 1.1 nor 2.
        VersionNotSupported = (505, "version_not_supported", "Unsupported HTTP version."),
        /// `adaptive` leaves no room, the process has no memory for the request, or there are more signed requests
        /// than the gateway can remember.
        Overloaded = (503, "overloaded", "The servers behind the gateway are busy. Try again soon."),
        /// There was no connection to a server, or it broke.
        BadGateway = (502, "bad_gateway", "The server behind the gateway could not be reached or broke off."),
        /// The upstream has no server that takes requests.
        NoServer = (503, "no_server", "No server behind the gateway takes requests now."),
        /// Every server has `max_requests_per_server` requests in flight.
        Saturated = (503, "saturated", "Every server behind the gateway is busy. Try again soon."),
        /// A server did not answer in time.
        GatewayTimeout = (504, "gateway_timeout", "The server behind the gateway did not answer in time."),
        /// The ledger was not reached, broke off, or did not answer in time.
        LedgerUnavailable = (503, "ledger_unavailable", "The callback could not be recorded. Send it again soon."),
    }
}

impl Reason {
    /// Label in metrics, `error` in the access log, and last part of the problem's `type`.
    pub fn label(self) -> &'static str {
        self.row().word
    }

    /// Status of the answer.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// What a client can do about it.
    pub fn detail(self) -> &'static str {
        self.row().detail
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
